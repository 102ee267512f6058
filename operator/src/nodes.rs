//! What happens on the nodes: the caches' pods, and what each says at `/conditions`.
//!
//! ```no_run
//! # async fn example(client: kube::Client, mirror: larder_crds::RegistryMirror) -> Result<(), prometheus::Error> {
//! # use std::sync::Arc;
//! # use operator::{metrics::Metrics, nodes::Nodes};
//! # use tokio_util::sync::CancellationToken;
//! let (nodes, changes) = Nodes::new("larder-system", Arc::new(Metrics::new()?));
//! // Once this process leads:
//! tokio::spawn(nodes.clone().run(client, CancellationToken::new()));
//! // `changes` triggers reconciles (`Controller::reconcile_on`), each of which looks:
//! let survey = nodes.of(&mirror);
//! # Ok(())
//! # }
//! ```

mod board;
mod client;
mod pods;
mod state;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, TryStreamExt as _, future, pin_mut, stream};
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::ObjectRef;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt as _};
use larder_crds::RegistryMirror;
use larder_crds::names::MIRROR_LABEL;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{self, Instant};
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, PollOutcome};
use board::Board;
use client::ConditionsClient;
use pods::PodFacts;

pub use state::{Answer, Finding, NodeState, Report, Survey, Trouble};

/// For how long changes are gathered before they are told.
const GATHER: Duration = Duration::from_secs(1);
/// How many pods are listed at once: a page is held in memory in full before it is stripped.
const PODS_PER_PAGE: u32 = 200;

/// A handle to what is known of all mirrors' nodes. Clones share it.
#[derive(Clone)]
pub struct Nodes(Arc<Shared>);

struct Shared {
    namespace: String,
    metrics: Arc<Metrics>,
    board: Mutex<Board>,
    /// The pods have changed, so that somebody else may be due.
    pods_changed: Notify,
    /// Something has changed that mirrors' statuses may tell.
    changed: Notify,
}

impl Nodes {
    /// Knows nothing until [`Self::run`] runs. The stream names a mirror whenever what [`Self::of`] says of it has
    /// changed, at most once a second.
    pub fn new(
        namespace: &str,
        metrics: Arc<Metrics>,
    ) -> (
        Self,
        impl Stream<Item = ObjectRef<RegistryMirror>> + Send + 'static,
    ) {
        let this = Self(Arc::new(Shared {
            namespace: namespace.to_owned(),
            metrics,
            board: Mutex::default(),
            pods_changed: Notify::new(),
            changed: Notify::new(),
        }));
        let changes = this.clone().changes();
        (this, changes)
    }

    /// What is known of the nodes of this mirror. Pods that are on their way out do not count, and whoever answers for
    /// another UID is not this mirror's cache.
    pub fn of(&self, mirror: &RegistryMirror) -> Survey {
        let uid = mirror.metadata.uid.as_deref().unwrap_or_default();
        self.board().survey(&mirror.name_any(), uid)
    }

    /// Watches pods and asks them, until `stop` is cancelled. To be run once, by the leader only.
    pub async fn run(self, client: Client, stop: CancellationToken) {
        let api = Api::namespaced(client, &self.0.namespace);
        let asker = ConditionsClient::new();
        let ask = |address| {
            let asker = asker.clone();
            async move { asker.ask(address).await }
        };
        let watching = future::join(self.watch(api), self.ask_all(ask));
        stop.run_until_cancelled(watching).await;
    }

    async fn watch(&self, api: Api<Pod>) {
        let config = watcher::Config::default()
            .labels(MIRROR_LABEL)
            .page_size(PODS_PER_PAGE);
        let events = watcher(api, config).default_backoff();
        pin_mut!(events);
        loop {
            match events.try_next().await {
                Ok(Some(event)) => self.pod_event(&event, Instant::now()),
                Ok(None) => return,
                Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "cannot watch pods"),
            }
        }
    }

    fn pod_event(&self, event: &watcher::Event<Pod>, now: Instant) {
        {
            let mut board = self.board();
            match event {
                watcher::Event::Init => board.list(),
                watcher::Event::InitDone => board.listed(),
                watcher::Event::Apply(pod) | watcher::Event::InitApply(pod) => {
                    if let Some(facts) = PodFacts::of(pod) {
                        board.apply(facts, now);
                    }
                }
                watcher::Event::Delete(pod) => board.remove(&pod.name_any()),
            }
        }
        self.0.pods_changed.notify_one();
        self.0.changed.notify_one();
    }

    /// Asks every pod when it is due.
    async fn ask_all<F, E>(&self, ask: impl Fn(SocketAddr) -> F)
    where
        F: Future<Output = Result<Report, E>> + Send + 'static,
        E: std::error::Error + Send + 'static,
    {
        let mut asking = JoinSet::new();
        loop {
            while let Some((pod, address)) = self.next() {
                let answer = ask(address);
                asking.spawn(async move { (pod, address, answer.await) });
            }
            let wake = self.board().wake();
            let due = async {
                match wake {
                    Some(at) => time::sleep_until(at).await,
                    None => future::pending().await,
                }
            };
            tokio::select! {
                () = due => self.0.changed.notify_one(),
                () = self.0.pods_changed.notified() => {}
                Some(Ok((pod, address, answer))) = asking.join_next() => self.answered(&pod, address, answer),
            }
        }
    }

    fn next(&self) -> Option<(String, SocketAddr)> {
        self.board().next(Instant::now())
    }

    fn answered<E: std::error::Error + 'static>(
        &self,
        pod: &str,
        address: SocketAddr,
        answer: Result<Report, E>,
    ) {
        let outcome = match &answer {
            Ok(_) => PollOutcome::Answered,
            Err(error) => {
                let error = error as &dyn std::error::Error;
                tracing::debug!(pod, %address, error, "a node does not report");
                PollOutcome::Unanswered
            }
        };
        self.0.metrics.poll(outcome);
        self.board().answered(pod, address, answer.ok(), Instant::now());
        self.0.changed.notify_one();
    }

    fn changes(self) -> impl Stream<Item = ObjectRef<RegistryMirror>> + Send + 'static {
        let gathered = stream::unfold(self, async |this| {
            this.0.changed.notified().await;
            time::sleep(GATHER).await;
            let changed = this.board().take_changed();
            Some((stream::iter(changed), this))
        });
        gathered.flatten().map(|name| ObjectRef::new(&name))
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        self.0.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
