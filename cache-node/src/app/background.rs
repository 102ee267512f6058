//! What goes on beside serving: configuration, credentials and totals are looked at again and again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder_crds::report::Reason;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::judge::Judge;
use super::probe::Probes;
use crate::conditions::Conditions;
use crate::config::{self, Config, Reload};
use crate::credentials::CredentialStore;
use crate::fill::Engine;
use crate::metrics::Metrics;
use crate::pull::Cache;
use crate::store::Store;

/// How often the store's totals are brought to the metrics.
const TOTALS_INTERVAL: Duration = Duration::from_secs(10);

/// Everything that is looked at.
pub(super) struct Background {
    pub(super) cache: Cache,
    pub(super) engine: Engine,
    pub(super) store: Arc<Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) credentials: Arc<CredentialStore>,
    pub(super) conditions: Arc<Conditions>,
    /// The configuration file; the embedded default does not change.
    pub(super) config: Option<PathBuf>,
    /// How often files are looked at.
    pub(super) poll: Duration,
}

impl Background {
    /// Never returns.
    pub(super) async fn run(self) {
        let (sender, changes) = watch::channel(self.cache.targets().config());
        let judge = Judge {
            cache: self.cache.clone(),
            credentials: Arc::clone(&self.credentials),
            conditions: Arc::clone(&self.conditions),
            poll: self.poll,
        };
        let probes = Probes {
            cache: self.cache.clone(),
            credentials: Arc::clone(&self.credentials),
            conditions: Arc::clone(&self.conditions),
            poll: self.poll,
        };
        tokio::join!(
            self.watch_config(sender),
            self.apply(changes),
            self.count(),
            self.credentials.watch(self.poll),
            self.watch_disk(),
            judge.run(),
            probes.run(),
        );
    }

    async fn watch_config(&self, publish: watch::Sender<Arc<Config>>) {
        let (metrics, conditions) = (Arc::clone(&self.metrics), Arc::clone(&self.conditions));
        match self.config.clone() {
            Some(path) => {
                let report = move |reload| {
                    metrics.config_reloaded(reload == Reload::Applied);
                    conditions.set(reload == Reload::Refused, Reason::ConfigInvalid, "", "");
                };
                config::watch(path, self.poll, publish, report).await;
            }
            None => std::future::pending().await,
        }
    }

    async fn apply(&self, mut changes: watch::Receiver<Arc<Config>>) {
        while changes.changed().await.is_ok() {
            let config = Arc::clone(&changes.borrow_and_update());
            self.engine
                .set_verify_whole_up_to(config.verify_whole_up_to_bytes);
            if let Err(error) = self.cache.targets().reload(config) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "configuration not applied"
                );
            }
        }
    }

    /// Says whether the disk takes content, and while it does not, finds out when it does again.
    async fn watch_disk(&self) {
        let mut ticks = tokio::time::interval(self.poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let is_full = !self.store.takes_content();
            self.conditions.set(is_full, Reason::DiskFull, "", "");
            self.metrics.set_store_full(is_full);
            if is_full {
                let store = Arc::clone(&self.store);
                let _ = tokio::task::spawn_blocking(move || store.check_disk()).await;
            }
        }
    }

    async fn count(&self) {
        let mut ticks = tokio::time::interval(TOTALS_INTERVAL);
        loop {
            ticks.tick().await;
            let totals = self.store.totals();
            let fills = self.engine.progress().len() as u64;
            self.metrics.set_store(totals.bytes, totals.blobs, fills);
        }
    }
}
