//! What the registry clients notice, brought to the metrics and to the board of conditions.

use std::sync::Arc;

use crate::conditions::{Conditions, Reason};
use crate::metrics::Metrics;
use crate::upstream::{Observer, RequestKind};

/// Turns what happens upstream into counts and reasons.
pub(super) struct Observations {
    metrics: Arc<Metrics>,
    conditions: Arc<Conditions>,
}

impl Observations {
    pub(super) fn new(metrics: Arc<Metrics>, conditions: Arc<Conditions>) -> Self {
        Self { metrics, conditions }
    }
}

impl Observer for Observations {
    fn request(&self, registry: &str, kind: RequestKind, outcome: &'static str) {
        self.metrics.upstream_request(registry, kind.as_str(), outcome);
        match outcome {
            "ok" | "not_found" => {
                self.conditions.clear(Reason::UpstreamUnreachable, registry);
                self.conditions.clear(Reason::RateLimited, registry);
            }
            "rate_limited" => self.conditions.raise(Reason::RateLimited, registry),
            "connect" | "dns" | "tls" | "timeout" => {
                self.conditions.raise(Reason::UpstreamUnreachable, registry);
            }
            _ => {}
        }
    }

    fn credential_refused(&self, registry: &str, _secret_name: &str) {
        self.conditions.raise(Reason::CredentialsRefused, registry);
    }
}
