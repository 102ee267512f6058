//! What the operator counts about itself, for Prometheus.
//!
//! Labels are bounded: `mirror` is one that exists, and is forgotten with it; everything else is a word of our own,
//! hence `&'static str`.

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Error, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use larder_crds::NodeCounts;

/// From a reconcile that finds nothing to do to one that waits for a slow API server, in seconds.
const RECONCILE_BUCKETS_SECONDS: &[f64] = &[0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0];

/// How the question for a node's conditions ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PollOutcome {
    /// With a report.
    Answered,
    /// With none: no connection, no answer in time, or none that can be read.
    Unanswered,
}

impl PollOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Unanswered => "unanswered",
        }
    }
}

/// Everything counted, in a registry of its own.
pub struct Metrics {
    registry: Registry,
    reconciles: IntCounterVec,
    reconcile_seconds: Histogram,
    errors: IntCounterVec,
    status_writes: IntCounter,
    node_polls: IntCounterVec,
    nodes: IntGaugeVec,
    leader: IntGauge,
}

impl Metrics {
    /// Everything at zero.
    ///
    /// # Errors
    /// Only if two metrics of ours have the same name.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let seconds = HistogramOpts::new(
            "larder_operator_reconcile_seconds",
            "Time that reconciling a mirror took",
        );
        let seconds = Histogram::with_opts(seconds.buckets(RECONCILE_BUCKETS_SECONDS.to_vec()))?;
        let this = Self {
            reconciles: counters(
                &registry,
                &["outcome"],
                "larder_operator_reconciles_total",
                "Reconciles of mirrors, by how they ended",
            )?,
            reconcile_seconds: registered(&registry, seconds)?,
            errors: counters(
                &registry,
                &["error"],
                "larder_operator_errors_total",
                "Errors that ended a reconcile, by kind",
            )?,
            status_writes: registered(
                &registry,
                IntCounter::new(
                    "larder_operator_status_writes_total",
                    "Statuses of mirrors that were written",
                )?,
            )?,
            node_polls: counters(
                &registry,
                &["outcome"],
                "larder_operator_node_polls_total",
                "Questions to nodes for their conditions, by how they ended",
            )?,
            nodes: gauges(
                &registry,
                &["mirror", "state"],
                "larder_operator_mirror_nodes",
                "Nodes of a mirror: those that should have a cache, serve pulls, and work by the current specification",
            )?,
            leader: registered(
                &registry,
                IntGauge::new(
                    "larder_operator_leader",
                    "1 if this operator leads, 0 if it stands by",
                )?,
            )?,
            registry,
        };
        let build = gauges(
            &this.registry,
            &["version"],
            "larder_operator_build_info",
            "Always 1; the label says which version runs",
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        Ok(this)
    }

    /// A reconcile has ended so after this time.
    pub fn reconcile(&self, outcome: &'static str, took: Duration) {
        self.reconciles.with_label_values(&[outcome]).inc();
        self.reconcile_seconds.observe(took.as_secs_f64());
    }

    /// An error of this kind ended a reconcile.
    pub fn error(&self, label: &'static str) {
        self.errors.with_label_values(&[label]).inc();
    }

    /// A status was written.
    pub fn status_write(&self) {
        self.status_writes.inc();
    }

    /// The nodes of a mirror, as its status says.
    pub fn nodes(&self, mirror: &str, counts: &NodeCounts) {
        for (state, count) in Self::states(counts) {
            self.nodes.with_label_values(&[mirror, state]).set(count.into());
        }
    }

    /// The mirror is no more.
    pub fn forget(&self, mirror: &str) {
        for (state, _) in Self::states(&NodeCounts::default()) {
            // One that was never counted need not be forgotten.
            let _ = self.nodes.remove_label_values(&[mirror, state]);
        }
    }

    fn states(counts: &NodeCounts) -> [(&'static str, i32); 3] {
        [
            ("desired", counts.desired),
            ("ready", counts.ready),
            ("updated", counts.updated),
        ]
    }

    /// A node was asked.
    pub fn poll(&self, outcome: PollOutcome) {
        self.node_polls.with_label_values(&[outcome.as_str()]).inc();
    }

    /// This operator leads from now on, or no longer.
    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// Everything in the text format of Prometheus.
    ///
    /// # Errors
    /// Only if a metric of ours cannot be written as text.
    pub fn render(&self) -> Result<String, Error> {
        TextEncoder::new().encode_to_string(&self.registry.gather())
    }
}

fn counters(registry: &Registry, labels: &[&str], name: &str, help: &str) -> Result<IntCounterVec, Error> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauges(registry: &Registry, labels: &[&str], name: &str, help: &str) -> Result<IntGaugeVec, Error> {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), labels)?)
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_that_is_gone_leaves_no_label() {
        let metrics = Metrics::new().unwrap();
        let counts = NodeCounts {
            desired: 3,
            ready: 2,
            updated: 1,
            summary: String::new(),
        };
        metrics.nodes("simple", &counts);
        let line = "larder_operator_mirror_nodes{mirror=\"simple\",state=\"ready\"} 2";
        assert!(metrics.render().unwrap().contains(line));
        metrics.forget("simple");
        metrics.forget("simple");
        assert!(!metrics.render().unwrap().contains("simple"));
    }

    #[test]
    fn everything_is_rendered() {
        let metrics = Metrics::new().unwrap();
        metrics.reconcile("unchanged", Duration::from_millis(3));
        metrics.error("apply");
        metrics.status_write();
        metrics.poll(PollOutcome::Answered);
        metrics.poll(PollOutcome::Unanswered);
        metrics.leads(true);
        let text = metrics.render().unwrap();
        for line in [
            "larder_operator_reconciles_total{outcome=\"unchanged\"} 1",
            "larder_operator_reconcile_seconds_count 1",
            "larder_operator_errors_total{error=\"apply\"} 1",
            "larder_operator_status_writes_total 1",
            "larder_operator_node_polls_total{outcome=\"answered\"} 1",
            "larder_operator_node_polls_total{outcome=\"unanswered\"} 1",
            "larder_operator_leader 1",
            "larder_operator_build_info{version=",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
