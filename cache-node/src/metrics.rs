//! What the cache counts about itself, for Prometheus.
//!
//! Labels are bounded: a registry is one that the configuration names, everything else is an enum here. Nothing
//! that names an image ever becomes a label.

use std::time::Duration;

use http::StatusCode;
use prometheus::core::Collector;
use prometheus::{
    Error, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

/// From a warm local answer to the longest that a client may wait for one, in seconds.
const FIRST_BYTE_BUCKETS_SECONDS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0,
];

/// What a request is about, of a client or of ours to a registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `/v2/`
    Base,
    /// A manifest.
    Manifest,
    /// A blob, the hosts that it is redirected to included.
    Blob,
    /// A list of tags.
    Tags,
    /// A list of referrers.
    Referrers,
    /// A token for a registry.
    Token,
    /// No endpoint of ours.
    Other,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Self::Base => "base",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Tags => "tags",
            Self::Referrers => "referrers",
            Self::Token => "token",
            Self::Other => "other",
        }
    }
}

/// Where a client's bytes came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// They were here already.
    Store,
    /// They were still being fetched.
    Fill,
}

impl Source {
    fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Fill => "fill",
        }
    }
}

/// How the fetching of a blob ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FillOutcome {
    /// The digest was proved.
    Complete,
    /// The content had another digest and was thrown away.
    Mismatch,
    /// The registry or the disk failed for good.
    Failed,
    /// Nobody waited any longer; what is here is kept.
    Paused,
}

impl FillOutcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::Mismatch => "mismatch",
            Self::Failed => "failed",
            Self::Paused => "paused",
        }
    }
}

/// Counts one thing that is running, until it is dropped.
#[must_use = "dropped at once, it counts nothing"]
pub struct Running(IntGauge);

impl Running {
    fn new(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Everything counted, in a registry of its own.
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    response_bytes: IntCounterVec,
    first_byte: HistogramVec,
    upstream_requests: IntCounterVec,
    upstream_received: IntCounterVec,
    fills: IntCounterVec,
    fills_running: IntGauge,
    readers_running: IntGauge,
    digest_mismatches: IntCounterVec,
    stale_answers: IntCounterVec,
    config_reloads: IntCounterVec,
    config_last_reload: IntGauge,
    store_bytes: IntGauge,
    store_blobs: IntGauge,
    store_partials: IntGauge,
}

impl Metrics {
    /// Everything at zero; the configuration that the process started with counts as a successful load.
    ///
    /// # Errors
    /// Only if two metrics of ours have the same name.
    pub fn new() -> Result<Self, Error> {
        let build = IntGaugeVec::new(
            Opts::new("larder_build_info", "Always 1; the label says which version runs"),
            &["version"],
        )?;
        build.with_label_values(&[env!("CARGO_PKG_VERSION")]).set(1);
        let metrics = Self {
            registry: Registry::new(),
            requests: counters(
                "larder_requests_total",
                "Requests of clients that were answered",
                &["registry", "kind", "outcome"],
            )?,
            response_bytes: counters(
                "larder_response_bytes_total",
                "Bytes of content sent to clients, by whether it was stored already or still being fetched",
                &["registry", "source"],
            )?,
            first_byte: HistogramVec::new(
                HistogramOpts::new(
                    "larder_first_byte_seconds",
                    "Time from a client's request to the first byte of content",
                )
                .buckets(FIRST_BYTE_BUCKETS_SECONDS.to_vec()),
                &["source"],
            )?,
            upstream_requests: counters(
                "larder_upstream_requests_total",
                "Requests sent to registries, their token services and their content hosts",
                &["registry", "kind", "outcome"],
            )?,
            upstream_received: counters(
                "larder_upstream_received_bytes_total",
                "Bytes of content received from registries",
                &["registry"],
            )?,
            fills: counters(
                "larder_fills_total",
                "Blobs whose fetching ended, by how it ended",
                &["registry", "outcome"],
            )?,
            fills_running: IntGauge::new("larder_fills_running", "Blobs that are being fetched now")?,
            readers_running: IntGauge::new(
                "larder_readers_running",
                "Clients that are being sent content now",
            )?,
            digest_mismatches: counters(
                "larder_digest_mismatches_total",
                "Contents received that did not have the digest they were asked for by; none was kept",
                &["registry"],
            )?,
            stale_answers: counters(
                "larder_stale_answers_total",
                "Tags answered with the last known digest because the registry did not answer",
                &["registry"],
            )?,
            config_reloads: counters(
                "larder_config_reloads_total",
                "Attempts to load a changed configuration",
                &["result"],
            )?,
            config_last_reload: IntGauge::new(
                "larder_config_last_reload_successful",
                "1 if the newest configuration is in use, 0 if it was refused and an older one is",
            )?,
            store_bytes: IntGauge::new("larder_store_bytes", "Bytes of complete content on disk")?,
            store_blobs: IntGauge::new("larder_store_blobs", "Complete manifests and blobs on disk")?,
            store_partials: IntGauge::new("larder_store_partials", "Incomplete blobs on disk")?,
        };
        metrics.config_last_reload.set(1);
        metrics.registry.register(Box::new(build))?;
        metrics.register_all()?;
        Ok(metrics)
    }

    fn register_all(&self) -> Result<(), Error> {
        let collectors: [Box<dyn Collector>; 15] = [
            Box::new(self.requests.clone()),
            Box::new(self.response_bytes.clone()),
            Box::new(self.first_byte.clone()),
            Box::new(self.upstream_requests.clone()),
            Box::new(self.upstream_received.clone()),
            Box::new(self.fills.clone()),
            Box::new(self.fills_running.clone()),
            Box::new(self.readers_running.clone()),
            Box::new(self.digest_mismatches.clone()),
            Box::new(self.stale_answers.clone()),
            Box::new(self.config_reloads.clone()),
            Box::new(self.config_last_reload.clone()),
            Box::new(self.store_bytes.clone()),
            Box::new(self.store_blobs.clone()),
            Box::new(self.store_partials.clone()),
        ];
        collectors
            .into_iter()
            .try_for_each(|collector| self.registry.register(collector))
    }

    /// A client's request was answered. `registry` is empty when none that is configured was meant.
    pub fn request(&self, registry: &str, kind: Kind, status: StatusCode) {
        self.requests
            .with_label_values(&[registry, kind.as_str(), outcome(Some(status))])
            .inc();
    }

    /// The counter of content bytes sent, to be kept for the length of a body.
    pub fn response_bytes(&self, registry: &str, source: Source) -> IntCounter {
        self.response_bytes
            .with_label_values(&[registry, source.as_str()])
    }

    /// The first byte of content left this long after the request had come.
    pub fn first_byte(&self, source: Source, after: Duration) {
        self.first_byte
            .with_label_values(&[source.as_str()])
            .observe(after.as_secs_f64());
    }

    /// A request of ours was answered with `status`, or with nothing.
    pub fn upstream_request(&self, registry: &str, kind: Kind, status: Option<StatusCode>) {
        self.upstream_requests
            .with_label_values(&[registry, kind.as_str(), outcome(status)])
            .inc();
    }

    /// The counter of content bytes received, to be kept for the length of a body.
    pub fn upstream_received_bytes(&self, registry: &str) -> IntCounter {
        self.upstream_received.with_label_values(&[registry])
    }

    /// A fill begins; it counts as running while the value lives.
    pub fn fill_running(&self) -> Running {
        Running::new(&self.fills_running)
    }

    /// A reader begins; it counts as running while the value lives.
    pub fn reader_running(&self) -> Running {
        Running::new(&self.readers_running)
    }

    /// A fill ended. A mismatch is counted by [`Metrics::digest_mismatch`] as well.
    pub fn fill_ended(&self, registry: &str, outcome: FillOutcome) {
        self.fills.with_label_values(&[registry, outcome.as_str()]).inc();
    }

    /// A blob or manifest had another digest than it should.
    pub fn digest_mismatch(&self, registry: &str) {
        self.digest_mismatches.with_label_values(&[registry]).inc();
    }

    /// A tag was answered from memory because the registry did not answer.
    pub fn stale_answer(&self, registry: &str) {
        self.stale_answers.with_label_values(&[registry]).inc();
    }

    /// A changed configuration was taken or refused.
    pub fn config_reloaded(&self, is_success: bool) {
        let result = if is_success { "success" } else { "failure" };
        self.config_reloads.with_label_values(&[result]).inc();
        self.config_last_reload.set(is_success.into());
    }

    /// What is on disk now.
    pub fn set_store(&self, bytes: u64, blobs: u64, partials: u64) {
        let clamp = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        self.store_bytes.set(clamp(bytes));
        self.store_blobs.set(clamp(blobs));
        self.store_partials.set(clamp(partials));
    }

    /// Everything in Prometheus' text format.
    pub fn render(&self) -> String {
        let families = self.registry.gather();
        // Encoding fails only for families without a name or a metric, and gathering yields none of those.
        TextEncoder::new().encode_to_string(&families).unwrap_or_default()
    }
}

fn counters(name: &str, help: &str, labels: &[&str]) -> Result<IntCounterVec, Error> {
    IntCounterVec::new(Opts::new(name, help), labels)
}

/// A status in one word; no status is no answer.
fn outcome(status: Option<StatusCode>) -> &'static str {
    match status.map(|status| status.as_u16()) {
        None => "unreachable",
        Some(304) => "not_modified",
        Some(100..=299) => "ok",
        Some(300..=399) => "redirect",
        Some(401) => "unauthorized",
        Some(403) => "denied",
        Some(404) => "absent",
        Some(429) => "limited",
        Some(400..=499) => "refused",
        Some(_) => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renders_what_was_counted() {
        let metrics = Metrics::new().unwrap();
        metrics.request("up.test", Kind::Blob, StatusCode::PARTIAL_CONTENT);
        metrics.upstream_request("up.test", Kind::Token, None);
        metrics.response_bytes("up.test", Source::Fill).inc_by(7);
        metrics.upstream_received_bytes("up.test").inc_by(9);
        metrics.first_byte(Source::Store, Duration::from_millis(2));
        metrics.fill_ended("up.test", FillOutcome::Mismatch);
        metrics.digest_mismatch("up.test");
        metrics.stale_answer("up.test");
        metrics.config_reloaded(false);
        metrics.set_store(3, 2, 1);
        let text = metrics.render();
        for line in [
            "larder_requests_total{kind=\"blob\",outcome=\"ok\",registry=\"up.test\"} 1",
            "larder_upstream_requests_total{kind=\"token\",outcome=\"unreachable\",registry=\"up.test\"} 1",
            "larder_response_bytes_total{registry=\"up.test\",source=\"fill\"} 7",
            "larder_upstream_received_bytes_total{registry=\"up.test\"} 9",
            "larder_first_byte_seconds_count{source=\"store\"} 1",
            "larder_fills_total{outcome=\"mismatch\",registry=\"up.test\"} 1",
            "larder_digest_mismatches_total{registry=\"up.test\"} 1",
            "larder_stale_answers_total{registry=\"up.test\"} 1",
            "larder_config_reloads_total{result=\"failure\"} 1",
            "larder_config_last_reload_successful 0",
            "larder_store_bytes 3",
            "larder_store_blobs 2",
            "larder_store_partials 1",
            concat!("larder_build_info{version=\"", env!("CARGO_PKG_VERSION"), "\"} 1"),
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }

    #[test]
    fn what_runs_is_counted_while_it_lives() {
        let metrics = Metrics::new().unwrap();
        let (fill, reader) = (metrics.fill_running(), metrics.reader_running());
        assert!(metrics.render().contains("\nlarder_fills_running 1\n"));
        drop((fill, reader));
        let text = metrics.render();
        assert!(text.contains("\nlarder_fills_running 0\n") && text.contains("\nlarder_readers_running 0\n"));
    }
}
