//! What goes on beside serving: configuration, credentials and the disk are looked at again and again.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use larder_crds::report::Reason;
use tokio::sync::watch;

use super::judge::Judge;
use super::probe::Probes;
use super::upkeep::{self, Upkeep};
use crate::conditions::Conditions;
use crate::config::{self, Config, Reload};
use crate::credentials::CredentialStore;
use crate::fill::Engine;
use crate::metrics::Metrics;
use crate::pull::Cache;
use crate::store::Store;

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
        let upkeep = Upkeep {
            cache: self.cache.clone(),
            store: Arc::clone(&self.store),
            metrics: Arc::clone(&self.metrics),
            conditions: Arc::clone(&self.conditions),
            period: self.poll.min(upkeep::PERIOD),
        };
        tokio::join!(
            self.watch_config(sender),
            self.apply(changes),
            self.credentials.watch(self.poll),
            upkeep.run(),
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
}
