//! What the store counts about itself.

use std::collections::BTreeMap;

use prometheus::{Error, IntCounterVec, IntGauge, IntGaugeVec, Registry};

use super::{Metrics, counters, gauge, gauges};

/// The store as it is now: gauges in bytes and objects, and what has been counted since the start, by reason.
#[derive(Clone, Debug, Default)]
pub struct StoreFigures {
    /// Complete content by kind: objects, and the bytes that they take on disk.
    pub kinds: Vec<(&'static str, u64, u64)>,
    /// Unfinished fills that nobody works on: how many, and their bytes on disk.
    pub partials: (u64, u64),
    /// What running fills may take, in bytes.
    pub reserved_bytes: u64,
    /// The most that the store may hold, in bytes.
    pub capacity_bytes: u64,
    /// What is free on the file system, in bytes.
    pub free_bytes: u64,
    /// When content last reached the disk, in seconds since the epoch; 0 for never.
    pub last_sync_s: u64,
    /// Whether content is not taken.
    pub is_full: bool,
    /// Objects removed, by reason.
    pub removed: BTreeMap<&'static str, u64>,
    /// Contents not taken in, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Contents found to be wrong, by finding.
    pub condemned: BTreeMap<&'static str, u64>,
    /// Bytes that the scrub has hashed anew.
    pub scrubbed_bytes: u64,
    /// How much of the content the scrub has seen in this round, from 0 to 100.
    pub scrub_percent: u64,
}

pub(super) struct Disk {
    objects: IntGaugeVec,
    bytes: IntGaugeVec,
    partials: IntGauge,
    partial_bytes: IntGauge,
    reserved_bytes: IntGauge,
    capacity_bytes: IntGauge,
    free_bytes: IntGauge,
    last_sync: IntGauge,
    full: IntGauge,
    evictions: IntCounterVec,
    refusals: IntCounterVec,
    condemned: IntCounterVec,
    scrubbed_bytes: IntCounterVec,
    scrub_percent: IntGauge,
}

impl Disk {
    pub(super) fn register(registry: &Registry) -> Result<Self, Error> {
        let counters = |label, name, help| counters(registry, &[label], name, help);
        let gauge = |name, help| gauge(registry, name, help);
        Ok(Self {
            objects: gauges(
                registry,
                "kind",
                "larder_store_objects",
                "Complete content on disk",
            )?,
            bytes: gauges(
                registry,
                "kind",
                "larder_store_bytes",
                "Bytes that complete content takes on disk",
            )?,
            partials: gauge(
                "larder_store_partials",
                "Unfinished fills on disk that nobody works on",
            )?,
            partial_bytes: gauge("larder_store_partial_bytes", "Bytes that those take on disk")?,
            reserved_bytes: gauge("larder_store_reserved_bytes", "Bytes that running fills may take")?,
            capacity_bytes: gauge(
                "larder_store_capacity_bytes",
                "The most bytes that the store may hold",
            )?,
            free_bytes: gauge(
                "larder_store_free_bytes",
                "Bytes that are free on the file system of the store",
            )?,
            last_sync: gauge(
                "larder_store_last_sync_timestamp_seconds",
                "When content last reached the disk, in seconds since the epoch",
            )?,
            full: gauge(
                "larder_store_full",
                "1 while the disk takes no content and pulls go on without being kept, else 0",
            )?,
            evictions: counters("reason", "larder_store_evictions_total", "Objects removed")?,
            refusals: counters("reason", "larder_store_refusals_total", "Contents not taken in")?,
            condemned: counters(
                "finding",
                "larder_store_condemned_total",
                "Stored contents found not to be what was proved",
            )?,
            scrubbed_bytes: super::counters(
                registry,
                &[],
                "larder_store_scrubbed_bytes_total",
                "Bytes of stored content that were hashed anew",
            )?,
            scrub_percent: gauge(
                "larder_store_scrub_progress_percent",
                "How much of the content has been hashed anew in this round",
            )?,
        })
    }
}

impl Metrics {
    /// Takes over the store's own figures.
    pub fn set_store(&self, figures: &StoreFigures) {
        let disk = &self.disk;
        for (kind, objects, bytes) in &figures.kinds {
            disk.objects.with_label_values(&[*kind]).set(clamp(*objects));
            disk.bytes.with_label_values(&[*kind]).set(clamp(*bytes));
        }
        disk.partials.set(clamp(figures.partials.0));
        disk.partial_bytes.set(clamp(figures.partials.1));
        disk.reserved_bytes.set(clamp(figures.reserved_bytes));
        disk.capacity_bytes.set(clamp(figures.capacity_bytes));
        disk.free_bytes.set(clamp(figures.free_bytes));
        disk.last_sync.set(clamp(figures.last_sync_s));
        disk.full.set(figures.is_full.into());
        disk.scrub_percent.set(clamp(figures.scrub_percent));
        raise(&disk.evictions, &figures.removed);
        raise(&disk.refusals, &figures.refused);
        raise(&disk.condemned, &figures.condemned);
        let scrubbed = disk.scrubbed_bytes.with_label_values::<&str>(&[]);
        scrubbed.inc_by(figures.scrubbed_bytes.saturating_sub(scrubbed.get()));
    }
}

/// Brings counters up to what the store itself has counted.
fn raise(counters: &IntCounterVec, counted: &BTreeMap<&'static str, u64>) {
    for (label, count) in counted {
        let counter = counters.with_label_values(&[*label]);
        counter.inc_by(count.saturating_sub(counter.get()));
    }
}

fn clamp(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_shown_and_counters_only_rise() {
        let metrics = Metrics::new().unwrap();
        let mut figures = StoreFigures {
            kinds: vec![("layer", 2, 9)],
            removed: BTreeMap::from([("capacity", 3)]),
            scrubbed_bytes: 7,
            is_full: true,
            ..StoreFigures::default()
        };
        metrics.set_store(&figures);
        metrics.set_store(&figures);
        figures.removed.insert("capacity", 4);
        metrics.set_store(&figures);
        let text = metrics.render();
        for line in [
            "larder_store_objects{kind=\"layer\"} 2",
            "larder_store_bytes{kind=\"layer\"} 9",
            "larder_store_evictions_total{reason=\"capacity\"} 4",
            "larder_store_scrubbed_bytes_total 7",
            "larder_store_full 1",
        ] {
            assert!(text.lines().any(|l| l == line), "{line}\n{text}");
        }
    }
}
