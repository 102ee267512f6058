//! The `Range` header of RFC 9110, section 14, against a content of known length.
//!
//! A header that we do not understand is ignored, as the RFC wants it: a 400 is never the answer. An answered
//! range is exact, because runtimes that fetch in parallel check only the first part.

use std::fmt;

/// The most ranges of one request that are answered as ranges; more get the whole content.
pub const RANGES_MAX: usize = 64;

/// Bytes `start..end` of a content: never empty, never beyond its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte's offset.
    pub start: u64,
    /// The offset behind the last byte.
    pub end: u64,
}

/// What a `Range` header means for one content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The header says nothing that we follow: 200 with everything.
    Whole,
    /// No byte of the content was asked for: 416 with [`unsatisfiable_content_range`].
    Unsatisfiable,
    /// 206 with [`ByteRange::content_range`].
    Single(ByteRange),
    /// 206 as `multipart/byteranges`: at least two that do not overlap, in the client's order.
    Several(Vec<ByteRange>),
}

impl ByteRange {
    /// How many bytes this is.
    pub fn length(self) -> u64 {
        self.end - self.start
    }

    /// The value of `Content-Range` for a content of `length` bytes.
    pub fn content_range(self, length: u64) -> impl fmt::Display {
        // The wire's last position is inclusive, ours is not.
        let (start, last) = (self.start, self.end - 1);
        fmt::from_fn(move |f| write!(f, "bytes {start}-{last}/{length}"))
    }

    fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// The value of `Content-Range` in a 416 for a content of `length` bytes.
pub fn unsatisfiable_content_range(length: u64) -> String {
    format!("bytes */{length}")
}

/// Reads the value of a `Range` header for a content of `length` bytes.
pub fn parse(header: &str, length: u64) -> Outcome {
    let Some((unit, set)) = header.split_once('=') else {
        return Outcome::Whole;
    };
    if !unit.trim().eq_ignore_ascii_case("bytes") {
        return Outcome::Whole;
    }
    let mut ranges = Vec::new();
    let mut count = 0;
    for spec in set.split(',').map(|spec| spec.trim_matches([' ', '\t'])) {
        if spec.is_empty() {
            continue;
        }
        count += 1;
        match parse_spec(spec, length) {
            Some(_) if count > RANGES_MAX => return Outcome::Whole,
            Some(range) => ranges.extend(range),
            None => return Outcome::Whole,
        }
    }
    match ranges.as_slice() {
        [] if count == 0 => Outcome::Whole,
        [] => Outcome::Unsatisfiable,
        [range] => Outcome::Single(*range),
        _ if any_overlap(&ranges) => Outcome::Whole,
        _ => Outcome::Several(ranges),
    }
}

/// `None` for what is no range at all, `Some(None)` for a range without a byte of the content.
///
/// The RFC calls a range whose last position is before its first one invalid; OCI's conformance suite insists on
/// 416 for it, so it is taken as a range of nothing.
fn parse_spec(spec: &str, length: u64) -> Option<Option<ByteRange>> {
    let (first, last) = spec.split_once('-')?;
    let (start, end) = match (first, last) {
        ("", suffix) => (length.saturating_sub(parse_position(suffix)?), length),
        (first, "") => (parse_position(first)?, length),
        (first, last) => (
            parse_position(first)?,
            parse_position(last)?.saturating_add(1).min(length),
        ),
    };
    Some((start < end).then_some(ByteRange { start, end }))
}

/// Digits only; a number too large for us is beyond every content anyway.
fn parse_position(digits: &str) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
    is_number.then(|| digits.parse().unwrap_or(u64::MAX))
}

fn any_overlap(ranges: &[ByteRange]) -> bool {
    ranges
        .iter()
        .enumerate()
        .any(|(i, a)| ranges[..i].iter().any(|b| a.overlaps(*b)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn single(start: u64, end: u64) -> Outcome {
        Outcome::Single(ByteRange { start, end })
    }

    #[test]
    fn the_conformance_suite_s_cases() {
        for (header, outcome) in [
            ("bytes=500-1499", single(500, 1500)),
            ("bytes=500-", single(500, 4096)),
            ("bytes=-500", single(3596, 4096)),
            ("bytes=2000-5000", single(2000, 4096)),
            ("bytes=500-0", Outcome::Unsatisfiable),
            ("bytes=5000-10000", Outcome::Unsatisfiable),
        ] {
            assert_eq!(parse(header, 4096), outcome, "{header}");
        }
    }

    #[test]
    fn the_edges() {
        for (header, outcome) in [
            ("bytes=0-", single(0, 10)),
            ("bytes=0-0", single(0, 1)),
            ("bytes=9-9", single(9, 10)),
            ("bytes=10-", Outcome::Unsatisfiable),
            ("bytes=10-10", Outcome::Unsatisfiable),
            ("bytes=-11", single(0, 10)),
            ("bytes=-0", Outcome::Unsatisfiable),
            ("bytes=0-99999999999999999999999", single(0, 10)),
            ("bytes=0-18446744073709551615", single(0, 10)),
            ("bytes=99999999999999999999999-", Outcome::Unsatisfiable),
            ("bytes=-99999999999999999999999", single(0, 10)),
            ("Bytes=1-2", single(1, 3)),
            ("bytes= 1-2 ,, ", single(1, 3)),
            ("bytes=1-2,20-", single(1, 3)),
            ("bytes=20-,30-", Outcome::Unsatisfiable),
        ] {
            assert_eq!(parse(header, 10), outcome, "{header}");
        }
    }

    /// Row E12 of the protocol notes: `bytes=0--1` is really sent.
    #[test]
    fn what_is_no_range_is_ignored() {
        for header in [
            "",
            "bytes",
            "bytes=",
            "bytes=,",
            "bytes=-",
            "bytes=0--1",
            "bytes=--1",
            "bytes=a-b",
            "bytes=1",
            "bytes=+1-2",
            "bytes=1 - 2",
            "bytes=0x1-2",
            "bytes=1-2;3-4",
            "bytes=1-2,x",
            "items=0-1",
            "bytes 0-1/10",
        ] {
            assert_eq!(parse(header, 10), Outcome::Whole, "{header}");
        }
    }

    #[test]
    fn no_range_lies_in_an_empty_content() {
        for header in ["bytes=0-", "bytes=0-0", "bytes=-1"] {
            assert_eq!(parse(header, 0), Outcome::Unsatisfiable, "{header}");
        }
        assert_eq!(parse("bytes=x", 0), Outcome::Whole);
    }

    #[test]
    fn several_ranges_must_be_few_and_apart() {
        let ranges = vec![ByteRange { start: 5, end: 7 }, ByteRange { start: 0, end: 1 }];
        assert_eq!(parse("bytes=5-6, 0-0", 10), Outcome::Several(ranges));
        assert_eq!(parse("bytes=0-5,5-6", 10), Outcome::Whole);
        let of = |count: usize| (0..count).map(|i| format!("{i}-{i},")).collect::<String>();
        let at_most = format!("bytes={}", of(RANGES_MAX));
        assert!(matches!(parse(&at_most, 1000), Outcome::Several(ranges) if ranges.len() == RANGES_MAX));
        assert_eq!(parse(&format!("{at_most}500-"), 1000), Outcome::Whole);
        assert_eq!(parse(&format!("{at_most}5000-"), 1000), Outcome::Whole);
    }

    #[test]
    fn content_range_has_an_inclusive_end() {
        let range = ByteRange { start: 0, end: 100 };
        assert_eq!(range.content_range(1000).to_string(), "bytes 0-99/1000");
        assert_eq!(range.length(), 100);
        assert_eq!(unsatisfiable_content_range(7), "bytes */7");
    }

    /// The bytes that one range asks for, found by asking of each byte whether it was meant.
    fn bytes_meant(first: Option<u64>, last: Option<u64>, length: u64) -> Vec<u64> {
        let is_meant = |byte: u64| match (first, last) {
            (Some(first), Some(last)) => first <= byte && byte <= last,
            (Some(first), None) => first <= byte,
            (None, Some(suffix)) => byte + suffix >= length,
            (None, None) => false,
        };
        (0..length).filter(|byte| is_meant(*byte)).collect()
    }

    proptest! {
        #[test]
        fn agrees_with_asking_byte_by_byte(
            first in proptest::option::of(0..40_u64), last in proptest::option::of(0..40_u64), length in 0..32_u64
        ) {
            prop_assume!(first.is_some() || last.is_some());
            let digits = |n: Option<u64>| n.map(|n| n.to_string()).unwrap_or_default();
            let header = format!("bytes={}-{}", digits(first), digits(last));
            match parse(&header, length) {
                Outcome::Single(range) => {
                    prop_assert_eq!((range.start..range.end).collect::<Vec<_>>(), bytes_meant(first, last, length));
                }
                outcome => {
                    prop_assert_eq!(outcome, Outcome::Unsatisfiable);
                    prop_assert!(bytes_meant(first, last, length).is_empty());
                }
            }
        }

        #[test]
        fn never_leaves_the_content(header in "(bytes=)?([0-9]{0,21}-{0,2}[0-9]{0,21}[, ]?){0,70}", length: u64) {
            let ranges = match parse(&header, length) {
                Outcome::Whole | Outcome::Unsatisfiable => vec![],
                Outcome::Single(range) => vec![range],
                Outcome::Several(ranges) => {
                    prop_assert!((2..=RANGES_MAX).contains(&ranges.len()));
                    ranges
                }
            };
            for (i, range) in ranges.iter().enumerate() {
                prop_assert!(range.start < range.end && range.end <= length);
                prop_assert!(ranges[..i].iter().all(|other| other.end <= range.start || range.end <= other.start));
            }
        }

        #[test]
        fn never_panics(header: String, length: u64) {
            parse(&header, length);
            parse(&format!("bytes={header}"), length);
        }
    }
}
