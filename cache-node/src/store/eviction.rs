//! Stand-in until the policy lands: least recently used first.
use crate::oci::Digest;
use std::collections::{BTreeMap, HashMap};

#[derive(Debug, Default)]
pub(super) struct Queue {
    order: BTreeMap<u64, Digest>,
    ticks: HashMap<Digest, u64>,
    now: u64,
}

impl Queue {
    pub(super) fn insert(&mut self, digest: Digest, _bytes: u64) {
        self.remove(&digest);
        self.now += 1;
        self.order.insert(self.now, digest);
        self.ticks.insert(digest, self.now);
    }
    pub(super) fn restore(&mut self, digest: Digest, bytes: u64) {
        self.insert(digest, bytes);
    }
    pub(super) fn hit(&mut self, digest: &Digest) {
        if self.ticks.contains_key(digest) {
            self.insert(*digest, 0);
        }
    }
    pub(super) fn remove(&mut self, digest: &Digest) {
        if let Some(tick) = self.ticks.remove(digest) {
            self.order.remove(&tick);
        }
    }
    pub(super) fn pick(&mut self, mut may_go: impl FnMut(&Digest) -> bool) -> Option<Digest> {
        let found = self.order.values().find(|digest| may_go(digest)).copied()?;
        self.remove(&found);
        Some(found)
    }
}
