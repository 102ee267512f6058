//! Which object is worth least: the order in which the store gives content up when it needs room.
//!
//! S3-FIFO (Yang et al., "FIFO Queues are All You Need for Cache Eviction", SOSP 2023), with its queues measured in
//! bytes. What is new waits in a small queue; only what is used there comes into the main one, so a scan through
//! many images passes by what pulls need. What the small queue gave up is remembered for a while, and comes into the
//! main queue when it is asked for again. A use only raises a counter: no order changes, nothing is allocated.
//!
//! One rule is ours: what is next to nothing beside the rest, such as manifests and configs, needs no use to come
//! into the main queue and counts as often used there, because giving it up makes no room and costs a request.
//!
//! `docs/benchmarks.md` shows the hit ratios beside those of SIEVE and LRU.

mod fifos;
mod ghosts;

use crate::oci::Digest;
use fifos::{Fifos, Place};
use ghosts::Ghosts;

/// The small queue's share: 1/10 of all bytes.
const SMALL_SHARE_DIVISOR: u64 = 10;
/// An object of less than 1/100,000 of all bytes (half a MiB of 50 GiB) is next to nothing.
const TINY_DIVISOR: u64 = 100_000;
/// Uses are counted up to here: so many rounds in the main queue an object stays without another one.
const USES_MAX: u8 = 3;
/// After so many that may not go the small queue is left for the main one: the next call goes on where this one ended.
const REFUSALS_MAX: usize = 256;

/// Every object of the store, in two queues by what is known of its use. Knows no clock and no file.
#[derive(Debug, Default)]
pub struct Queue {
    fifos: Fifos,
    ghosts: Ghosts,
}

impl Queue {
    /// Adds an object that has just been stored; one that is known already begins anew.
    pub fn insert(&mut self, digest: Digest, bytes: u64) {
        self.fifos.remove(&digest);
        let place = if self.ghosts.take(self.fifos.hash(&digest)) {
            Place::Main
        } else {
            Place::Small
        };
        self.fifos.push(digest, bytes, place);
    }

    /// Adds an object that was found at start. To be called from the least to the most recently used: what had
    /// stayed until then need not prove itself again.
    pub fn restore(&mut self, digest: Digest, bytes: u64) {
        self.fifos.remove(&digest);
        self.fifos.push(digest, bytes, Place::Main);
    }

    /// Notes a use. The requests of one pull, such as ranges of a blob, are one use: counted singly they would make
    /// any image look popular.
    pub fn hit(&mut self, digest: &Digest) {
        if let Some(uses) = self.fifos.uses_mut(digest) {
            *uses = (*uses + 1).min(USES_MAX);
        }
    }

    /// Takes out what is no longer stored.
    pub fn remove(&mut self, digest: &Digest) {
        self.fifos.remove(digest);
    }

    /// The objects' lengths together.
    pub fn bytes(&self) -> u64 {
        self.fifos.bytes(Place::Small) + self.fifos.bytes(Place::Main)
    }

    /// Takes out the least valuable object of those for which `may_go` says yes. The others get another round in
    /// their queue; where none may go, each is asked twice at most, and none grows older.
    pub fn pick(&mut self, mut may_go: impl FnMut(&Digest) -> bool) -> Option<Digest> {
        let share = self.bytes() / SMALL_SHARE_DIVISOR;
        self.pick_small(share, REFUSALS_MAX, &mut may_go)
            .or_else(|| self.pick_main(&mut may_go))
            .or_else(|| self.pick_small(0, usize::MAX, &mut may_go))
            .or_else(|| self.pick_main(&mut may_go))
    }

    /// Goes round the small queue until something is given up, or so many were refused, or all that are left. What
    /// is refused takes no part of the `share` that the others may keep, in bytes.
    fn pick_small(
        &mut self,
        share: u64,
        refusals_max: usize,
        may_go: &mut impl FnMut(&Digest) -> bool,
    ) -> Option<Digest> {
        let (mut refused, mut refused_bytes) = (0, 0);
        while refused < refusals_max.min(self.fifos.len(Place::Small))
            && (share == 0 || self.fifos.bytes(Place::Small) - refused_bytes > share)
        {
            let all = self.bytes();
            let oldest = self.fifos.oldest_mut(Place::Small)?;
            let (digest, bytes) = (oldest.digest, oldest.bytes);
            let is_tiny = bytes < all / TINY_DIVISOR;
            if is_tiny || oldest.uses > 0 {
                oldest.uses = if is_tiny { USES_MAX } else { 0 };
                self.fifos.requeue_oldest(Place::Small, Place::Main);
            } else if !may_go(&digest) {
                refused += 1;
                refused_bytes += bytes;
                self.fifos.requeue_oldest(Place::Small, Place::Small);
            } else {
                self.fifos.remove(&digest);
                self.ghosts.add(self.fifos.hash(&digest), bytes, all);
                return Some(digest);
            }
        }
        None
    }

    /// Goes round the main queue until something is given up, or all of it was refused.
    fn pick_main(&mut self, may_go: &mut impl FnMut(&Digest) -> bool) -> Option<Digest> {
        let mut refused = 0;
        while refused < self.fifos.len(Place::Main) {
            let oldest = self.fifos.oldest_mut(Place::Main)?;
            let digest = oldest.digest;
            if !may_go(&digest) {
                refused += 1;
            } else if oldest.uses > 0 {
                oldest.uses -= 1;
                refused = 0;
            } else {
                self.fifos.remove(&digest);
                return Some(digest);
            }
            self.fifos.requeue_oldest(Place::Main, Place::Main);
        }
        None
    }
}

#[cfg(test)]
mod tests;
