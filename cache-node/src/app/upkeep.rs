//! What the store needs beside pulls: its room kept, its uses recorded, and told what is worth more than its use says.

use std::sync::Arc;
use std::time::Duration;

use larder_crds::report::Reason;
use tokio::time::{Instant, MissedTickBehavior};

use crate::conditions::Conditions;
use crate::metrics::{Metrics, StoreFigures};
use crate::pull::Cache;
use crate::store::Store;

/// How often the room on the disk is looked at, at the most.
pub(super) const PERIOD: Duration = Duration::from_secs(5);
/// How often uses are recorded on disk.
const RECORD_PERIOD: Duration = Duration::from_mins(1);

/// The store, and whom to tell of it.
pub(super) struct Upkeep {
    pub(super) cache: Cache,
    pub(super) store: Arc<Store>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) conditions: Arc<Conditions>,
    /// How often it is looked.
    pub(super) period: Duration,
}

impl Upkeep {
    /// Never returns.
    pub(super) async fn run(&self) {
        tokio::join!(self.keep_room(), self.keep_headroom(), self.learn());
    }

    async fn keep_room(&self) {
        let mut ticks = tokio::time::interval(self.period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut recorded = Instant::now();
        loop {
            ticks.tick().await;
            let is_time_to_record = recorded.elapsed() >= RECORD_PERIOD;
            if is_time_to_record {
                recorded = Instant::now();
            }
            let (cache, store) = (self.cache.clone(), Arc::clone(&self.store));
            let _ = tokio::task::spawn_blocking(move || {
                store.set_limits(cache.targets().config().cache_limits);
                store.protect(cache.protected());
                store.maintain();
                if is_time_to_record {
                    store.record_uses();
                }
            })
            .await;
            let figures = figures(&self.store);
            self.conditions.set(figures.is_full, Reason::DiskFull, "", "");
            self.metrics.set_store(&figures);
        }
    }

    /// Whenever content has come, so that the next need not wait for the removals that it makes necessary.
    async fn keep_headroom(&self) {
        loop {
            self.store.grown().await;
            let store = Arc::clone(&self.store);
            let _ = tokio::task::spawn_blocking(move || store.make_headroom()).await;
        }
    }

    /// Reads once what the stored manifests name: until then an eviction does not know configs from layers.
    async fn learn(&self) {
        for digest in self.store.manifests() {
            self.cache.learn_manifest(&digest).await;
        }
    }
}

fn figures(store: &Store) -> StoreFigures {
    let (usage, tally) = (store.usage(), store.tally());
    let kinds = usage.counts.into_iter();
    StoreFigures {
        kinds: kinds
            .map(|(kind, count)| (kind.as_str(), count.objects, count.stored_bytes))
            .collect(),
        partials: (usage.partials.objects, usage.partials.stored_bytes),
        reserved_bytes: usage.reserved_bytes,
        capacity_bytes: usage.budget.capacity_bytes,
        free_bytes: usage.space.available_bytes,
        last_sync_s: tally.last_sync_s,
        is_full: store.hindrance().is_some(),
        removed: tally.removed,
        refused: tally.refused,
        condemned: tally.condemned,
        scrubbed_bytes: tally.scrubbed_bytes,
        scrub_percent: tally.scrub_percent,
    }
}
