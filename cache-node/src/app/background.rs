//! What goes on beside serving: configuration, credentials and totals are looked at again and again.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::conditions::{Conditions, Reason};
use crate::config::{self, Config, Registry, Reload};
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
        tokio::join!(
            self.watch_config(sender),
            self.apply(changes),
            self.count(),
            self.credentials.watch(self.poll),
            self.judge_credentials(),
        );
    }

    async fn watch_config(&self, publish: watch::Sender<Arc<Config>>) {
        let metrics = Arc::clone(&self.metrics);
        match self.config.clone() {
            Some(path) => {
                let report = move |reload| metrics.config_reloaded(reload == Reload::Applied);
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
            self.conditions
                .retain(|registry| config.registry(registry).is_some());
            if let Err(error) = self.cache.targets().reload(config) {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "configuration not applied"
                );
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

    /// Says which Secrets are missing, and forgets a refusal when the Secret has changed since.
    async fn judge_credentials(&self) {
        let mut ticks = tokio::time::interval(self.poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut generations = HashMap::new();
        loop {
            ticks.tick().await;
            let config = self.cache.targets().config();
            for registry in &config.registries {
                self.judge_registry(registry, &mut generations).await;
            }
        }
    }

    async fn judge_registry(&self, registry: &Registry, generations: &mut HashMap<(String, String), u64>) {
        let mut is_missing = false;
        for rule in &registry.endpoint.credentials {
            let read = self
                .credentials
                .get(&rule.secret_name, &registry.endpoint.host())
                .await;
            is_missing |= !matches!(read, Ok(Some(_)));
            let generation = self.credentials.generation(&rule.secret_name);
            let key = (registry.host.clone(), rule.secret_name.clone());
            if generations.insert(key, generation) == Some(generation) {
                continue;
            }
            self.conditions.clear(Reason::CredentialsRefused, &registry.host);
            match read {
                Ok(Some(_)) => {}
                Ok(None) => tracing::warn!(
                    registry = registry.host,
                    secret = rule.secret_name,
                    "the Secret has no credential for this registry; going on without it"
                ),
                Err(error) => tracing::warn!(
                    registry = registry.host,
                    secret = rule.secret_name,
                    error = &error as &dyn std::error::Error,
                    "going on without this credential"
                ),
            }
        }
        if is_missing {
            self.conditions.raise(Reason::CredentialsMissing, &registry.host);
        } else {
            self.conditions.clear(Reason::CredentialsMissing, &registry.host);
        }
    }
}
