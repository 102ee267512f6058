//! The reasons why pulls may not go through the cache, kept in memory until they clear, for the operator to collect.
//!
//! Reasons, registries and the names of Secrets and ConfigMaps are all that is kept: no repository, tag or digest ever
//! gets here.

mod report;

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{Timestamp, Unit};
use larder_crds::report::{NodeCondition, Reason};

pub use report::{assemble, node_config_state};

/// The most reasons kept. The configuration's own bounds keep their number below it but for absurd ones.
const CONDITIONS_MAX: usize = 1024;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    reason: Reason,
    registry: String,
    object: String,
}

impl Key {
    fn new(reason: Reason, registry: &str, object: &str) -> Self {
        let (registry, object) = (registry.to_owned(), object.to_owned());
        Self {
            reason,
            registry,
            object,
        }
    }
}

#[derive(Clone, Copy)]
struct Sighting {
    count: u64,
    since: Timestamp,
}

/// The reasons that stand. `registry` and `object` are those of [`NodeCondition`], empty where there is none.
#[derive(Default)]
pub struct Conditions(Mutex<BTreeMap<Key, Sighting>>);

impl Conditions {
    /// An empty board.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that `reason` was seen. A full board takes no new ones: the old ones explain enough.
    pub fn raise(&self, reason: Reason, registry: &str, object: &str) {
        let mut board = self.lock();
        let key = Key::new(reason, registry, object);
        if let Some(sighting) = board.get_mut(&key) {
            sighting.count = sighting.count.saturating_add(1);
        } else if board.len() < CONDITIONS_MAX {
            let now = Timestamp::now();
            let since = now.round(Unit::Second).unwrap_or(now);
            board.insert(key, Sighting { count: 1, since });
        }
    }

    /// Notes that `reason` no longer stands.
    pub fn clear(&self, reason: Reason, registry: &str, object: &str) {
        self.lock().remove(&Key::new(reason, registry, object));
    }

    /// Notes whether `reason` stands.
    pub fn set(&self, stands: bool, reason: Reason, registry: &str, object: &str) {
        if stands {
            self.raise(reason, registry, object);
        } else {
            self.clear(reason, registry, object);
        }
    }

    /// Whether any of `reasons` stands for `registry`.
    pub fn stands(&self, reasons: &[Reason], registry: &str) -> bool {
        let board = self.lock();
        board
            .keys()
            .any(|key| key.registry == registry && reasons.contains(&key.reason))
    }

    /// Forgets what a new configuration no longer names: `is_configured` is asked about registry and object.
    pub fn retain(&self, is_configured: impl Fn(&str, &str) -> bool) {
        self.lock()
            .retain(|key, _| key.registry.is_empty() || is_configured(&key.registry, &key.object));
    }

    /// Everything that stands, in a fixed order.
    pub fn snapshot(&self) -> Vec<NodeCondition> {
        let board = self.lock();
        let conditions = board.iter().map(|(key, sighting)| NodeCondition {
            reason: key.reason.as_str().to_owned(),
            registry: key.registry.clone(),
            object: key.object.clone(),
            count: sighting.count,
            since: sighting.since.to_string(),
        });
        conditions.collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Sighting>> {
        // Every change is a single step, so a panic elsewhere leaves the board whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(conditions: &Conditions) -> Vec<(String, String, u64)> {
        let snapshot = conditions.snapshot().into_iter();
        snapshot.map(|c| (c.reason, c.object, c.count)).collect()
    }

    #[test]
    fn a_reason_counts_until_it_clears() {
        let conditions = Conditions::new();
        conditions.raise(Reason::RateLimited, "up.test", "");
        conditions.raise(Reason::CredentialsMissing, "up.test", "two");
        conditions.raise(Reason::CredentialsMissing, "up.test", "one");
        conditions.raise(Reason::RateLimited, "up.test", "");
        conditions.raise(Reason::DiskFull, "", "");
        let missing = |name: &str| ("CredentialsMissing".to_owned(), name.to_owned(), 1);
        let limited = ("RateLimited".to_owned(), String::new(), 2);
        let full = ("DiskFull".to_owned(), String::new(), 1);
        assert_eq!(
            seen(&conditions),
            [missing("one"), missing("two"), limited, full.clone()]
        );
        assert!(conditions.stands(&[Reason::RateLimited], "up.test"));
        assert!(!conditions.stands(&[Reason::RateLimited], "other.test"));
        conditions.clear(Reason::RateLimited, "other.test", "");
        conditions.set(false, Reason::RateLimited, "up.test", "");
        conditions.retain(|registry, object| registry == "up.test" && object == "two");
        assert_eq!(seen(&conditions), [missing("two"), full.clone()]);
        conditions.retain(|_, _| false);
        assert_eq!(
            seen(&conditions),
            [full],
            "what is about no registry is no configuration's"
        );
    }

    #[test]
    fn the_time_is_in_whole_seconds() {
        let conditions = Conditions::new();
        conditions.raise(Reason::UpstreamUnreachable, "up.test", "");
        let since = &conditions.snapshot()[0].since;
        assert_eq!(since.len(), "2026-01-01T00:00:00Z".len(), "{since}");
    }

    #[test]
    fn a_full_board_stays_bounded() {
        let conditions = Conditions::new();
        for i in 0..2 * CONDITIONS_MAX {
            conditions.raise(Reason::CredentialsRefused, &i.to_string(), "");
        }
        assert_eq!(conditions.snapshot().len(), CONDITIONS_MAX);
    }
}
