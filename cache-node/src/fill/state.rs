//! What the task of a fill, its segments and its readers share.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use super::plan::Plan;
use super::{Error, Expectation, Limits, Source};
use crate::oci::Digest;
use crate::store::Partial;
use crate::upstream::Validator;

/// Where a fill stands.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Running,
    /// Every byte is there and the digest is proved.
    Proved,
    Failed(Error),
}

pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) phase: Phase,
    /// The first bytes have been looked at and are no fault of upstream's.
    pub(super) is_start_accepted: bool,
    /// The source has answered at least once: until then an error is still cheap.
    pub(super) is_source_open: bool,
    pub(super) readers: usize,
    pub(super) validator: Option<Validator>,
    /// Bytes written since the last sync began.
    pub(super) unsynced: u64,
    /// Bytes received from the source.
    pub(super) received: u64,
}

/// One blob on its way from a source into the store.
pub(super) struct Fill {
    pub(super) digest: Digest,
    /// The configured registry's host, for metrics and logs.
    pub(super) registry: Arc<str>,
    pub(super) partial: Partial,
    pub(super) source: Arc<dyn Source>,
    pub(super) expectation: Expectation,
    pub(super) limits: Arc<Limits>,
    shared: Mutex<Shared>,
    changed: watch::Sender<()>,
    /// Wakes the task that starts segments.
    pub(super) attention: Notify,
}

/// The withheld end of a blob: it leaves only after the digest is proved, so that nobody can complete a wrong blob.
pub(super) const WITHHELD_BYTES: u64 = 64 << 10;

impl Fill {
    pub(super) fn new(
        partial: Partial,
        registry: Arc<str>,
        source: Arc<dyn Source>,
        expectation: Expectation,
        limits: Arc<Limits>,
    ) -> Self {
        let (length, present) = partial.found();
        let is_start_accepted = present.end_of_run(0) > 0;
        let shared = Shared {
            plan: Plan::new(length, present),
            phase: Phase::Running,
            is_start_accepted,
            is_source_open: false,
            readers: 0,
            validator: None,
            unsynced: 0,
            received: 0,
        };
        Self {
            digest: *partial.digest(),
            registry,
            partial,
            source,
            expectation,
            limits,
            shared: Mutex::new(shared),
            changed: watch::Sender::new(()),
            attention: Notify::new(),
        }
    }

    pub(super) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the shared state and wakes everybody who waits for a change.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Shared) -> T) -> T {
        let result = change(&mut self.shared());
        self.changed.send_replace(());
        result
    }

    /// Waits until `look` finds what it is after; it is asked again after every change.
    pub(super) async fn wait_for<T>(&self, mut look: impl FnMut(&mut Shared) -> Option<T>) -> T {
        let mut changes = self.changed.subscribe();
        loop {
            if let Some(found) = look(&mut self.shared()) {
                return found;
            }
            // The sender lives as long as `self`.
            let _ = changes.changed().await;
        }
    }

    /// Whether readers can still join.
    pub(super) fn is_alive(&self) -> bool {
        !matches!(self.shared().phase, Phase::Failed(_))
    }

    /// How far it has come, for people.
    pub(super) fn progress(&self) -> super::Progress {
        let shared = self.shared();
        super::Progress {
            digest: self.digest.to_string(),
            registry: self.registry.to_string(),
            length: shared.plan.length(),
            present: shared.plan.present().total(),
            readers: shared.readers,
        }
    }

    /// Fixes the blob's length, or finds that upstream contradicts itself or the manifest.
    pub(super) fn learn_length(&self, length: u64) -> Result<(), Error> {
        let expected = self.shared().plan.length().or(self.expectation.length);
        if let Some(expected) = expected.filter(|&expected| expected != length) {
            return Err(Error::Fault(super::Fault::Length {
                expected,
                found: length,
            }));
        }
        if self.shared().plan.length().is_none() {
            self.partial.set_length(length)?;
            self.update(|shared| shared.plan.set_length(length));
        }
        Ok(())
    }
}

impl Shared {
    /// Whether a response head may promise the blob, as far as anybody can know before the proof.
    pub(super) fn is_promising(&self) -> bool {
        self.is_start_accepted && (self.is_source_open || self.plan.is_complete())
    }

    /// Up to where a reader at `offset` may read now: never into the withheld end unless `unproved` is given or
    /// the digest is proved.
    pub(super) fn readable(&self, wanted: &Range<u64>, unproved: bool) -> Range<u64> {
        let present = self.plan.present().end_of_run(wanted.start);
        let limit = match (&self.phase, self.plan.length()) {
            (Phase::Proved, _) => present,
            _ if unproved => present,
            (_, Some(length)) => present.min(length.saturating_sub(WITHHELD_BYTES)),
            // The end may be anywhere, so it may be here.
            (_, None) => present.saturating_sub(WITHHELD_BYTES),
        };
        wanted.start..limit.clamp(wanted.start, wanted.end.max(wanted.start))
    }
}
