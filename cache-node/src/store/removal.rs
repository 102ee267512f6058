//! Taking content out: which objects go, and how their files do.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::index::{Entry, Index};
use super::room::Shortage;
use super::{Kind, Shared, Store};
use crate::oci::Digest;

/// Why content was removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Removal {
    /// The store would hold more than its capacity.
    Capacity,
    /// Less would be free on the file system than must be.
    FreeSpace,
    /// The file system has too few files left.
    Inodes,
    /// A person wanted its room.
    Evicted,
    /// A person wanted it gone.
    Purged,
}

impl Removal {
    /// The value of the `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::FreeSpace => "free_space",
            Self::Inodes => "inodes",
            Self::Evicted => "evicted",
            Self::Purged => "purged",
        }
    }
}

/// Something that is listed no more, and whose files are still there.
#[derive(Clone, Copy, Debug)]
pub(super) enum Victim {
    Object { digest: Digest, stored_bytes: u64 },
    Partial { digest: Digest, stored_bytes: u64 },
}

impl Victim {
    fn digest(&self) -> &Digest {
        match self {
            Self::Object { digest, .. } | Self::Partial { digest, .. } => digest,
        }
    }

    fn stored_bytes(&self) -> u64 {
        match self {
            Self::Object { stored_bytes, .. } | Self::Partial { stored_bytes, .. } => *stored_bytes,
        }
    }
}

/// What has been counted since the start.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Objects removed, by [`Removal::as_str`].
    pub removed: BTreeMap<&'static str, u64>,
    /// Contents that were not taken in, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Contents found not to be what they should be, by how it was found.
    pub condemned: BTreeMap<&'static str, u64>,
    /// When content last reached the disk, in seconds since the epoch; 0 for never.
    pub last_sync_s: u64,
    /// Bytes that the scrub has hashed anew.
    pub scrubbed_bytes: u64,
    /// How much of the content the scrub has seen in this round, from 0 to 100.
    pub scrub_percent: u64,
}

#[derive(Debug, Default)]
pub(super) struct Tallies(Mutex<Tally>);

impl Tallies {
    pub(super) fn removed(&self, removal: Removal, victim: &Victim) {
        tracing::debug!(digest = %victim.digest(), stored_bytes = victim.stored_bytes(), reason = removal.as_str(),
            "content removed");
        self.count(|tally| tally.removed.entry(removal.as_str()).or_default());
    }

    pub(super) fn refused(&self, reason: &'static str) {
        self.count(|tally| tally.refused.entry(reason).or_default());
    }

    pub(super) fn condemned(&self, finding: &'static str) {
        self.count(|tally| tally.condemned.entry(finding).or_default());
    }

    /// Content has reached the disk.
    pub(super) fn synced(&self) {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        self.lock().last_sync_s = now.unwrap_or_default().as_secs();
    }

    /// The scrub has hashed so many bytes more, and is so far in its round.
    pub(super) fn scrubbed(&self, bytes: u64, percent: u64) {
        let mut tally = self.lock();
        tally.scrubbed_bytes += bytes;
        tally.scrub_percent = percent;
    }

    fn lock(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn count(&self, counter: impl FnOnce(&mut Tally) -> &mut u64) {
        *counter(&mut self.lock()) += 1;
    }

    fn get(&self) -> Tally {
        self.lock().clone()
    }
}

/// Who goes before whom: the order of use counts within a rank only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Layer,
    /// Manifests and configs are small, and without them nobody can say what the layers are for.
    Small,
    NeededLayer,
    NeededSmall,
}

impl Rank {
    const ALL: [Self; 4] = [Self::Layer, Self::Small, Self::NeededLayer, Self::NeededSmall];

    fn of(kind: Kind, is_needed: bool) -> Self {
        match (kind, is_needed) {
            (Kind::Layer, false) => Self::Layer,
            (Kind::Manifest | Kind::Config, false) => Self::Small,
            (Kind::Layer, true) => Self::NeededLayer,
            (Kind::Manifest | Kind::Config, true) => Self::NeededSmall,
        }
    }
}

impl Index {
    /// Takes off the list what has to go for `shortage`; `None`, and nothing is taken, if that is not enough and
    /// `is_partly_enough` does not hold.
    pub(super) fn pick(
        &mut self,
        shortage: Shortage,
        needed: &HashSet<Digest>,
        pinned_bytes_max: u64,
        is_partly_enough: bool,
    ) -> Option<Vec<Victim>> {
        let mut pinned_bytes: u64 = self
            .protected
            .pinned
            .iter()
            .map(|digest| self.stored(digest))
            .sum();
        if !is_partly_enough && !self.has_enough(shortage, pinned_bytes_max) {
            return None;
        }
        let mut victims = Vec::new();
        let mut left = shortage;
        while !left.is_none()
            && let Some(victim) = self.oldest_partial()
        {
            left = left.without(&victim);
            victims.push(victim);
        }
        for rank in Rank::ALL {
            while !left.is_none()
                && let Some(victim) = self.least_valuable(|index, digest, entry| {
                    Rank::of(entry.kind(), needed.contains(digest)) == rank
                        && (pinned_bytes > pinned_bytes_max || !index.protected.pinned.contains(digest))
                })
            {
                if self.protected.pinned.contains(victim.digest()) {
                    pinned_bytes = pinned_bytes.saturating_sub(victim.stored_bytes());
                }
                left = left.without(&victim);
                victims.push(victim);
            }
        }
        let removing = victims
            .iter()
            .map(|victim| (*victim.digest(), victim.stored_bytes()));
        self.removing.extend(removing);
        Some(victims)
    }

    /// Takes off the list what is worth the least of what takes up to `bytes_max`, no fresh name needs and nobody has pinned.
    pub(super) fn pick_spare(&mut self, needed: &HashSet<Digest>, bytes_max: u64) -> Option<Victim> {
        let may_go = |index: &Self, digest: &Digest, entry: &Entry| {
            entry.kind() == Kind::Layer
                && entry.stored_bytes <= bytes_max
                && !needed.contains(digest)
                && !index.protected.pinned.contains(digest)
        };
        let victim = self.oldest_partial().or_else(|| self.least_valuable(may_go))?;
        self.removing.insert(*victim.digest(), victim.stored_bytes());
        Some(victim)
    }

    fn stored(&self, digest: &Digest) -> u64 {
        self.get(digest).map_or(0, |entry| entry.stored_bytes)
    }

    fn has_enough(&self, shortage: Shortage, pinned_bytes_max: u64) -> bool {
        let mut idle = self.iter().filter(|(_, entry)| !entry.is_in_use());
        let (mut bytes, mut objects) = (self.idle_bytes(), self.partials.len() as u64);
        let mut pinned_bytes: u64 = 0;
        loop {
            if bytes - pinned_bytes.min(pinned_bytes_max) >= shortage.bytes && objects >= shortage.objects {
                return true;
            }
            let Some((digest, entry)) = idle.next() else {
                return false;
            };
            bytes += entry.stored_bytes;
            objects += 1;
            if self.protected.pinned.contains(digest) {
                pinned_bytes += entry.stored_bytes;
            }
        }
    }

    fn oldest_partial(&mut self) -> Option<Victim> {
        let oldest = self.partials.iter().min_by_key(|(_, partial)| partial.since)?;
        let (&digest, &partial) = oldest;
        self.partials.remove(&digest);
        Some(Victim::Partial {
            digest,
            stored_bytes: partial.stored_bytes,
        })
    }

    fn least_valuable(&mut self, may_go: impl Fn(&Self, &Digest, &Entry) -> bool) -> Option<Victim> {
        let mut queue = std::mem::take(&mut self.queue);
        let picked = queue.pick(|digest| {
            let entry = self.get(digest);
            entry.is_some_and(|entry| !entry.is_in_use() && may_go(self, digest, entry))
        });
        self.queue = queue;
        let digest = picked?;
        let Entry { stored_bytes, .. } = self.remove(&digest)?;
        Some(Victim::Object { digest, stored_bytes })
    }

    /// What is listed no more and will be free in a moment, in bytes.
    pub(super) fn vanishing_bytes(&self) -> u64 {
        self.removing.values().sum()
    }
}

impl Shortage {
    fn without(self, victim: &Victim) -> Self {
        Self {
            bytes: self.bytes.saturating_sub(victim.stored_bytes()),
            objects: self.objects.saturating_sub(1),
        }
    }
}

impl Shared {
    /// Gives back the room of a file that nobody reads: some file systems, XFS among them, free what has lost its name at a
    /// moment of their own choice, and others would take the room before.
    pub(super) fn empty(&self, victim: &Victim) {
        let path = match victim {
            Victim::Object { digest, .. } => self.layout.blob(digest),
            Victim::Partial { digest, .. } => self.layout.partial_data(digest),
        };
        // It goes in any case, if later.
        if let Err(error) = self.layout.disk().empty(&path) {
            tracing::debug!(digest = %victim.digest(), %error, "content that is listed no more cannot be emptied");
        }
    }

    /// Removes the files of something that is listed no more, and lets others have its name again.
    pub(super) fn unlink(&self, victim: &Victim) {
        let digest = victim.digest();
        let disk = self.layout.disk();
        let removed = match victim {
            // The record of its type first: it means nothing without the content.
            Victim::Object { .. } => disk
                .remove(&self.layout.manifest(digest))
                .and_then(|()| disk.remove(&self.layout.blob(digest))),
            Victim::Partial { .. } => disk
                .remove(&self.layout.partial_journal(digest))
                .and_then(|()| disk.remove(&self.layout.partial_data(digest))),
        };
        if let Err(error) = removed {
            tracing::warn!(%digest, %error, "content that is listed no more cannot be removed");
        }
        self.free_name(digest);
    }

    /// Files may get the name of `digest` again.
    pub(super) fn free_name(&self, digest: &Digest) {
        self.index().removing.remove(digest);
        self.removed.notify_all();
    }

    /// Waits until no file of that name is being removed.
    pub(super) fn wait_for_name(&self, digest: &Digest) {
        let index = self.index();
        let waited = self
            .removed
            .wait_while(index, |index| index.removing.contains_key(digest));
        drop(waited.unwrap_or_else(PoisonError::into_inner));
    }

    /// What fresh names need: the manifests that they mean, and everything that those name.
    pub(super) fn needed(&self) -> HashSet<Digest> {
        let roots = self.index().protected.roots.clone();
        let mut needed = HashSet::new();
        let mut left: Vec<_> = roots.into_iter().collect();
        while let Some(digest) = left.pop() {
            if needed.insert(digest) {
                left.extend(self.children(&digest).iter());
            }
        }
        needed
    }

    /// What a manifest names; nothing for what is none, or is not here.
    fn children(&self, digest: &Digest) -> Arc<[Digest]> {
        let index = self.index();
        if let Some(children) = index.children.get(digest) {
            return Arc::clone(children);
        }
        let manifest = index.get(digest).filter(|entry| entry.kind() == Kind::Manifest);
        // While it is held, nobody empties the file.
        let lease = manifest.map(|entry| Arc::clone(&entry.lease));
        drop(index);
        match lease {
            Some(_) => self.read_children(digest).unwrap_or_default(),
            None => Arc::default(),
        }
    }
}

impl Store {
    /// Removes an object whatever it is worth; who reads it reads on. True if it was listed. Blocks.
    pub fn remove(&self, digest: &Digest, removal: Removal) -> bool {
        let victim = {
            let mut index = self.shared.index();
            let Some(entry) = index.remove(digest) else {
                return false;
            };
            index.removing.insert(*digest, entry.stored_bytes);
            Victim::Object {
                digest: *digest,
                stored_bytes: entry.stored_bytes,
            }
        };
        self.shared.unlink(&victim);
        self.shared.tallies.removed(removal, &victim);
        true
    }

    /// What has been counted since the start.
    pub fn tally(&self) -> Tally {
        self.shared.tallies.get()
    }
}
