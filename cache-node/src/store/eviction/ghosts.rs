//! What was given up without a use, remembered by a short form of its digest.

use std::collections::{HashMap, VecDeque};

/// So many are remembered: about 3 MiB.
const GHOSTS_MAX: usize = 65_536;

/// In the order in which they were given up.
#[derive(Debug, Default)]
pub(super) struct Ghosts {
    /// May name some that were taken since.
    order: VecDeque<u64>,
    /// The length of each in bytes.
    known: HashMap<u64, u64>,
    bytes: u64,
}

impl Ghosts {
    /// Remembers an object, and forgets the oldest ones where all together are longer than `bytes_max`.
    pub(super) fn add(&mut self, hash: u64, bytes: u64, bytes_max: u64) {
        self.take(hash);
        self.order.push_back(hash);
        self.known.insert(hash, bytes);
        self.bytes += bytes;
        while (self.bytes > bytes_max || self.order.len() > GHOSTS_MAX)
            && let Some(oldest) = self.order.pop_front()
        {
            self.take(oldest);
        }
    }

    /// Forgets an object and tells whether it was known.
    pub(super) fn take(&mut self, hash: u64) -> bool {
        let known = self.known.remove(&hash);
        self.bytes -= known.unwrap_or_default();
        known.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten_by_bytes_and_by_number() {
        let mut ghosts = Ghosts::default();
        (0..10).for_each(|hash| ghosts.add(hash, 10, 50));
        assert_eq!(ghosts.bytes, 50);
        assert!(!ghosts.take(4) && ghosts.take(5) && !ghosts.take(5));
        let many = GHOSTS_MAX as u64 + 100;
        (0..many).for_each(|hash| ghosts.add(hash, 1, u64::MAX));
        assert_eq!(
            (ghosts.order.len(), ghosts.bytes),
            (GHOSTS_MAX, GHOSTS_MAX as u64)
        );
        assert!(!ghosts.take(99) && ghosts.take(100));
        // Found and given up again and again: what is left of it in the order is bounded too.
        (0..3 * many).for_each(|_| ghosts.add(7, 1, u64::MAX));
        assert!(ghosts.order.len() <= GHOSTS_MAX);
    }
}
