//! Who fetches which bytes: the pure part of a fill.
//!
//! A *segment* is one upstream response on its way through the blob. It ends where the next present byte, the next
//! segment or the blob's end begins, so a new segment shortens the one before it just by existing, and one that
//! goes away lengthens it again. Between claiming bytes and having written them they belong to the segment.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::store::RangeSet;

/// The most responses that one fill reads from at once.
pub(super) const SEGMENTS_MAX: usize = 8;
/// A reader this close before a segment waits for it; one further ahead gets a segment of its own.
pub(super) const NEAR_BYTES: u64 = 2 << 20;

pub(super) type SegmentId = u64;

#[derive(Clone, Debug)]
struct Segment {
    /// The next byte to be written.
    next: u64,
    /// The next byte that nobody writes yet.
    claimed: u64,
    is_started: bool,
}

/// What is present, and who fetches what is not.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    length: Option<u64>,
    present: RangeSet,
    segments: BTreeMap<SegmentId, Segment>,
    last_id: SegmentId,
    allows_ranges: bool,
    /// There is one segment, and it goes from the first byte to the last.
    is_sequential: bool,
}

impl Plan {
    pub(super) fn new(length: Option<u64>, present: RangeSet) -> Self {
        Self {
            length,
            present,
            segments: BTreeMap::new(),
            last_id: 0,
            allows_ranges: true,
            is_sequential: false,
        }
    }

    /// The blob's length in bytes, once it is known.
    pub(super) fn length(&self) -> Option<u64> {
        self.length
    }

    pub(super) fn set_length(&mut self, length: u64) {
        self.length = Some(length);
    }

    pub(super) fn present(&self) -> &RangeSet {
        &self.present
    }

    pub(super) fn is_complete(&self) -> bool {
        self.length
            .is_some_and(|length| self.present.end_of_run(0) >= length)
    }

    /// Whether upstream has kept its word on ranges so far.
    pub(super) fn allows_ranges(&self) -> bool {
        self.allows_ranges
    }

    /// Upstream does not honour ranges: from now on there is one segment, and it starts at the first byte.
    pub(super) fn forbid_ranges(&mut self) {
        self.allows_ranges = false;
    }

    /// From now on bytes come in their order: a reader ahead waits for them.
    pub(super) fn make_sequential(&mut self) {
        self.is_sequential = true;
    }

    /// Where the bytes that are there from the first one on end.
    pub(super) fn front(&self) -> u64 {
        self.present.end_of_run(0)
    }

    /// Segments that nobody works on yet; they count as started from now on.
    pub(super) fn start_segments(&mut self) -> Vec<SegmentId> {
        let waiting = self
            .segments
            .iter_mut()
            .filter(|(_, segment)| !segment.is_started);
        waiting
            .map(|(&id, segment)| {
                segment.is_started = true;
                id
            })
            .collect()
    }

    /// A reader waits for the byte at `offset`: adds a segment when nobody is on the way to it.
    pub(super) fn want(&mut self, offset: u64) -> bool {
        let is_inside = self.length.is_some_and(|length| offset < length);
        let has_room = self.allows_ranges && !self.is_sequential && self.segments.len() < SEGMENTS_MAX;
        if !is_inside || !has_room || self.present.end_of_run(offset) > offset {
            return false;
        }
        let is_coming = self.segments.iter().any(|(&id, segment)| {
            let reaches = self.end_of(id).is_none_or(|end| offset < end);
            segment.next <= offset && reaches && offset < segment.claimed.saturating_add(NEAR_BYTES)
        });
        if !is_coming {
            self.add(offset);
        }
        !is_coming
    }

    /// Adds a segment for the first byte that is neither present nor on somebody's way.
    pub(super) fn fill_gap(&mut self) -> bool {
        let mut offset = 0;
        loop {
            offset = self.present.end_of_run(offset);
            if self.length.is_some_and(|length| offset >= length) {
                return false;
            }
            let covering = self
                .segments
                .iter()
                .find(|(_, segment)| segment.next == offset)
                .map(|(&id, _)| id);
            match covering.map(|id| self.end_of(id)) {
                Some(Some(end)) if end > offset => offset = end,
                Some(_) => return false,
                None => break,
            }
        }
        self.add(offset);
        true
    }

    /// What segment `id` still has to fetch: from its next byte to where somebody else begins. `None` when there is
    /// nothing left, or no such segment.
    pub(super) fn rest_of(&self, id: SegmentId) -> Option<(u64, Option<u64>)> {
        let start = self.segments.get(&id)?.claimed;
        let end = self.end_of(id);
        end.is_none_or(|end| end > start).then_some((start, end))
    }

    /// Takes up to `count` bytes, which segment `id` has received, for writing.
    pub(super) fn claim(&mut self, id: SegmentId, count: u64) -> Range<u64> {
        let Some((start, end)) = self.rest_of(id) else {
            return 0..0;
        };
        let until = start.saturating_add(count).min(end.unwrap_or(u64::MAX));
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.claimed = until;
        }
        start..until
    }

    /// The claimed bytes of segment `id` have been written.
    pub(super) fn written(&mut self, id: SegmentId, range: Range<u64>) {
        if let Some(segment) = self.segments.get_mut(&id) {
            segment.next = range.end;
        }
        self.present.insert(range);
    }

    /// Segment `id` is over, whether it came to its end or not.
    pub(super) fn remove(&mut self, id: SegmentId) {
        self.segments.remove(&id);
    }

    pub(super) fn is_idle(&self) -> bool {
        self.segments.is_empty()
    }

    fn add(&mut self, start: u64) {
        self.last_id += 1;
        self.segments.insert(
            self.last_id,
            Segment {
                next: start,
                claimed: start,
                is_started: false,
            },
        );
    }

    fn end_of(&self, id: SegmentId) -> Option<u64> {
        let start = self.segments.get(&id)?.claimed;
        let others = self.segments.iter().filter(|&(&other, _)| other != id);
        let next_segment = others
            .map(|(_, segment)| segment.next)
            .filter(|&next| next >= start)
            .min();
        let next_present = self.present.next_present(start);
        [next_segment, next_present, self.length]
            .into_iter()
            .flatten()
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Step {
        Want(u64),
        Receive(usize, u64),
        Break(usize),
    }

    const LENGTH: u64 = 40 << 20;

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..LENGTH).prop_map(Step::Want),
            (0usize..8, 1u64..(6 << 20)).prop_map(|(which, count)| Step::Receive(which, count)),
            (0usize..8).prop_map(Step::Break),
        ]
    }

    fn receive(plan: &mut Plan, id: SegmentId, count: u64, fetched: &mut RangeSet) {
        let range = plan.claim(id, count);
        if range.is_empty() {
            plan.remove(id);
            return;
        }
        let before = fetched.total();
        fetched.insert(range.clone());
        assert_eq!(
            fetched.total() - before,
            range.end - range.start,
            "bytes were fetched twice"
        );
        plan.written(id, range);
    }

    proptest! {
        #[test]
        fn every_byte_is_fetched_once(steps in prop::collection::vec(step(), 0..60)) {
            let mut plan = Plan::new(Some(LENGTH), RangeSet::default());
            let mut fetched = RangeSet::default();
            plan.fill_gap();
            for step in steps {
                let ids: Vec<_> = plan.segments.keys().copied().collect();
                match step {
                    Step::Want(offset) => { plan.want(offset); }
                    Step::Receive(which, count) if which < ids.len() => {
                        receive(&mut plan, ids[which], count, &mut fetched);
                    }
                    Step::Break(which) if which < ids.len() => plan.remove(ids[which]),
                    Step::Receive(..) | Step::Break(_) => {}
                }
                prop_assert!(plan.segments.len() <= SEGMENTS_MAX);
            }
            while !plan.is_complete() {
                plan.fill_gap();
                let ids: Vec<_> = plan.segments.keys().copied().collect();
                prop_assert!(!ids.is_empty(), "nobody fetches what is missing");
                ids.into_iter().for_each(|id| receive(&mut plan, id, 1 << 20, &mut fetched));
            }
            prop_assert_eq!(fetched.total(), LENGTH);
        }
    }

    #[test]
    fn a_near_reader_waits_and_a_far_one_does_not() {
        let mut plan = Plan::new(Some(LENGTH), RangeSet::default());
        assert!(plan.fill_gap());
        assert!(!plan.fill_gap(), "the first segment covers everything");
        assert!(!plan.want(NEAR_BYTES - 1));
        assert!(plan.want(LENGTH - 100));
        assert!(!plan.want(LENGTH - 90), "the new segment is on its way there");
        assert_eq!(plan.rest_of(1), Some((0, Some(LENGTH - 100))));
        plan.remove(2);
        assert_eq!(plan.rest_of(1), Some((0, Some(LENGTH))));
        plan.forbid_ranges();
        assert!(!plan.want(LENGTH - 100));
    }

    #[test]
    fn an_unknown_length_leaves_the_end_open() {
        let mut plan = Plan::new(None, RangeSet::default());
        plan.fill_gap();
        assert_eq!(plan.rest_of(1), Some((0, None)));
        assert!(!plan.want(LENGTH), "nobody knows whether there is such a byte");
        let range = plan.claim(1, 5);
        plan.written(1, range);
        plan.set_length(5);
        assert!(plan.is_complete());
        assert_eq!(plan.rest_of(1), None);
    }
}
