//! What the registry clients notice, brought to the metrics and to the board of conditions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use larder_crds::report::Reason;
use tokio::time::Instant;

use crate::conditions::Conditions;
use crate::metrics::Metrics;
use crate::upstream::{Observer, RequestKind};

/// How long a probe that succeeds is not believed against a pull that failed: the probe asks neither token service nor
/// content hosts.
const PULL_FAILURE_HOLDS: Duration = Duration::from_secs(120);

/// Turns what happens upstream into counts and reasons.
pub(super) struct Observations {
    metrics: Arc<Metrics>,
    conditions: Arc<Conditions>,
    /// When a pull last failed to reach a registry. The configuration bounds their number.
    pull_failures: Mutex<HashMap<String, Instant>>,
}

impl Observations {
    pub(super) fn new(metrics: Arc<Metrics>, conditions: Arc<Conditions>) -> Self {
        Self {
            metrics,
            conditions,
            pull_failures: Mutex::default(),
        }
    }

    fn reached(&self, registry: &str, kind: RequestKind) {
        let mut failures = self.pull_failures.lock().unwrap_or_else(PoisonError::into_inner);
        let holds = |since: &Instant| kind == RequestKind::Probe && since.elapsed() < PULL_FAILURE_HOLDS;
        if failures.get(registry).is_some_and(holds) {
            return;
        }
        failures.remove(registry);
        self.conditions.clear(Reason::UpstreamUnreachable, registry, "");
        // What is limited is pulls, so only a pull shows that they are not.
        if kind != RequestKind::Probe {
            self.conditions.clear(Reason::RateLimited, registry, "");
        }
    }

    fn not_reached(&self, registry: &str, kind: RequestKind) {
        if kind != RequestKind::Probe {
            let mut failures = self.pull_failures.lock().unwrap_or_else(PoisonError::into_inner);
            failures.insert(registry.to_owned(), Instant::now());
        }
        self.conditions.raise(Reason::UpstreamUnreachable, registry, "");
    }
}

impl Observer for Observations {
    fn request(&self, registry: &str, kind: RequestKind, outcome: &'static str) {
        self.metrics.upstream_request(registry, kind.as_str(), outcome);
        match outcome {
            "ok" | "not_found" => self.reached(registry, kind),
            "rate_limited" if kind != RequestKind::Probe => {
                self.conditions.raise(Reason::RateLimited, registry, "");
            }
            "connect" | "dns" | "tls" | "timeout" => self.not_reached(registry, kind),
            _ => {}
        }
    }

    fn credential_refused(&self, registry: &str, secret_name: &str) {
        self.conditions
            .raise(Reason::CredentialsRefused, registry, secret_name);
    }

    fn credential_accepted(&self, registry: &str, secret_name: &str) {
        self.conditions
            .clear(Reason::CredentialsRefused, registry, secret_name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_probe_does_not_hide_what_pulls_meet() {
        let conditions = Arc::new(Conditions::new());
        let seen = Observations::new(Arc::new(Metrics::new().unwrap()), Arc::clone(&conditions));
        let is_unreachable = || conditions.stands(&[Reason::UpstreamUnreachable], "up.test");
        seen.request("up.test", RequestKind::Probe, "connect");
        assert!(is_unreachable());
        seen.request("up.test", RequestKind::Probe, "ok");
        assert!(!is_unreachable());
        seen.request("up.test", RequestKind::Blob, "timeout");
        seen.request("up.test", RequestKind::Probe, "ok");
        assert!(is_unreachable(), "content hosts are others");
        tokio::time::advance(PULL_FAILURE_HOLDS).await;
        seen.request("up.test", RequestKind::Probe, "ok");
        assert!(!is_unreachable(), "nothing has failed for a while");
        seen.request("up.test", RequestKind::Blob, "timeout");
        seen.request("up.test", RequestKind::Manifest, "ok");
        assert!(!is_unreachable());
        seen.request("up.test", RequestKind::Manifest, "rate_limited");
        seen.request("up.test", RequestKind::Probe, "ok");
        assert!(conditions.stands(&[Reason::RateLimited], "up.test"));
    }
}
