//! Which of the content a command is about.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use crate::config::Globs;
use crate::oci::Digest;
use crate::tags::{Key, Name};

/// What a person has asked for, as it travels to a running cache. Empty, it is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Selection {
    /// The registry's host.
    pub registry: Option<String>,
    /// A pattern of repositories.
    pub repository: Option<String>,
    /// A pattern of tags.
    pub tag: Option<String>,
    /// One object, and what it names if it is a manifest.
    pub digest: Option<String>,
    /// Not used for so long, in milliseconds.
    pub older_than_ms: Option<u64>,
}

/// A selection that can be asked.
#[derive(Debug, Default)]
pub(super) struct Filter {
    registry: Option<String>,
    repository: Option<Globs>,
    tag: Option<Globs>,
    pub(super) digest: Option<Digest>,
    unused_since: Option<SystemTime>,
}

impl Selection {
    /// Whether nothing is asked for, which is everything.
    pub fn is_everything(&self) -> bool {
        *self == Self::default()
    }
}

impl Filter {
    /// The error says which part of the selection makes no sense.
    pub(super) fn new(selection: &Selection, now: SystemTime) -> Result<Self, String> {
        let globs = |pattern: &Option<String>| {
            let pattern = pattern.clone();
            let built = pattern.map(|pattern| Globs::new(&[pattern])).transpose();
            built.map_err(|(_, message)| message)
        };
        let digest = selection.digest.as_deref().map(str::parse::<Digest>).transpose();
        let age = selection.older_than_ms.map(Duration::from_millis);
        Ok(Self {
            registry: selection.registry.clone(),
            repository: globs(&selection.repository)?,
            tag: globs(&selection.tag)?,
            digest: digest.map_err(|error| error.to_string())?,
            unused_since: age.map(|age| now.checked_sub(age).unwrap_or(SystemTime::UNIX_EPOCH)),
        })
    }

    /// Whether only what has certain names is selected.
    pub(super) fn is_by_name(&self) -> bool {
        self.registry.is_some() || self.repository.is_some() || self.tag.is_some()
    }

    /// Whether a name is selected, whatever it means. Lists of referrers have no tag.
    pub(super) fn has_name(&self, key: &Key) -> bool {
        let matches = |globs: &Option<Globs>, text: &str| globs.as_ref().is_none_or(|g| g.is_match(text));
        let is_tag = match &key.name {
            Name::Tag(tag) => matches(&self.tag, tag.as_str()),
            Name::Referrers(..) => self.tag.is_none(),
        };
        is_tag
            && self.registry.as_ref().is_none_or(|host| *host == key.registry)
            && matches(&self.repository, key.repository.as_str())
    }

    /// Whether what was last used then is selected.
    pub(super) fn has_age(&self, last_used: SystemTime) -> bool {
        self.unused_since.is_none_or(|since| last_used < since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(selection: &Selection) -> Filter {
        Filter::new(selection, SystemTime::UNIX_EPOCH + Duration::from_secs(100)).unwrap()
    }

    fn key(registry: &str, repository: &str, tag: &str) -> Key {
        Key {
            registry: registry.into(),
            repository: repository.parse().unwrap(),
            name: Name::Tag(tag.parse().unwrap()),
        }
    }

    #[test]
    fn all_that_is_given_must_fit() {
        let some = |text: &str| Some(text.to_owned());
        let selection = Selection {
            registry: some("quay.io"),
            repository: some("acme/*"),
            tag: some("v1*"),
            ..Selection::default()
        };
        let filter = filter(&selection);
        assert!(filter.is_by_name());
        assert!(filter.has_name(&key("quay.io", "acme/app", "v1.2")));
        assert!(!filter.has_name(&key("docker.io", "acme/app", "v1.2")));
        assert!(!filter.has_name(&key("quay.io", "acme/team/app", "v1.2")));
        assert!(!filter.has_name(&key("quay.io", "acme/app", "v2")));
    }

    #[test]
    fn age_is_counted_from_the_last_use() {
        let selection = Selection {
            older_than_ms: Some(60_000),
            ..Selection::default()
        };
        let at = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
        assert!(filter(&selection).has_age(at(39)));
        assert!(!filter(&selection).has_age(at(40)));
        assert!(filter(&Selection::default()).has_age(at(99)));
    }

    #[test]
    fn what_makes_no_sense_is_said() {
        let wrong = |selection: Selection| Filter::new(&selection, SystemTime::UNIX_EPOCH).is_err();
        let default = Selection::default;
        assert!(wrong(Selection {
            digest: Some("sha256:x".into()),
            ..default()
        }));
        assert!(wrong(Selection {
            repository: Some("[a".into()),
            ..default()
        }));
    }
}
