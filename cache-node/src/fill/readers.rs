//! Where the readers of a fill are: what a window in memory may drop, and who holds the others up. Pure.

use std::collections::HashMap;

pub(super) type ReaderId = u64;

#[derive(Clone, Copy, Debug)]
struct Position {
    /// The next byte that it wants.
    offset: u64,
    /// Whether it waits for that byte.
    is_waiting: bool,
}

/// The readers of one fill, and the first byte that is kept for them.
#[derive(Debug, Default)]
pub(super) struct Readers {
    positions: HashMap<ReaderId, Position>,
    last_id: ReaderId,
    floor: u64,
}

impl Readers {
    pub(super) fn join(&mut self, offset: u64) -> ReaderId {
        self.last_id += 1;
        let is_waiting = false;
        self.positions
            .insert(self.last_id, Position { offset, is_waiting });
        self.last_id
    }

    pub(super) fn leave(&mut self, id: ReaderId) {
        self.positions.remove(&id);
    }

    pub(super) fn count(&self) -> usize {
        self.positions.len()
    }

    /// Notes that reader `id` wants the byte at `offset` next; true if that changes what is known.
    pub(super) fn wants(&mut self, id: ReaderId, offset: u64, is_waiting: bool) -> bool {
        let now = Position { offset, is_waiting };
        self.positions.get_mut(&id).is_some_and(|position| {
            let is_new = (position.offset, position.is_waiting) != (offset, is_waiting);
            *position = now;
            is_new
        })
    }

    /// The first byte that is still there.
    pub(super) fn floor(&self) -> u64 {
        self.floor
    }

    /// Moves the floor up to what the slowest reader wants, but not beyond `limit`.
    pub(super) fn raise_floor(&mut self, limit: u64) -> u64 {
        let slowest = self.kept_up().map(|position| position.offset).min();
        self.floor = self.floor.max(slowest.unwrap_or(limit).min(limit));
        self.floor
    }

    /// Whether somebody waits for the byte at `front`, which others keep from coming.
    pub(super) fn is_anybody_held_up(&self, front: u64) -> bool {
        self.kept_up()
            .any(|position| position.is_waiting && position.offset >= front)
            && self.kept_up().any(|position| position.offset < front)
    }

    /// Leaves the slowest readers behind: the floor moves to the next one, but not beyond `limit`.
    pub(super) fn leave_slowest_behind(&mut self, limit: u64) {
        let slowest = self.kept_up().map(|position| position.offset).min();
        let next = slowest.and_then(|slowest| {
            let offsets = self.kept_up().map(|position| position.offset);
            offsets.filter(|&offset| offset > slowest).min()
        });
        self.floor = self.floor.max(next.unwrap_or(limit).min(limit));
    }

    /// Those who have not been left behind.
    fn kept_up(&self) -> impl Iterator<Item = &Position> {
        self.positions
            .values()
            .filter(|position| position.offset >= self.floor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_floor_follows_the_slowest_and_never_falls() {
        let mut readers = Readers::default();
        assert_eq!(
            readers.raise_floor(10),
            10,
            "nobody reads: nothing is kept but for the hash"
        );
        let (slow, fast) = (readers.join(10), readers.join(10));
        readers.wants(fast, 90, true);
        readers.wants(slow, 30, false);
        assert_eq!(readers.raise_floor(100), 30);
        assert_eq!(readers.raise_floor(20), 30);
        readers.leave(slow);
        assert_eq!(readers.raise_floor(100), 90);
        let late = readers.join(10);
        assert_eq!(
            readers.raise_floor(100),
            90,
            "whoever is behind the floor holds nobody up"
        );
        readers.leave(late);
        assert_eq!((readers.count(), readers.floor()), (1, 90));
    }

    #[test]
    fn only_who_holds_others_up_is_left_behind() {
        let mut readers = Readers::default();
        let (slow, fast) = (readers.join(0), readers.join(0));
        assert!(!readers.is_anybody_held_up(100), "nobody waits");
        assert!(readers.wants(fast, 100, true));
        assert!(!readers.wants(fast, 100, true));
        assert!(readers.is_anybody_held_up(100));
        readers.leave_slowest_behind(100);
        assert_eq!(readers.floor(), 100);
        assert!(!readers.is_anybody_held_up(100));
        readers.wants(slow, 50, false);
        assert_eq!(readers.raise_floor(120), 100);
    }

    #[test]
    fn a_reader_alone_is_waited_for() {
        let mut readers = Readers::default();
        let only = readers.join(0);
        readers.wants(only, 5, false);
        assert!(!readers.is_anybody_held_up(100));
        let ahead = readers.join(500);
        readers.wants(ahead, 500, true);
        assert!(
            readers.is_anybody_held_up(100),
            "it waits for bytes that do not come"
        );
    }
}
