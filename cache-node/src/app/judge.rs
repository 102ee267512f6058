//! Says which Secrets and certificate authorities are missing, and forgets a refusal when the Secret has changed since.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use larder_crds::report::Reason;
use tokio::time::MissedTickBehavior;

use crate::conditions::Conditions;
use crate::config::{Config, Registry};
use crate::credentials::CredentialStore;
use crate::pull::Cache;
use crate::upstream;

/// What is judged, and by what.
pub(super) struct Judge {
    pub(super) cache: Cache,
    pub(super) credentials: Arc<CredentialStore>,
    pub(super) conditions: Arc<Conditions>,
    /// How often it is looked.
    pub(super) poll: Duration,
}

impl Judge {
    /// Never returns.
    pub(super) async fn run(&self) {
        let mut ticks = tokio::time::interval(self.poll);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut generations = HashMap::new();
        loop {
            ticks.tick().await;
            let config = self.cache.targets().config();
            self.conditions
                .retain(|registry, object| is_configured(&config, registry, object));
            if let Some(bundle) = self.credentials.ca_file().await {
                self.authorities(bundle, "", "");
            }
            for registry in &config.registries {
                self.secrets(registry, &mut generations).await;
                if let Some(name) = &registry.endpoint.tls.ca_bundle {
                    let bundle = self.credentials.ca_bundle(name).await;
                    self.authorities(bundle, &registry.host, name);
                }
            }
        }
    }

    async fn secrets(&self, registry: &Registry, generations: &mut HashMap<(String, String), u64>) {
        for rule in &registry.endpoint.credentials {
            let (host, secret) = (&registry.host, &rule.secret_name);
            let read = self.credentials.get(secret, &registry.endpoint.host()).await;
            let is_missing = !matches!(read, Ok(Some(_)));
            self.conditions
                .set(is_missing, Reason::CredentialsMissing, host, secret);
            let generation = self.credentials.generation(secret);
            if generations.insert((host.clone(), secret.clone()), generation) == Some(generation) {
                continue;
            }
            self.conditions.clear(Reason::CredentialsRefused, host, secret);
            match read {
                Ok(Some(_)) => {}
                Ok(None) => tracing::warn!(
                    registry = host,
                    secret,
                    "the Secret has no credential for this registry; going on without it"
                ),
                Err(error) => tracing::warn!(
                    registry = host,
                    secret,
                    error = &error as &dyn std::error::Error,
                    "going on without this credential"
                ),
            }
        }
    }

    fn authorities<E>(&self, bundle: Result<Option<Vec<u8>>, E>, registry: &str, name: &str) {
        let pem = bundle.ok().flatten().unwrap_or_default();
        let is_missing = upstream::authorities(&pem).is_empty();
        self.conditions
            .set(is_missing, Reason::CaBundleMissing, registry, name);
    }
}

fn is_configured(config: &Config, registry: &str, object: &str) -> bool {
    config.registry(registry).is_some_and(|registry| {
        let endpoint = &registry.endpoint;
        let is_secret = |name: &str| endpoint.credentials.iter().any(|rule| rule.secret_name == name);
        object.is_empty() || is_secret(object) || endpoint.tls.ca_bundle.as_deref() == Some(object)
    })
}
