//! The record of what a host was asked and what it sent.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use super::request::{Kind, Request};

/// How an exchange ended, seen from the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The whole answer was written.
    Complete,
    /// The host cut it, as scripted.
    Cut,
    /// The client went away first.
    ClientGone,
}

/// One request and what became of it.
#[derive(Debug)]
pub struct Exchange {
    /// The request as it was on the wire.
    pub request: Request,
    state: Mutex<State>,
    body_sent: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    status: Option<u16>,
    digest: Option<String>,
    end: Option<(Instant, Outcome)>,
}

impl Exchange {
    /// The status answered; `None` while the answer is not decided.
    pub fn status(&self) -> Option<u16> {
        self.state.lock().unwrap().status
    }

    /// The digest of the content that was served, if it was content.
    pub fn digest(&self) -> Option<String> {
        self.state.lock().unwrap().digest.clone()
    }

    /// How it ended; `None` while it is going on.
    pub fn outcome(&self) -> Option<Outcome> {
        self.state.lock().unwrap().end.map(|(_, outcome)| outcome)
    }

    /// When it ended.
    pub fn ended_at(&self) -> Option<Instant> {
        self.state.lock().unwrap().end.map(|(at, _)| at)
    }

    /// Body bytes written to the socket so far.
    pub fn body_sent(&self) -> u64 {
        self.body_sent.load(Ordering::Relaxed)
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Request {
            method,
            target,
            connection,
            peer,
            ..
        } = &self.request;
        let range = self.request.header("Range").unwrap_or("-");
        let (status, sent, outcome) = (self.status().unwrap_or(0), self.body_sent(), self.outcome());
        write!(
            f,
            "#{connection} {peer} {method} {target} range={range} -> {status} sent={sent} {outcome:?}"
        )
    }
}

/// A connection, as the requests that come on it are told of it.
#[derive(Clone, Copy)]
pub(super) struct Accepted {
    /// Counted from 1 per host.
    pub(super) number: u64,
    /// The other end's address.
    pub(super) peer: IpAddr,
}

/// All exchanges of one host.
pub(super) struct Log {
    name: String,
    all: Mutex<Vec<Arc<Exchange>>>,
    connections: AtomicU64,
    changed: watch::Sender<()>,
}

impl Log {
    pub(super) fn new(name: String) -> Self {
        let changed = watch::Sender::new(());
        Self {
            name,
            all: Mutex::default(),
            connections: AtomicU64::new(0),
            changed,
        }
    }

    /// Counts a connection.
    pub(super) fn connected(&self, peer: IpAddr) -> Accepted {
        let number = self.connections.fetch_add(1, Ordering::Relaxed) + 1;
        Accepted { number, peer }
    }

    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    pub(super) fn all(&self) -> Vec<Arc<Exchange>> {
        self.all.lock().unwrap().clone()
    }

    pub(super) fn begin(&self, request: Request) -> Recorder {
        let exchange = Arc::new(Exchange {
            request,
            state: Mutex::default(),
            body_sent: AtomicU64::new(0),
        });
        self.all.lock().unwrap().push(exchange.clone());
        self.changed.send_replace(());
        Recorder {
            exchange,
            changed: self.changed.clone(),
        }
    }

    pub(super) async fn wait_for(&self, condition: impl Fn(&[Arc<Exchange>]) -> bool, timeout: Duration) {
        let mut changes = self.changed.subscribe();
        let wait = async {
            while !condition(&self.all()) {
                changes.changed().await.expect("the log keeps the sender");
            }
        };
        if tokio::time::timeout(timeout, wait).await.is_err() {
            let lines: Vec<_> = self.all().iter().map(ToString::to_string).collect();
            panic!(
                "{}: condition not met within {timeout:?}; requests:\n{}",
                self.name,
                lines.join("\n")
            );
        }
    }
}

/// Writes one exchange's record. Dropped before [`finish`](Recorder::finish), it notes that the client left.
pub(super) struct Recorder {
    exchange: Arc<Exchange>,
    changed: watch::Sender<()>,
}

impl Recorder {
    pub(super) fn head(&self, status: u16, digest: Option<String>) {
        let mut state = self.exchange.state.lock().unwrap();
        (state.status, state.digest) = (Some(status), digest);
        drop(state);
        self.changed.send_replace(());
    }

    pub(super) fn sent(&self, bytes: usize) {
        self.exchange.body_sent.fetch_add(bytes as u64, Ordering::Relaxed);
        self.changed.send_replace(());
    }

    pub(super) fn finish(&self, outcome: Outcome) {
        self.exchange
            .state
            .lock()
            .unwrap()
            .end
            .get_or_insert_with(|| (Instant::now(), outcome));
        self.changed.send_replace(());
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.finish(Outcome::ClientGone);
    }
}

/// How often each client asked for the bytes of each blob.
pub(super) fn blob_fetches(exchanges: &[Arc<Exchange>]) -> BTreeMap<(IpAddr, String), usize> {
    let mut fetches = BTreeMap::new();
    for exchange in exchanges {
        let request = &exchange.request;
        let digest = match request.kind() {
            Kind::Blob { digest, .. } => Some(digest),
            // A signed URL says in its own way what it is about.
            Kind::Other => exchange.digest(),
            _ => None,
        };
        // A 401 asks for credentials; it is no answer to the question.
        let counts = request.is_get() && exchange.status() != Some(401);
        if let Some(digest) = digest.filter(|_| counts) {
            *fetches.entry((request.peer, digest)).or_default() += 1;
        }
    }
    fetches
}

/// The largest number of these exchanges that overlapped in time.
pub(super) fn max_concurrent(exchanges: &[Arc<Exchange>]) -> usize {
    let open_at = |at: Instant| {
        let open = |e: &&Arc<Exchange>| e.request.at <= at && e.ended_at().is_none_or(|end| end > at);
        exchanges.iter().filter(open).count()
    };
    exchanges
        .iter()
        .map(|exchange| open_at(exchange.request.at))
        .max()
        .unwrap_or(0)
}
