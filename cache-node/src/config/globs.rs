//! Sets of glob patterns that compare and print as the patterns they were written as.

use std::fmt;

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};

/// Patterns of repositories or tags: `*` stays within one path segment, `**` as a whole segment crosses them.
/// An empty set matches nothing.
#[derive(Clone, Default)]
pub struct Globs {
    patterns: Vec<String>,
    set: GlobSet,
}

impl Globs {
    /// Builds a set; on failure the index of the first bad pattern and what is wrong with it.
    pub fn new(patterns: &[String]) -> Result<Self, (usize, String)> {
        let mut builder = GlobSetBuilder::new();
        for (index, pattern) in patterns.iter().enumerate() {
            builder.add(compile(pattern).map_err(|message| (index, message))?);
        }
        let set = builder.build().map_err(|error| (0, error.kind().to_string()))?;
        Ok(Self {
            patterns: patterns.to_vec(),
            set,
        })
    }

    /// Whether any pattern matches the whole of `text`.
    pub fn is_match(&self, text: &str) -> bool {
        self.set.is_match(text)
    }

    /// Whether there is no pattern.
    pub fn is_empty(&self) -> bool {
        self.patterns.is_empty()
    }

    /// The patterns as they were written.
    pub fn patterns(&self) -> &[String] {
        &self.patterns
    }
}

/// Compiles one pattern; the error says what is wrong with it.
pub(super) fn compile(pattern: &str) -> Result<globset::Glob, String> {
    GlobBuilder::new(pattern)
        .literal_separator(true)
        .build()
        .map_err(|error| error.kind().to_string())
}

impl PartialEq for Globs {
    fn eq(&self, other: &Self) -> bool {
        self.patterns == other.patterns
    }
}

impl Eq for Globs {}

impl fmt::Debug for Globs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.patterns.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn globs(patterns: &[&str]) -> Globs {
        Globs::new(&patterns.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn a_star_stays_within_a_segment_and_two_cross() {
        assert!(globs(&["acme/*"]).is_match("acme/app"));
        assert!(!globs(&["acme/*"]).is_match("acme/team/app"));
        assert!(!globs(&["acme/*"]).is_match("evil/acme/app"));
        assert!(globs(&["acme/**"]).is_match("acme/team/app"));
        assert!(globs(&["**"]).is_match("a/b/c"));
        assert!(globs(&["x", "v*"]).is_match("v1.2.3"));
        assert!(!globs(&[]).is_match(""));
    }

    #[test]
    fn says_which_pattern_is_bad() {
        let patterns = ["ok".to_owned(), "[z".to_owned()];
        assert_eq!(Globs::new(&patterns).unwrap_err().0, 1);
    }
}
