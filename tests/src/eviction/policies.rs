//! The policies that are compared. Those that the store does not have are written to be read, not to be fast.

use std::collections::{BTreeMap, HashMap};

use cache_node::oci::Digest;
use cache_node::store::eviction::Queue;

/// Says what goes when room is needed.
pub trait Policy: Default {
    /// An object has come in.
    fn insert(&mut self, object: Digest, bytes: u64);
    /// An object was found at start; called from the least to the most recently used.
    fn restore(&mut self, object: Digest, bytes: u64) {
        self.insert(object, bytes);
    }
    /// An object that is there was used.
    fn hit(&mut self, object: &Digest);
    /// Takes out what is to go.
    fn pick(&mut self) -> Option<Digest>;
}

/// The store's own.
impl Policy for Queue {
    fn insert(&mut self, object: Digest, bytes: u64) {
        self.insert(object, bytes);
    }

    fn restore(&mut self, object: Digest, bytes: u64) {
        self.restore(object, bytes);
    }

    fn hit(&mut self, object: &Digest) {
        self.hit(object);
    }

    fn pick(&mut self) -> Option<Digest> {
        self.pick(|_| true)
    }
}

/// The least recently used goes.
#[derive(Default)]
pub struct Lru {
    uses: u64,
    order: BTreeMap<u64, Digest>,
    places: HashMap<Digest, u64>,
}

impl Policy for Lru {
    fn insert(&mut self, object: Digest, _: u64) {
        self.uses += 1;
        self.order.insert(self.uses, object);
        self.places.insert(object, self.uses);
    }

    fn hit(&mut self, object: &Digest) {
        if let Some(place) = self.places.remove(object) {
            self.order.remove(&place);
            self.insert(*object, 0);
        }
    }

    fn pick(&mut self) -> Option<Digest> {
        let (_, object) = self.order.pop_first()?;
        self.places.remove(&object);
        Some(object)
    }
}

/// SIEVE (Zhang et al., NSDI 2024): a hand goes round from the oldest to the newest; who was used since it last came
/// by stays where it is.
#[derive(Default)]
pub struct Sieve {
    inserted: u64,
    hand: u64,
    order: BTreeMap<u64, (Digest, bool)>,
    places: HashMap<Digest, u64>,
}

impl Policy for Sieve {
    fn insert(&mut self, object: Digest, _: u64) {
        self.inserted += 1;
        self.order.insert(self.inserted, (object, false));
        self.places.insert(object, self.inserted);
    }

    fn hit(&mut self, object: &Digest) {
        let entry = self
            .places
            .get(object)
            .and_then(|place| self.order.get_mut(place));
        if let Some((_, was_used)) = entry {
            *was_used = true;
        }
    }

    fn pick(&mut self) -> Option<Digest> {
        while !self.order.is_empty() {
            let Some((&place, (object, was_used))) = self.order.range_mut(self.hand..).next() else {
                self.hand = 0;
                continue;
            };
            self.hand = place + 1;
            if std::mem::take(was_used) {
                continue;
            }
            let object = *object;
            self.order.remove(&place);
            self.places.remove(&object);
            return Some(object);
        }
        None
    }
}
