//! What the task of a fill, its segments and its readers share.

use std::fs::File;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::plan::Plan;
use super::readers::Readers;
use super::window::{WINDOW_BYTES, Window};
use super::{Error, Expectation, Limits, Source};
use crate::oci::Digest;
use crate::store::{self, Lease, Partial, RangeSet, Store};
use crate::upstream::Validator;

/// Where a fill stands.
#[derive(Clone, Debug)]
pub(super) enum Phase {
    Running,
    /// Every byte is there and the digest is proved.
    Proved,
    Failed(Error),
}

/// Where a fill begins.
#[derive(Debug)]
pub(super) enum Place {
    Disk(Box<Partial>),
    /// The disk does not even take an empty file.
    Memory(Window),
}

pub(super) struct Shared {
    pub(super) plan: Plan,
    pub(super) phase: Phase,
    /// The first bytes have been looked at and are no fault of upstream's.
    pub(super) is_start_accepted: bool,
    /// The source has answered at least once: until then an error is still cheap.
    pub(super) is_source_open: bool,
    pub(super) readers: Readers,
    /// Which of the bytes that are there are in the partial file; the others are in the window.
    pub(super) on_disk: RangeSet,
    /// Up to where the digest is computed.
    pub(super) hashed: u64,
    /// Since when the window has been full whenever a byte came.
    full_since: Option<Instant>,
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
    pub(super) store: Arc<Store>,
    place: Place,
    /// Where bytes are since the disk takes no more of them.
    window: OnceLock<Window>,
    /// Keeps the blob from being evicted while it is read from here.
    pub(super) lease: OnceLock<Arc<Lease>>,
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
    /// A fill of the blob `digest`.
    pub(super) fn new(
        store: Arc<Store>,
        digest: Digest,
        place: Place,
        registry: Arc<str>,
        source: Arc<dyn Source>,
        expectation: Expectation,
        limits: Arc<Limits>,
    ) -> Self {
        let (length, present) = match &place {
            Place::Disk(partial) => partial.found(),
            Place::Memory(_) => (None, RangeSet::default()),
        };
        let is_start_accepted = present.end_of_run(0) > 0;
        let on_disk = present.clone();
        let mut plan = Plan::new(length, present);
        if matches!(place, Place::Memory(_)) {
            plan.make_sequential();
        }
        let shared = Shared {
            plan,
            phase: Phase::Running,
            is_start_accepted,
            is_source_open: false,
            readers: Readers::default(),
            on_disk,
            hashed: 0,
            full_since: None,
            validator: None,
            unsynced: 0,
            received: 0,
        };
        Self {
            digest,
            registry,
            store,
            place,
            window: OnceLock::new(),
            lease: OnceLock::new(),
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

    /// Wakes everybody who waits for a change.
    pub(super) fn wake(&self) {
        self.changed.send_replace(());
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

    /// The window, if the disk takes no bytes of this fill any more.
    pub(super) fn window(&self) -> Option<&Window> {
        match &self.place {
            Place::Disk(_) => self.window.get(),
            Place::Memory(window) => Some(window),
        }
    }

    /// The file on disk, as long as bytes are written to it.
    pub(super) fn partial(&self) -> Option<&Partial> {
        match &self.place {
            Place::Disk(partial) if self.window.get().is_none() => Some(partial),
            Place::Disk(_) | Place::Memory(_) => None,
        }
    }

    /// Whether the bytes from `offset` on are there or still to come.
    pub(super) fn has_from(&self, offset: u64) -> bool {
        self.window().is_none() || self.shared().readers.floor() <= offset
    }

    /// The file that holds the first bytes of `range`, which are there, and how many of them.
    pub(super) fn file_at(&self, range: Range<u64>) -> (&Arc<File>, Range<u64>) {
        let disk = match &self.place {
            Place::Disk(partial) => partial.file(),
            Place::Memory(window) => return (window.file(), range),
        };
        let Some(window) = self.window.get() else {
            return (disk, range);
        };
        let shared = self.shared();
        let end_on_disk = shared.on_disk.end_of_run(range.start);
        if end_on_disk > range.start {
            return (disk, range.start..range.end.min(end_on_disk));
        }
        let end = shared.on_disk.next_present(range.start).unwrap_or(u64::MAX);
        (window.file(), range.start..range.end.min(end))
    }

    /// The disk failed: goes on in memory, if the disk is to blame. What is on it serves those who read now, under no name.
    pub(super) fn give_up_disk(&self, error: &store::Error) -> bool {
        let wanted = self.shared().plan.length().or(self.expectation.length);
        if !self.store.note_failure(error, wanted.unwrap_or_default()) {
            return false;
        }
        let Some(partial) = self.partial() else {
            return true;
        };
        let Ok(window) = Window::new() else {
            return false;
        };
        self.update(|shared| {
            let _ = self.window.set(window);
            shared.plan.make_sequential();
        });
        if let Err(error) = partial.discard() {
            tracing::debug!(digest = %self.digest, error = &error as &dyn std::error::Error, "cannot discard");
        }
        true
    }

    /// Waits until the window has room for `count` bytes more. False if it was full, so that the source had to wait.
    pub(super) async fn make_room(&self, window: &Window, count: u64) -> bool {
        let mut had_room = true;
        loop {
            let room = self.wait_for(|shared| {
                let before = shared.readers.floor();
                let floor = shared.readers.raise_floor(shared.hashed);
                window.drop_bytes(before..floor);
                let is_room = shared.held_in_memory() + count <= WINDOW_BYTES;
                had_room &= is_room;
                is_room.then_some(())
            });
            let since = *self.shared().full_since.get_or_insert_with(Instant::now);
            let is_room = tokio::time::timeout_at(since + self.limits.laggard, room)
                .await
                .is_ok();
            if is_room && had_room {
                self.shared().full_since = None;
            }
            if is_room {
                return had_room;
            }
            self.update(|shared| {
                // From now on they have their time again; and if nobody is held up, they have all the time they want.
                shared.full_since = None;
                if shared.readers.is_anybody_held_up(shared.plan.front()) {
                    let before = shared.readers.floor();
                    shared.readers.leave_slowest_behind(shared.hashed);
                    window.drop_bytes(before..shared.readers.floor());
                }
            });
        }
    }

    /// How far it has come, for people.
    pub(super) fn progress(&self) -> super::Progress {
        let shared = self.shared();
        super::Progress {
            digest: self.digest.to_string(),
            registry: self.registry.to_string(),
            length: shared.plan.length(),
            present: shared.plan.present().total(),
            readers: shared.readers.count(),
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
            if let Some(partial) = self.partial()
                && let Err(error) = partial.set_length(length)
                && !self.give_up_disk(&error)
            {
                return Err(error.into());
            }
            self.update(|shared| shared.plan.set_length(length));
        }
        Ok(())
    }
}

impl Shared {
    /// How many bytes the window holds.
    fn held_in_memory(&self) -> u64 {
        let (floor, front) = (self.readers.floor(), self.plan.front());
        let on_disk = self.on_disk.iter().map(|range| {
            let (start, end) = (range.start.clamp(floor, front), range.end.clamp(floor, front));
            end - start
        });
        front - floor - on_disk.sum::<u64>()
    }

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
