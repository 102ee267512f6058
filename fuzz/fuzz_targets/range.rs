//! Range headers: whatever is answered lies within the content, is never empty and never sent twice.
#![no_main]

use cache_node::http::range::{ByteRange, Outcome, RANGES_MAX, parse};
use libfuzzer_sys::fuzz_target;

const LENGTHS: [u64; 5] = [0, 1, 1000, 65_536, u64::MAX];

fuzz_target!(|header: &str| {
    for length in LENGTHS {
        let ranges = match parse(header, length) {
            Outcome::Whole | Outcome::Unsatisfiable => continue,
            Outcome::Single(range) => vec![range],
            Outcome::Several(ranges) => {
                assert!(
                    (2..=RANGES_MAX).contains(&ranges.len()),
                    "{} ranges",
                    ranges.len()
                );
                ranges
            }
        };
        assert!(
            ranges
                .iter()
                .all(|ByteRange { start, end }| start < end && *end <= length),
            "{ranges:?}"
        );
        let bytes: u128 = ranges.iter().map(|range| u128::from(range.length())).sum();
        assert!(bytes <= u128::from(length), "{ranges:?} of {length}");
    }
});
