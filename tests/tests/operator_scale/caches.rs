//! One responder for the caches of all nodes: the address that it is asked at says for which.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use larder_tests::cluster::Cluster;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use super::fleet::ADDRESSES;

const METRICS_PORT: u16 = 5119;

/// The caches of all nodes.
pub(crate) struct Caches(Arc<Mutex<Said>>);

#[derive(Default)]
struct Said {
    mirror: String,
    generation: i64,
    reasons: BTreeMap<String, &'static str>,
    polls: usize,
}

impl Caches {
    pub(crate) async fn start(cluster: &Cluster) -> Self {
        cluster.own_addresses(ADDRESSES).await.unwrap();
        let listener = cluster
            .listen(SocketAddr::from((Ipv4Addr::UNSPECIFIED, METRICS_PORT)))
            .unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = TcpListener::from_std(listener).unwrap();
        let said = Arc::default();
        let this = Self(Arc::clone(&said));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, Arc::clone(&said)));
            }
        });
        this
    }

    /// They have loaded the first generation of the mirror with this UID.
    pub(crate) fn work_for(&self, uid: &str) {
        let mut said = self.0.lock().unwrap();
        uid.clone_into(&mut said.mirror);
        said.generation = 1;
    }

    pub(crate) fn load_generation(&self, generation: i64) {
        self.0.lock().unwrap().generation = generation;
    }

    /// The one at this address reports a reason from now on.
    pub(crate) fn report(&self, address: &str, reason: &'static str) {
        self.0.lock().unwrap().reasons.insert(address.to_owned(), reason);
    }

    /// Nobody reports a reason any more.
    pub(crate) fn clear(&self) {
        self.0.lock().unwrap().reasons.clear();
    }

    /// How many questions there were.
    pub(crate) fn polls(&self) -> usize {
        self.0.lock().unwrap().polls
    }
}

impl Said {
    fn report(&mut self, address: &str) -> Value {
        self.polls += 1;
        let reasons = self.reasons.get(address).into_iter();
        // Counts move all the time, and nothing may come of it.
        let conditions = reasons.map(|reason| json!({"reason": reason, "count": self.polls}));
        json!({
            "mirror": self.mirror, "generation": self.generation, "nodeConfigGeneration": self.generation,
            "conditions": conditions.collect::<Vec<_>>(),
        })
    }
}

async fn answer(mut stream: TcpStream, said: Arc<Mutex<Said>>) -> std::io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let address = stream.local_addr()?.ip().to_string();
    let body = said.lock().unwrap().report(&address).to_string();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        body.len()
    );
    stream.write_all(format!("{head}{body}").as_bytes()).await?;
    stream.shutdown().await
}
