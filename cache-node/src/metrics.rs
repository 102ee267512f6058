//! What the cache counts about itself, for Prometheus.
//!
//! Labels are bounded: `registry` is one that the configuration names, or empty when none was meant; everything
//! else is a word of our own, hence `&'static str`. Nothing that names an image ever becomes a label.

mod disk;

use std::time::Duration;

use prometheus::core::Collector;
use prometheus::{
    Error, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder,
};

use disk::Disk;

pub use disk::StoreFigures;

/// From a warm local answer to the longest that a client may wait for one, in seconds.
const FIRST_BYTE_BUCKETS_SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0,
];

/// The outcome of a fill whose content had another digest than it should.
const MISMATCH: &str = "mismatch";

/// Counts one reader as running until it is dropped.
#[must_use = "dropped at once, it counts nothing"]
pub struct ReaderRunning(IntGauge);

impl Drop for ReaderRunning {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Everything counted, in a registry of its own.
pub struct Metrics {
    registry: Registry,
    clients: Clients,
    upstream: Upstream,
    local: Local,
    disk: Disk,
}

struct Clients {
    requests: IntCounterVec,
    response_bytes: IntCounterVec,
    first_byte: HistogramVec,
    readers_running: IntGauge,
    stale_answers: IntCounterVec,
}

struct Upstream {
    requests: IntCounterVec,
    received_bytes: IntCounterVec,
    fills: IntCounterVec,
    fills_running: IntGauge,
    digest_mismatches: IntCounterVec,
}

struct Local {
    config_reloads: IntCounterVec,
    config_last_reload: IntGauge,
}

impl Clients {
    fn register(registry: &Registry) -> Result<Self, Error> {
        let name = "larder_first_byte_seconds";
        let help = "Time from a client's request to the beginning of its answer";
        let buckets = FIRST_BYTE_BUCKETS_SECONDS.to_vec();
        let first_byte = HistogramOpts::new(name, help).buckets(buckets);
        Ok(Self {
            requests: counters(
                registry,
                &["registry", "kind", "outcome"],
                "larder_requests_total",
                "Requests of clients that were answered",
            )?,
            response_bytes: counters(
                registry,
                &["registry", "source"],
                "larder_response_bytes_total",
                "Bytes of content sent to clients, by whether it was stored already or still being fetched",
            )?,
            first_byte: registered(registry, HistogramVec::new(first_byte, &["source"])?)?,
            readers_running: gauge(
                registry,
                "larder_readers_running",
                "Clients that are being sent content now",
            )?,
            stale_answers: counters(
                registry,
                &["registry"],
                "larder_stale_answers_total",
                "Tags answered with the last known digest because the registry did not answer",
            )?,
        })
    }
}

impl Upstream {
    fn register(registry: &Registry) -> Result<Self, Error> {
        Ok(Self {
            requests: counters(
                registry,
                &["registry", "kind", "outcome"],
                "larder_upstream_requests_total",
                "Requests sent to registries, their token services and their content hosts",
            )?,
            received_bytes: counters(
                registry,
                &["registry"],
                "larder_upstream_received_bytes_total",
                "Bytes of content received from registries",
            )?,
            fills: counters(
                registry,
                &["registry", "outcome"],
                "larder_fills_total",
                "Blobs whose fetching ended, by how it ended",
            )?,
            fills_running: gauge(
                registry,
                "larder_fills_running",
                "Blobs that are being fetched now",
            )?,
            digest_mismatches: counters(
                registry,
                &["registry"],
                "larder_digest_mismatches_total",
                "Contents received that did not have the digest they were asked for by; none was kept",
            )?,
        })
    }
}

impl Local {
    fn register(registry: &Registry) -> Result<Self, Error> {
        Ok(Self {
            config_reloads: counters(
                registry,
                &["result"],
                "larder_config_reloads_total",
                "Attempts to load a changed configuration",
            )?,
            config_last_reload: gauge(
                registry,
                "larder_config_last_reload_successful",
                "1 if the newest configuration is in use, 0 if it was refused and an older one is",
            )?,
        })
    }
}

fn counters(registry: &Registry, labels: &[&str], name: &str, help: &str) -> Result<IntCounterVec, Error> {
    registered(registry, IntCounterVec::new(Opts::new(name, help), labels)?)
}

fn gauge(registry: &Registry, name: &str, help: &str) -> Result<IntGauge, Error> {
    registered(registry, IntGauge::new(name, help)?)
}

fn gauges(registry: &Registry, label: &str, name: &str, help: &str) -> Result<IntGaugeVec, Error> {
    registered(registry, IntGaugeVec::new(Opts::new(name, help), &[label])?)
}

fn registered<C: Collector + Clone + 'static>(registry: &Registry, collector: C) -> Result<C, Error> {
    registry.register(Box::new(collector.clone()))?;
    Ok(collector)
}

impl Metrics {
    /// Everything at zero; the configuration that the process started with counts as a successful load.
    ///
    /// # Errors
    /// Only if two metrics of ours have the same name.
    pub fn new() -> Result<Self, Error> {
        let registry = Registry::new();
        let metrics = Self {
            clients: Clients::register(&registry)?,
            upstream: Upstream::register(&registry)?,
            local: Local::register(&registry)?,
            disk: Disk::register(&registry)?,
            registry,
        };
        metrics.local.config_last_reload.set(1);
        let help = "Always 1; the label says which version runs";
        let build = IntGaugeVec::new(Opts::new("larder_build_info", help), &["version"])?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        registered(&metrics.registry, build)?;
        Ok(metrics)
    }

    /// A client's request has ended.
    pub fn request(&self, registry: &str, kind: &'static str, outcome: &'static str) {
        self.clients
            .requests
            .with_label_values(&[registry, kind, outcome])
            .inc();
    }

    /// So many bytes of content left for a client.
    pub fn response_bytes(&self, registry: &str, source: &'static str, bytes: u64) {
        self.clients
            .response_bytes
            .with_label_values(&[registry, source])
            .inc_by(bytes);
    }

    /// The answer began this long after the request had come.
    pub fn first_byte(&self, source: &'static str, after: Duration) {
        self.clients
            .first_byte
            .with_label_values(&[source])
            .observe(after.as_secs_f64());
    }

    /// A client begins to be sent content; it counts as running while the value lives.
    pub fn reader_running(&self) -> ReaderRunning {
        self.clients.readers_running.inc();
        ReaderRunning(self.clients.readers_running.clone())
    }

    /// One try of a request of ours has ended.
    pub fn upstream_request(&self, registry: &str, kind: &'static str, outcome: &'static str) {
        self.upstream
            .requests
            .with_label_values(&[registry, kind, outcome])
            .inc();
    }

    /// A fill begins to run.
    pub fn fill_started(&self) {
        self.upstream.fills_running.inc();
    }

    /// A fill that had started runs no longer, having received so many bytes. The outcome `mismatch` counts as a
    /// [`Metrics::digest_mismatch`] as well.
    pub fn fill_ended(&self, registry: &str, outcome: &'static str, received_bytes: u64) {
        self.upstream.fills_running.dec();
        self.upstream.fills.with_label_values(&[registry, outcome]).inc();
        self.upstream
            .received_bytes
            .with_label_values(&[registry])
            .inc_by(received_bytes);
        if outcome == MISMATCH {
            self.digest_mismatch(registry);
        }
    }

    /// A content had another digest than it should.
    pub fn digest_mismatch(&self, registry: &str) {
        self.upstream
            .digest_mismatches
            .with_label_values(&[registry])
            .inc();
    }

    /// A tag was answered from memory because the registry did not answer.
    pub fn stale_answer(&self, registry: &str) {
        self.clients.stale_answers.with_label_values(&[registry]).inc();
    }

    /// A changed configuration was taken or refused.
    pub fn config_reloaded(&self, is_success: bool) {
        let result = if is_success { "success" } else { "failure" };
        self.local.config_reloads.with_label_values(&[result]).inc();
        self.local.config_last_reload.set(is_success.into());
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> String {
        let families = self.registry.gather();
        // Encoding fails only for families without a name or a metric, and gathering yields none of those.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_what_was_counted() {
        let metrics = Metrics::new().unwrap();
        metrics.request("up.test", "blob", "ok");
        metrics.upstream_request("up.test", "token", "timeout");
        metrics.response_bytes("up.test", "fill", 7);
        metrics.first_byte("store", Duration::from_millis(2));
        metrics.fill_started();
        metrics.fill_ended("up.test", "mismatch", 9);
        metrics.digest_mismatch("up.test");
        metrics.stale_answer("up.test");
        metrics.config_reloaded(false);
        let text = metrics.render();
        for line in [
            "larder_requests_total{kind=\"blob\",outcome=\"ok\",registry=\"up.test\"} 1",
            "larder_upstream_requests_total{kind=\"token\",outcome=\"timeout\",registry=\"up.test\"} 1",
            "larder_response_bytes_total{registry=\"up.test\",source=\"fill\"} 7",
            "larder_upstream_received_bytes_total{registry=\"up.test\"} 9",
            "larder_first_byte_seconds_count{source=\"store\"} 1",
            "larder_fills_total{outcome=\"mismatch\",registry=\"up.test\"} 1",
            "larder_digest_mismatches_total{registry=\"up.test\"} 2",
            "larder_stale_answers_total{registry=\"up.test\"} 1",
            "larder_config_reloads_total{result=\"failure\"} 1",
            "larder_config_last_reload_successful 0",
            concat!("larder_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn what_runs_is_counted_while_it_lives() {
        let metrics = Metrics::new().unwrap();
        metrics.fill_started();
        let reader = metrics.reader_running();
        let text = metrics.render();
        assert!(text.contains("\nlarder_fills_running 1\n") && text.contains("\nlarder_readers_running 1\n"));
        metrics.fill_ended("up.test", "paused", 0);
        drop(reader);
        let text = metrics.render();
        assert!(text.contains("\nlarder_fills_running 0\n") && text.contains("\nlarder_readers_running 0\n"));
    }
}
