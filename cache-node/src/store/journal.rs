//! What a partial file's journal says, as text that a person can read and a torn write cannot fool.
//!
//! ```text
//! larder-partial 1 <boot id>
//! length <bytes>
//! synced <start> <end>
//! written <start> <end>
//! ```
//!
//! Every line after the first may come any number of times, in any order. `synced` ranges reached the disk before
//! the line was written. `written` ranges reached the kernel: they outlive the process, but not a power cut, so
//! they count only while the machine has not been started again. A line that is not whole, or does not parse,
//! ends the journal.

use std::fmt::Write as _;
use std::ops::Range;

use super::RangeSet;

/// What a journal proves about a partial file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Journal {
    /// The blob's length in bytes, once it is known.
    pub(super) length: Option<u64>,
    /// Ranges that are on disk.
    pub(super) synced: RangeSet,
    /// Ranges that the kernel has, in this life of the machine.
    pub(super) written: RangeSet,
}

const FIRST_WORDS: &str = "larder-partial 1";

impl Journal {
    /// Reads a journal in the life of the machine that `boot_id` names. `None` when it is none of ours.
    pub(super) fn parse(text: &str, boot_id: &str) -> Option<Self> {
        let mut lines = text
            .split_inclusive('\n')
            .map_while(|line| line.strip_suffix('\n'));
        let same_boot = lines.next()?.strip_prefix(FIRST_WORDS)?.strip_prefix(' ')? == boot_id;
        let mut journal = Self::default();
        for line in lines {
            let mut words = line.split(' ');
            let mut word = || words.next();
            match (word(), number(word()), number(word())) {
                (Some("length"), Some(length), None) => journal.length = Some(length),
                (Some("synced"), Some(start), Some(end)) => journal.synced.insert(start..end),
                (Some("written"), Some(start), Some(end)) if same_boot => journal.written.insert(start..end),
                (Some("written"), Some(_), Some(_)) => {}
                _ => break,
            }
        }
        Some(journal)
    }

    /// The whole journal anew.
    pub(super) fn render(&self, boot_id: &str) -> String {
        let mut text = format!("{FIRST_WORDS} {boot_id}\n");
        if let Some(length) = self.length {
            text.push_str(&length_line(length));
        }
        self.synced
            .iter()
            .for_each(|range| text.push_str(&range_line("synced", &range)));
        self.written
            .iter()
            .for_each(|range| text.push_str(&range_line("written", &range)));
        text
    }
}

/// The line that records the blob's length.
pub(super) fn length_line(length: u64) -> String {
    format!("length {length}\n")
}

/// The line that records a range as `synced` or `written`.
pub(super) fn range_line(word: &str, range: &Range<u64>) -> String {
    let mut line = String::new();
    let _ = writeln!(line, "{word} {} {}", range.start, range.end);
    line
}

fn number(word: Option<&str>) -> Option<u64> {
    word?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ranges() -> impl Strategy<Value = RangeSet> {
        prop::collection::vec((0u64..1000, 0u64..100), 0..6).prop_map(|pairs| {
            let mut set = RangeSet::default();
            set.extend(pairs.into_iter().map(|(start, length)| start..start + length));
            set
        })
    }

    proptest! {
        #[test]
        fn reads_back_what_it_wrote(length: Option<u64>, synced in ranges(), written in ranges()) {
            let journal = Journal { length, synced, written };
            prop_assert_eq!(Journal::parse(&journal.render("boot"), "boot"), Some(journal.clone()));
            let after_power_cut = Journal { written: RangeSet::default(), ..journal.clone() };
            prop_assert_eq!(Journal::parse(&journal.render("boot"), "other"), Some(after_power_cut));
        }

        #[test]
        fn a_torn_journal_never_claims_more(synced in ranges(), cut in 0usize..200) {
            let whole = Journal { length: Some(12_345), synced, written: RangeSet::default() };
            let text = whole.render("boot");
            let torn = Journal::parse(&text[..cut.min(text.len())], "boot").unwrap_or_default();
            for range in torn.synced.iter() {
                prop_assert!(whole.synced.end_of_run(range.start) >= range.end);
            }
        }

        #[test]
        fn never_panics(text: String) {
            let _ = Journal::parse(&text, "boot");
        }
    }
}
