//! The fill engine: one task per digest brings a blob from its source into the store, while any number of readers
//! wait for *their* next byte at *their* offset.
//!
//! A fill is never a client's request. It outlives its readers within bounds, resumes after cuts, and continues
//! after a crash from what is on disk. The blob's last bytes are withheld until its digest is proved.

mod error;
mod inspect;
mod plan;
mod proof;
mod reader;
mod readers;
mod run;
mod segment;
mod source;
mod state;
mod window;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics::Metrics;
use crate::oci::Digest;
use crate::store::{self, Store};

pub use error::{Error, Fault};
pub use inspect::Expectation;
pub use reader::{Content, Reader, UNPROVED_BYTES_MAX};
pub use source::{Opened, Source};
use state::{Fill, Place};
use window::Window;

/// The engine's deadlines and bounds.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How many fills run at once.
    pub fills: usize,
    /// How long a reader waits for a response head.
    pub head: Duration,
    /// How long a source may be silent within a body.
    pub idle: Duration,
    /// Over how long the least rate is measured.
    pub rate_window: Duration,
    /// The least rate, in bytes per second.
    pub rate_bytes_min: u64,
    /// Attempts before any byte was accepted.
    pub first_attempts: u32,
    /// Attempts in a row that bring no byte, once some were accepted.
    pub resumes: u32,
    /// The first pause between attempts; it doubles.
    pub backoff: Duration,
    /// The longest pause between attempts.
    pub backoff_max: Duration,
    /// How long the slowest reader may hold up others while the disk takes no content.
    pub laggard: Duration,
    /// How long a fill goes on without readers.
    pub unread: Duration,
    /// The same for one that is large and far from done.
    pub unread_large: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            fills: 64,
            head: Duration::from_secs(20),
            idle: Duration::from_secs(15),
            rate_window: Duration::from_secs(30),
            rate_bytes_min: 1 << 10,
            first_attempts: 3,
            resumes: 8,
            backoff: Duration::from_millis(100),
            backoff_max: Duration::from_secs(10),
            laggard: Duration::from_secs(10),
            unread: Duration::from_secs(600),
            unread_large: Duration::from_secs(10),
        }
    }
}

/// All fills of a cache. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    limits: Arc<Limits>,
    slots: Mutex<HashMap<Digest, Slot>>,
    permits: Arc<Semaphore>,
    verify_whole_up_to: AtomicU64,
    /// Changes whenever a slot does.
    slots_changed: watch::Sender<()>,
    tasks: TaskTracker,
    shutdown: CancellationToken,
}

/// A digest that somebody works on: no two fills ever share a partial.
enum Slot {
    /// Its partial is being opened.
    Opening,
    Running(Arc<Fill>),
}

/// What a reader came for.
struct Wanted {
    digest: Digest,
    from: u64,
    registry: Arc<str>,
    expectation: Expectation,
}

/// Where a new fill may put its bytes. Blocks.
fn place(store: &Store, digest: &Digest, length: Option<u64>) -> Result<Place, Error> {
    if store.takes_content() {
        match store.partial(digest, length) {
            Ok(partial) => return Ok(Place::Disk(Box::new(partial))),
            Err(error) if store.note_failure(&error, length.unwrap_or_default()) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let window = Window::new().map_err(|source| store::Error::Io {
        action: "get memory for",
        path: digest.to_string(),
        source,
    });
    Ok(Place::Memory(window?))
}

/// One running fill, for people.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// The blob.
    pub digest: String,
    /// The configured registry's host.
    pub registry: String,
    /// The blob's length in bytes, if it is known.
    pub length: Option<u64>,
    /// How many bytes are there.
    pub present: u64,
    /// How many readers there are.
    pub readers: usize,
}

impl Engine {
    /// An engine without fills. Blobs of up to `verify_whole_up_to` bytes are proved before their head is sent.
    pub fn new(store: Arc<Store>, metrics: Arc<Metrics>, limits: Limits, verify_whole_up_to: u64) -> Self {
        let inner = Inner {
            store,
            metrics,
            permits: Arc::new(Semaphore::new(limits.fills)),
            limits: Arc::new(limits),
            slots: Mutex::default(),
            verify_whole_up_to: AtomicU64::new(verify_whole_up_to),
            slots_changed: watch::Sender::new(()),
            tasks: TaskTracker::new(),
            shutdown: CancellationToken::new(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The blob, if it is stored or on its way, for a reader who wants no byte before `from`. Such a blob is never refused
    /// for load.
    pub fn find(&self, digest: &Digest, from: u64) -> Option<Content> {
        if let Some(blob) = self.inner.store.blob(digest) {
            return Some(Content::Stored(blob));
        }
        match self.slots().get(digest) {
            Some(Slot::Running(fill)) if fill.is_alive() && fill.has_from(from) => {
                Some(self.reader(fill, from))
            }
            _ => None,
        }
    }

    /// The blob: stored, on its way, or now started from `source`, for a reader who wants no byte before `from`.
    ///
    /// # Errors
    /// [`Error::Busy`] when too many other fills run, [`Error::Store`] when there is no place for it.
    pub async fn open(
        &self,
        digest: &Digest,
        from: u64,
        registry: &Arc<str>,
        expectation: Expectation,
        source: Arc<dyn Source>,
    ) -> Result<Content, Error> {
        let mut slots_changed = self.inner.slots_changed.subscribe();
        loop {
            if let Some(content) = self.find(digest, from) {
                return Ok(content);
            }
            let permit = Arc::clone(&self.inner.permits).acquire_owned();
            let Ok(Ok(permit)) = tokio::time::timeout(self.inner.limits.head / 2, permit).await else {
                return self.find(digest, from).ok_or(Error::Busy);
            };
            if !self.reserve(digest, from) {
                // Somebody opens this partial now, or is about to leave it.
                drop(permit);
                let _ = slots_changed.changed().await;
                continue;
            }
            let wanted = Wanted {
                digest: *digest,
                from,
                registry: Arc::clone(registry),
                expectation,
            };
            return self.start(wanted, source, permit).await;
        }
    }

    fn reserve(&self, digest: &Digest, from: u64) -> bool {
        let mut slots = self.slots();
        let is_free = match slots.get(digest) {
            None => true,
            Some(Slot::Opening) => false,
            // It has nothing on disk, and goes on for those who read from it.
            Some(Slot::Running(fill)) => fill.is_alive() && !fill.has_from(from),
        };
        if is_free {
            slots.insert(*digest, Slot::Opening);
        }
        is_free
    }

    /// Starts a fill in the slot that the caller has reserved.
    async fn start(
        &self,
        wanted: Wanted,
        source: Arc<dyn Source>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Content, Error> {
        // A task of its own: the slot must not stay reserved when the client leaves here.
        let engine = self.clone();
        let started = self.inner.tasks.spawn(async move {
            let digest = wanted.digest;
            let content = engine.fill_slot(wanted, source, permit).await;
            if !matches!(content, Ok(Content::Filling(_))) {
                engine.slots().remove(&digest);
            }
            engine.inner.slots_changed.send_replace(());
            content
        });
        started
            .await
            .unwrap_or(Err(Error::Stalled("the opening task was lost")))
    }

    async fn fill_slot(
        &self,
        wanted: Wanted,
        source: Arc<dyn Source>,
        permit: OwnedSemaphorePermit,
    ) -> Result<Content, Error> {
        let Wanted {
            digest,
            from,
            registry,
            expectation,
        } = wanted;
        // The one before may have completed it between the caller's look and its reservation.
        if let Some(blob) = self.inner.store.blob(&digest) {
            return Ok(Content::Stored(blob));
        }
        let store = Arc::clone(&self.inner.store);
        let place = tokio::task::spawn_blocking(move || place(&store, &digest, expectation.length)).await;
        let place = place.map_err(|_| Error::Stalled("the opening task was lost"))??;
        let (store, limits) = (Arc::clone(&self.inner.store), Arc::clone(&self.inner.limits));
        let fill = Fill::new(store, digest, place, registry, source, expectation, limits);
        let fill = Arc::new(fill);
        let content = self.reader(&fill, from);
        self.slots().insert(digest, Slot::Running(Arc::clone(&fill)));
        let engine = self.clone();
        self.inner.tasks.spawn(async move {
            engine.drive(fill).await;
            drop(permit);
        });
        Ok(content)
    }

    async fn drive(&self, fill: Arc<Fill>) {
        self.inner.metrics.fill_started();
        loop {
            let ending = run::run(&fill, &self.inner.shutdown).await;
            let is_read_again = matches!(ending, run::Ending::Paused)
                && !self.inner.shutdown.is_cancelled()
                && !self.remove_if_unread(&fill);
            if is_read_again {
                continue;
            }
            let label = match &ending {
                run::Ending::Proved if fill.window().is_some() => "uncached",
                run::Ending::Proved => "complete",
                run::Ending::Mismatch(_) => "mismatch",
                run::Ending::Failed(error) => error.metric_label(),
                run::Ending::Paused => "paused",
            };
            if let run::Ending::Failed(error) = &ending {
                tracing::warn!(digest = %fill.digest, registry = %fill.registry,
                    error = error as &dyn std::error::Error, "fill failed");
            }
            run::settle(&fill, ending).await;
            self.remove(&fill);
            self.inner.slots_changed.send_replace(());
            self.inner
                .metrics
                .fill_ended(&fill.registry, label, fill.shared().received);
            return;
        }
    }

    /// A reader that came while the fill was being put aside keeps it running.
    fn remove_if_unread(&self, fill: &Arc<Fill>) -> bool {
        let _slots = self.slots();
        let mut shared = fill.shared();
        if shared.readers.count() > 0 {
            return false;
        }
        shared.phase = state::Phase::Failed(Error::Paused);
        true
    }

    /// Another one may have taken the slot of one in memory.
    fn remove(&self, fill: &Arc<Fill>) {
        let mut slots = self.slots();
        if matches!(slots.get(&fill.digest), Some(Slot::Running(other)) if Arc::ptr_eq(other, fill)) {
            slots.remove(&fill.digest);
        }
    }

    /// Whether the process is ending.
    pub fn is_shutting_down(&self) -> bool {
        self.inner.shutdown.is_cancelled()
    }

    /// What runs now.
    pub fn progress(&self) -> Vec<Progress> {
        let slots = self.slots();
        let running = slots.values().filter_map(|slot| match slot {
            Slot::Running(fill) => Some(fill.progress()),
            Slot::Opening => None,
        });
        running.collect()
    }

    /// Takes over a changed configuration.
    pub fn set_verify_whole_up_to(&self, bytes: u64) {
        self.inner.verify_whole_up_to.store(bytes, Ordering::Relaxed);
    }

    /// Puts every fill aside so that it can be continued, and waits until that is on disk.
    pub async fn shut_down(&self) {
        self.inner.shutdown.cancel();
        self.inner.tasks.close();
        self.inner.tasks.wait().await;
    }

    fn verify_whole_up_to(&self) -> u64 {
        self.inner.verify_whole_up_to.load(Ordering::Relaxed)
    }

    fn reader(&self, fill: &Arc<Fill>, from: u64) -> Content {
        Content::Filling(Reader::new(Arc::clone(fill), self.clone(), from))
    }

    fn slots(&self) -> MutexGuard<'_, HashMap<Digest, Slot>> {
        self.inner.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
