//! The set of byte ranges of a file that are present.

use std::collections::BTreeMap;
use std::ops::Range;

/// Disjoint, non-adjacent, half-open byte ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeSet {
    /// start -> end
    ranges: BTreeMap<u64, u64>,
}

impl RangeSet {
    /// Adds `range`, merging it with what it touches.
    pub fn insert(&mut self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let Range { mut start, mut end } = range;
        if let Some((&before, &before_end)) = self.ranges.range(..=start).next_back()
            && before_end >= start
        {
            start = before;
            end = end.max(before_end);
        }
        while let Some((&next, &next_end)) = self.ranges.range(start..).next()
            && next <= end
        {
            end = end.max(next_end);
            self.ranges.remove(&next);
        }
        self.ranges.insert(start, end);
    }

    /// Where the bytes that are present from `offset` on without a gap end; `offset` itself when it is missing.
    pub fn end_of_run(&self, offset: u64) -> u64 {
        match self.ranges.range(..=offset).next_back() {
            Some((_, &end)) if end > offset => end,
            _ => offset,
        }
    }

    /// The first byte at or after `offset` that is present.
    pub fn next_present(&self, offset: u64) -> Option<u64> {
        if self.end_of_run(offset) > offset {
            return Some(offset);
        }
        self.ranges.range(offset..).next().map(|(&start, _)| start)
    }

    /// How many bytes are present.
    pub fn total(&self) -> u64 {
        self.ranges.iter().map(|(start, end)| end - start).sum()
    }

    /// Every range in order.
    pub fn iter(&self) -> impl Iterator<Item = Range<u64>> + '_ {
        self.ranges.iter().map(|(&start, &end)| start..end)
    }
}

impl Extend<Range<u64>> for RangeSet {
    fn extend<I: IntoIterator<Item = Range<u64>>>(&mut self, ranges: I) {
        ranges.into_iter().for_each(|range| self.insert(range));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn behaves_as_a_set_of_bytes(ranges in prop::collection::vec((0u64..64, 0u64..16), 0..12)) {
            let mut set = RangeSet::default();
            let mut model = [false; 96];
            for (start, length) in ranges {
                set.insert(start..start + length);
                (start..start + length).for_each(|byte| model[byte as usize] = true);
            }
            let present = |byte: u64| model[byte as usize];
            for byte in 0..80 {
                let run = (byte..96).find(|&b| !present(b)).unwrap_or(96);
                prop_assert_eq!(set.end_of_run(byte), run);
                prop_assert_eq!(set.next_present(byte), (byte..96).find(|&b| present(b)));
            }
            prop_assert_eq!(set.total(), model.iter().filter(|&&b| b).count() as u64);
            let ranges: Vec<_> = set.iter().collect();
            prop_assert!(ranges.windows(2).all(|pair| pair[0].end < pair[1].start), "{:?}", ranges);
        }
    }
}
