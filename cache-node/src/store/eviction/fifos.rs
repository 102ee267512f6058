//! Two first-in-first-out queues over one table of objects: any of them is found by digest and taken out of its queue
//! at a constant cost. Links are indices, so 200,000 objects are two allocations.

use std::hash::{BuildHasher as _, RandomState};

use hashbrown::HashTable;

use crate::oci::Digest;

/// No index: the end of a chain.
const NONE: u32 = u32::MAX;

/// The two queues of S3-FIFO.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// For what is new.
    Small,
    /// For what has been used.
    Main,
}

/// What is known of an object.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    /// Since it came into its queue or was last passed over.
    pub(super) uses: u8,
    place: Place,
    older: u32,
    /// In an entry that is free, the next free one.
    newer: u32,
}

#[derive(Debug)]
struct Fifo {
    oldest: u32,
    newest: u32,
    len: usize,
    bytes: u64,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Fifos {
    entries: Vec<Entry>,
    free: u32,
    index: HashTable<u32>,
    hasher: RandomState,
    small: Fifo,
    main: Fifo,
}

impl Default for Fifos {
    fn default() -> Self {
        let empty = || Fifo {
            oldest: NONE,
            newest: NONE,
            len: 0,
            bytes: 0,
        };
        Self {
            entries: Vec::new(),
            free: NONE,
            index: HashTable::new(),
            hasher: RandomState::new(),
            small: empty(),
            main: empty(),
        }
    }
}

impl Fifos {
    /// A short form of `digest`, of this process only.
    pub(super) fn hash(&self, digest: &Digest) -> u64 {
        self.hasher.hash_one(digest)
    }

    pub(super) fn len(&self, place: Place) -> usize {
        self.fifo(place).len
    }

    pub(super) fn bytes(&self, place: Place) -> u64 {
        self.fifo(place).bytes
    }

    /// The counter of an object that is in a queue.
    pub(super) fn uses_mut(&mut self, digest: &Digest) -> Option<&mut u8> {
        let at = *self.index.find(self.hash(digest), |&at| {
            self.entries[at as usize].digest == *digest
        })?;
        Some(&mut self.entries[at as usize].uses)
    }

    /// Who has been longest in the queue.
    pub(super) fn oldest_mut(&mut self, place: Place) -> Option<&mut Entry> {
        let oldest = self.fifo(place).oldest;
        self.entries.get_mut(oldest as usize)
    }

    /// Puts an object that is in no queue at the end of one.
    pub(super) fn push(&mut self, digest: Digest, bytes: u64, place: Place) {
        let entry = Entry {
            digest,
            bytes,
            uses: 0,
            place,
            older: NONE,
            newer: NONE,
        };
        let at = if self.free == NONE {
            self.entries.push(entry);
            (self.entries.len() - 1) as u32
        } else {
            let at = self.free;
            self.free = self.entries[at as usize].newer;
            self.entries[at as usize] = entry;
            at
        };
        let Self {
            entries,
            index,
            hasher,
            ..
        } = self;
        index.insert_unique(hasher.hash_one(digest), at, |&at| {
            hasher.hash_one(entries[at as usize].digest)
        });
        self.link(at, place);
    }

    /// Takes an object out, if it is there.
    pub(super) fn remove(&mut self, digest: &Digest) {
        let hash = self.hash(digest);
        let found = self
            .index
            .find_entry(hash, |&at| self.entries[at as usize].digest == *digest);
        if let Ok(found) = found {
            let (at, _) = found.remove();
            self.unlink(at);
            self.entries[at as usize].newer = self.free;
            self.free = at;
        }
    }

    /// Moves who has been longest in a queue to the end of one.
    pub(super) fn requeue_oldest(&mut self, from: Place, to: Place) {
        let oldest = self.fifo(from).oldest;
        if oldest != NONE {
            self.unlink(oldest);
            self.link(oldest, to);
        }
    }

    fn link(&mut self, at: u32, place: Place) {
        let newest = self.fifo(place).newest;
        let entry = &mut self.entries[at as usize];
        (entry.place, entry.older, entry.newer) = (place, newest, NONE);
        let bytes = entry.bytes;
        if let Some(before) = self.entries.get_mut(newest as usize) {
            before.newer = at;
        }
        let fifo = self.fifo_mut(place);
        fifo.newest = at;
        if fifo.oldest == NONE {
            fifo.oldest = at;
        }
        fifo.len += 1;
        fifo.bytes += bytes;
    }

    fn unlink(&mut self, at: u32) {
        let Entry {
            bytes,
            place,
            older,
            newer,
            ..
        } = self.entries[at as usize];
        if let Some(before) = self.entries.get_mut(older as usize) {
            before.newer = newer;
        }
        if let Some(after) = self.entries.get_mut(newer as usize) {
            after.older = older;
        }
        let fifo = self.fifo_mut(place);
        if fifo.oldest == at {
            fifo.oldest = newer;
        }
        if fifo.newest == at {
            fifo.newest = older;
        }
        fifo.len -= 1;
        fifo.bytes -= bytes;
    }

    fn fifo(&self, place: Place) -> &Fifo {
        match place {
            Place::Small => &self.small,
            Place::Main => &self.main,
        }
    }

    fn fifo_mut(&mut self, place: Place) -> &mut Fifo {
        match place {
            Place::Small => &mut self.small,
            Place::Main => &mut self.main,
        }
    }
}
