//! What the store holds, and how much room that takes: all in memory, rebuilt from the directory at start.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use super::Fingerprint;
use super::eviction::Queue;
use super::room::OBJECTS_MAX;
use crate::oci::{Digest, MediaType};

/// Requests that follow each other sooner are one use: ranges of a blob, a HEAD before its GET, a pull that is tried again.
pub(super) const ONE_USE: Duration = Duration::from_mins(10);

/// What content is to those who name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A manifest, an index, or a list of referrers.
    Manifest,
    /// What a manifest names as its configuration.
    Config,
    /// Everything else: layers, for the most part.
    Layer,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::Manifest, Self::Config, Self::Layer];

    /// The kind as metrics and tables write it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Config => "config",
            Self::Layer => "layer",
        }
    }
}

/// Held by whoever reads an object: while one lives, the object is not evicted.
#[derive(Debug, Default)]
pub struct Lease {
    is_condemned: AtomicBool,
}

impl Lease {
    /// Whether the content has been found not to be what it should be: what is still to be read of it is worth nothing.
    pub fn is_condemned(&self) -> bool {
        self.is_condemned.load(Ordering::Relaxed)
    }

    /// Takes the content away from all who read it.
    pub fn condemn(&self) {
        self.is_condemned.store(true, Ordering::Relaxed);
    }
}

/// Verified content on disk.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) fingerprint: Fingerprint,
    /// The room that it takes on disk, its records included, in bytes.
    pub(super) stored_bytes: u64,
    pub(super) media_type: Option<MediaType>,
    pub(super) is_config: bool,
    pub(super) last_used: SystemTime,
    /// Whether the file does not know of `last_used` yet.
    pub(super) is_use_unrecorded: bool,
    pub(super) lease: Arc<Lease>,
}

impl Entry {
    pub(super) fn kind(&self) -> Kind {
        match &self.media_type {
            Some(_) => Kind::Manifest,
            None if self.is_config => Kind::Config,
            None => Kind::Layer,
        }
    }

    pub(super) fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.lease) > 1
    }
}

/// Objects and bytes of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Count {
    /// How many.
    pub objects: u64,
    /// The room that they take on disk, in bytes.
    pub stored_bytes: u64,
}

/// An unfinished fill that nobody works on.
#[derive(Clone, Copy, Debug)]
pub(super) struct IdlePartial {
    pub(super) stored_bytes: u64,
    pub(super) since: SystemTime,
}

/// The room that a running fill may take.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reserved {
    pub(super) bytes: u64,
    /// How much of that the disk still counts as free.
    pub(super) unallocated: u64,
}

pub(super) type ReservationId = u64;

#[derive(Debug, Default)]
pub(super) struct Index {
    objects: HashMap<Digest, Entry>,
    /// The order in which objects go.
    pub(super) queue: Queue,
    counts: [Count; Kind::ALL.len()],
    pub(super) partials: HashMap<Digest, IdlePartial>,
    pub(super) reservations: HashMap<ReservationId, Reserved>,
    last_reservation: ReservationId,
    /// Objects whose files are being removed, with the bytes that this frees: nobody may put new ones in their place yet.
    pub(super) removing: HashMap<Digest, u64>,
    /// Ledgers and what is in quarantine, in bytes.
    pub(super) overhead_bytes: u64,
    /// What manifests name, as far as they have been read.
    pub(super) children: HashMap<Digest, Arc<[Digest]>>,
    /// What manifests name as their configuration.
    configs: HashSet<Digest>,
    /// What must not go while something else is left.
    pub(super) protected: Protected,
}

/// What is worth more than its use says.
#[derive(Clone, Debug, Default)]
pub struct Protected {
    /// What fresh names mean: with all that these manifests name, it goes last.
    pub roots: HashSet<Digest>,
    /// Content of pinned repositories: it does not go at all, as long as it stays within its share.
    pub pinned: HashSet<Digest>,
}

impl Index {
    pub(super) fn get(&self, digest: &Digest) -> Option<&Entry> {
        self.objects.get(digest)
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&Digest, &Entry)> {
        self.objects.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&Digest, &mut Entry)> {
        self.objects.iter_mut()
    }

    /// Lists a new object, in place of an older one of that digest.
    pub(super) fn insert(&mut self, digest: Digest, entry: Entry) {
        self.remove(&digest);
        self.queue.insert(digest, entry.stored_bytes);
        self.list(digest, entry);
    }

    /// Lists an object that was found at start; called from the one used longest ago to the one used last.
    pub(super) fn restore(&mut self, digest: Digest, entry: Entry) {
        self.queue.restore(digest, entry.stored_bytes);
        self.list(digest, entry);
    }

    fn list(&mut self, digest: Digest, mut entry: Entry) {
        entry.is_config |= self.configs.contains(&digest);
        self.count(entry.kind(), |count| {
            count.objects += 1;
            count.stored_bytes += entry.stored_bytes;
        });
        self.objects.insert(digest, entry);
    }

    pub(super) fn remove(&mut self, digest: &Digest) -> Option<Entry> {
        let entry = self.objects.remove(digest)?;
        self.queue.remove(digest);
        self.children.remove(digest);
        self.count(entry.kind(), |count| {
            count.objects -= 1;
            count.stored_bytes -= entry.stored_bytes;
        });
        Some(entry)
    }

    /// Notes a use of the object: it is worth more from now on.
    pub(super) fn touch(&mut self, digest: &Digest, now: SystemTime) {
        if let Some(entry) = self.objects.get_mut(digest) {
            let is_another = now
                .duration_since(entry.last_used)
                .is_ok_and(|apart| apart >= ONE_USE);
            entry.last_used = now;
            entry.is_use_unrecorded = true;
            if is_another {
                self.queue.hit(digest);
            }
        }
    }

    /// Notes what a manifest names.
    pub(super) fn learn(&mut self, manifest: &Digest, children: Arc<[Digest]>, config: Option<Digest>) {
        if self.objects.contains_key(manifest) {
            self.children.insert(*manifest, children);
        }
        let Some(config) = config else { return };
        if self.configs.len() >= OBJECTS_MAX {
            // Manifests that are read again teach them anew.
            self.configs.clear();
        }
        self.configs.insert(config);
        self.relist(&config, |entry| entry.is_config = true);
    }

    /// Makes the object a manifest of this type, whose record takes `record_bytes`.
    pub(super) fn set_media_type(&mut self, digest: &Digest, media_type: MediaType, record_bytes: u64) {
        self.relist(digest, |entry| {
            if entry.media_type.replace(media_type).is_none() {
                entry.stored_bytes += record_bytes;
            }
        });
    }

    /// Changes what decides of which kind an object is.
    fn relist(&mut self, digest: &Digest, change: impl FnOnce(&mut Entry)) {
        let Some(mut entry) = self.objects.remove(digest) else {
            return;
        };
        let stored_bytes = entry.stored_bytes;
        self.count(entry.kind(), |count| {
            count.objects -= 1;
            count.stored_bytes -= stored_bytes;
        });
        change(&mut entry);
        self.list(*digest, entry);
    }

    fn count(&mut self, kind: Kind, change: impl FnOnce(&mut Count)) {
        let place = Kind::ALL.iter().position(|other| *other == kind);
        if let Some(count) = place.and_then(|place| self.counts.get_mut(place)) {
            change(count);
        }
    }

    pub(super) fn counts(&self) -> impl Iterator<Item = (Kind, Count)> {
        Kind::ALL.into_iter().zip(self.counts)
    }

    /// The bytes of unfinished fills that nobody works on.
    pub(super) fn idle_bytes(&self) -> u64 {
        self.partials.values().map(|partial| partial.stored_bytes).sum()
    }

    /// The bytes that running fills may take, and how many of them the disk still counts as free.
    pub(super) fn reserved(&self) -> Reserved {
        let mut all = Reserved::default();
        for one in self.reservations.values() {
            all.bytes += one.bytes;
            all.unallocated += one.unallocated;
        }
        all
    }

    /// Everything that counts against the capacity, in bytes.
    pub(super) fn used_bytes(&self) -> u64 {
        let objects: u64 = self.counts.iter().map(|count| count.stored_bytes).sum();
        objects + self.idle_bytes() + self.reserved().bytes + self.overhead_bytes
    }

    pub(super) fn reserve(&mut self, reserved: Reserved) -> ReservationId {
        self.last_reservation += 1;
        self.reservations.insert(self.last_reservation, reserved);
        self.last_reservation
    }
}
