//! Repository names, tags, and references to manifests.

use std::fmt;
use std::str::FromStr;

use super::{Digest, ParseDigestError};

/// The longest repository name: many clients limit host, slash and name together to this.
pub const NAME_BYTES_MAX: usize = 255;
const TAG_BYTES_MAX: usize = 128;

/// A repository name, such as `library/alpine` (distribution-spec, "Pulling manifests").
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RepoName(Box<str>);

/// A tag, such as `v1.36.3` (distribution-spec, "Pulling manifests").
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tag(Box<str>);

/// What names a manifest within a repository: a tag or a digest.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A name that may come to mean another manifest.
    Tag(Tag),
    /// The manifest itself.
    Digest(Digest),
}

/// Why a string is no repository name, tag or reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseNameError {
    /// It is empty or longer than the specification allows.
    #[error("the name is empty or too long")]
    Length,
    /// It has a character, or an order of them, that the specification does not allow.
    #[error("the name does not match the grammar of the distribution specification")]
    Grammar,
    /// It has a colon, so it would have to be a digest, but it is none.
    #[error("invalid digest: {0}")]
    Digest(#[from] ParseDigestError),
}

impl RepoName {
    /// The name as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Tag {
    /// The tag as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for RepoName {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() || text.len() > NAME_BYTES_MAX {
            return Err(ParseNameError::Length);
        }
        if !text.split('/').all(is_path_component) {
            return Err(ParseNameError::Grammar);
        }
        Ok(Self(text.into()))
    }
}

/// `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`
fn is_path_component(component: &str) -> bool {
    let is_alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut rest = component;
    loop {
        let word = rest.trim_start_matches(is_alphanumeric);
        if word.len() == rest.len() {
            return false;
        }
        if word.is_empty() {
            return true;
        }
        rest = word.trim_start_matches(|c| !is_alphanumeric(c));
        let separator = &word[..word.len() - rest.len()];
        if !matches!(separator, "." | "_" | "__") && separator.bytes().any(|c| c != b'-') {
            return false;
        }
    }
}

impl FromStr for Tag {
    type Err = ParseNameError;

    /// `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (Some(first), true) = (text.chars().next(), text.len() <= TAG_BYTES_MAX) else {
            return Err(ParseNameError::Length);
        };
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if is_word(first) && text.chars().all(|c| is_word(c) || c == '.' || c == '-') {
            Ok(Self(text.into()))
        } else {
            Err(ParseNameError::Grammar)
        }
    }
}

impl FromStr for Reference {
    type Err = ParseNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.contains(':') {
            Ok(Self::Digest(text.parse()?))
        } else {
            Ok(Self::Tag(text.parse()?))
        }
    }
}

impl fmt::Display for RepoName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tag(tag) => tag.fmt(f),
            Self::Digest(digest) => fmt::Display::fmt(digest, f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_names_outside_the_grammar() {
        for name in [
            "", "/", "a/", "/a", "a//b", "A", "a b", "a%2Fb", "..", "a/../b", "a..b", "a.", ".a", "a___b",
            "a_-b", "a._b", "é", "a\0",
        ] {
            assert!(name.parse::<RepoName>().is_err(), "{name:?}");
        }
        assert_eq!("a".repeat(256).parse::<RepoName>(), Err(ParseNameError::Length));
    }

    #[test]
    fn a_colon_makes_a_reference_a_digest() {
        assert_eq!(
            "sha256:x".parse::<Reference>(),
            Err(ParseDigestError::InvalidValue.into())
        );
        assert!(matches!("latest".parse(), Ok(Reference::Tag(_))));
        for tag in ["", ".a", "-a", "a b", "a/b", "é"] {
            assert!(tag.parse::<Reference>().is_err(), "{tag:?}");
        }
        assert!("a".repeat(129).parse::<Tag>().is_err());
    }

    proptest! {
        #[test]
        fn accepts_every_name_of_the_grammar(
            name in "[a-z0-9]{1,9}((\\.|_|__|-{1,5})[a-z0-9]{1,9}){0,4}(/[a-z0-9]{1,9}((\\.|_|__|-)[a-z0-9]{1,9}){0,2}){0,3}"
        ) {
            prop_assert_eq!(name.parse::<RepoName>().map(|n| n.to_string()), Ok(name));
        }

        #[test]
        fn accepts_every_tag_of_the_grammar(tag in "[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}") {
            prop_assert_eq!(tag.parse::<Tag>().map(|t| t.to_string()), Ok(tag));
        }

        #[test]
        fn never_panics(text: String) {
            let _ = text.parse::<RepoName>();
            let _ = text.parse::<Reference>();
        }
    }
}
