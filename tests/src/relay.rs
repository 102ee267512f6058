//! A slow or broken link between two hosts: a TCP relay in user space, because not every kernel has `netem`.
//!
//! ```
//! use larder_tests::prelude::*;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let up = FakeRegistry::builder().start().await;
//! let link = Relay::start("127.0.0.2:0".parse().unwrap(), up.host().parse().unwrap()).await;
//! link.set_delay(std::time::Duration::from_millis(5));
//! assert_eq!(Call::get(&format!("http://{}/v2/", link.address())).send().await.status, 200);
//! link.cut().await;
//! assert!(Call::get(&format!("http://{}/v2/", link.address())).try_send().await.is_err());
//! link.restore().await;
//! # }
//! ```

mod pump;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// A running relay. Dropping it closes its listener and all its connections.
pub struct Relay {
    link: Arc<Link>,
    address: SocketAddr,
    accepting: Mutex<Option<JoinHandle<()>>>,
}

/// What every connection of one relay shares.
struct Link {
    to: SocketAddr,
    /// One way.
    delay: Mutex<Duration>,
    swallows: watch::Sender<bool>,
    connections: AtomicU64,
    bytes_there: AtomicU64,
    bytes_back: AtomicU64,
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(task) = self.accepting.lock().unwrap().take() {
            task.abort();
        }
    }
}

impl Relay {
    /// Listens at `listen` (port 0: a free one) and connects every client on to `to`, without delay at first.
    pub async fn start(listen: SocketAddr, to: SocketAddr) -> Self {
        let listener = bind(listen).await;
        let address = listener.local_addr().expect("a bound listener has an address");
        let link = Arc::new(Link {
            to,
            delay: Mutex::default(),
            swallows: watch::Sender::new(false),
            connections: AtomicU64::new(0),
            bytes_there: AtomicU64::new(0),
            bytes_back: AtomicU64::new(0),
        });
        let accepting = Mutex::new(Some(tokio::spawn(link.clone().accept(listener))));
        Self {
            link,
            address,
            accepting,
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on what comes from either side arrives at the other this much later. Connecting itself takes no
    /// longer. What is on its way keeps its order and the delay it has.
    pub fn set_delay(&self, one_way: Duration) {
        *self.link.delay.lock().unwrap() = one_way;
    }

    /// Ends every connection and refuses new ones, as a host does whose service is down.
    pub async fn cut(&self) {
        let accepting = self.accepting.lock().unwrap().take();
        if let Some(task) = accepting {
            task.abort();
            // The port is free when the task is gone.
            let _ = task.await;
        }
    }

    /// Swallows whatever comes on old and new connections, and answers nothing, as a broken network does. A
    /// connection that was open then stays silent for ever.
    pub fn black_hole(&self) {
        self.link.swallows.send_replace(true);
    }

    /// Ends [`cut`](Self::cut) and [`black_hole`](Self::black_hole) for new connections.
    pub async fn restore(&self) {
        self.link.swallows.send_replace(false);
        if self.accepting.lock().unwrap().is_none() {
            let accepting = tokio::spawn(self.link.clone().accept(bind(self.address).await));
            *self.accepting.lock().unwrap() = Some(accepting);
        }
    }

    /// How many connections were accepted, those of a black hole included.
    pub fn connections(&self) -> u64 {
        self.link.connections.load(Ordering::Relaxed)
    }

    /// Bytes delivered from clients to the host behind.
    pub fn bytes_there(&self) -> u64 {
        self.link.bytes_there.load(Ordering::Relaxed)
    }

    /// Bytes delivered from the host behind to clients.
    pub fn bytes_back(&self) -> u64 {
        self.link.bytes_back.load(Ordering::Relaxed)
    }
}

async fn bind(address: SocketAddr) -> TcpListener {
    let bound = TcpListener::bind(address).await;
    bound.unwrap_or_else(|error| panic!("listen on {address}: {error}"))
}

impl Link {
    async fn accept(self: Arc<Self>, listener: TcpListener) {
        // Owned here, so that aborting this task also drops every connection.
        let mut connections = JoinSet::new();
        while let Ok((client, _)) = listener.accept().await {
            self.connections.fetch_add(1, Ordering::Relaxed);
            connections.spawn(self.clone().serve(client));
            while connections.try_join_next().is_some() {}
        }
    }

    async fn serve(self: Arc<Self>, mut client: TcpStream) {
        if *self.swallows.borrow() {
            return pump::swallow(&mut client).await;
        }
        let Ok(mut host) = TcpStream::connect(self.to).await else {
            return;
        };
        // A delay is ours to add, not Nagle's.
        let _ = (client.set_nodelay(true), host.set_nodelay(true));
        tokio::select! {
            biased;
            () = self.swallowing() => {}
            () = self.relay(&mut client, &mut host) => return,
        }
        // Neither side learns that the other has left.
        tokio::join!(pump::swallow(&mut client), pump::swallow(&mut host));
    }

    /// Returns as soon as this is a black hole.
    async fn swallowing(&self) {
        // The sender is ours, so that this cannot fail.
        let _ = self.swallows.subscribe().wait_for(|swallows| *swallows).await;
    }

    /// Relays until both sides have ended, or one of them broke.
    async fn relay(&self, client: &mut TcpStream, host: &mut TcpStream) {
        let (from_client, to_client) = client.split();
        let (from_host, to_host) = host.split();
        let there = pump::run(from_client, to_host, &self.delay, &self.bytes_there);
        let back = pump::run(from_host, to_client, &self.delay, &self.bytes_back);
        // An error is a side that broke: both ends are closed by the caller.
        let _ = tokio::try_join!(there, back);
    }
}

#[cfg(test)]
mod tests;
