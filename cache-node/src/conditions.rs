//! The reasons why pulls may not work, kept in memory until they clear, for the operator to collect.
//!
//! Reasons and registries are all that is kept: no repository, tag or digest ever gets here.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::{Timestamp, Unit};
use serde::{Serialize, Serializer};

/// The most reasons kept, so that the rendered board stays under 16 KiB with the longest host names.
pub const CONDITIONS_MAX: usize = 32;

/// Something that keeps pulls from one registry from working.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Reason {
    /// A Secret that the configuration names is not there, or has none of the keys that we can read.
    CredentialsMissing,
    /// The registry or its token service refused the credentials.
    CredentialsRefused,
    /// The registry, its token service or its content hosts do not answer.
    UpstreamUnreachable,
    /// The registry asks us to come back later.
    RateLimited,
}

/// One reason that stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Condition {
    /// What is wrong.
    pub reason: Reason,
    /// With which registry, as the configuration calls it.
    pub registry: String,
    /// How often it was seen since then.
    pub count: u64,
    /// When it was first seen, in whole seconds.
    #[serde(serialize_with = "as_text")]
    pub since: Timestamp,
}

fn as_text<S: Serializer>(since: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(since)
}

#[derive(Clone, Copy)]
struct Sighting {
    count: u64,
    since: Timestamp,
}

/// The reasons that stand, at most [`CONDITIONS_MAX`] of them.
#[derive(Default)]
pub struct Conditions(Mutex<BTreeMap<(Reason, String), Sighting>>);

impl Conditions {
    /// An empty board.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that `reason` was seen with `registry`. A full board takes no new ones: the old ones explain enough.
    pub fn raise(&self, reason: Reason, registry: &str) {
        let mut board = self.lock();
        let key = (reason, registry.to_owned());
        if let Some(sighting) = board.get_mut(&key) {
            sighting.count = sighting.count.saturating_add(1);
        } else if board.len() < CONDITIONS_MAX {
            let now = Timestamp::now();
            let since = now.round(Unit::Second).unwrap_or(now);
            board.insert(key, Sighting { count: 1, since });
        }
    }

    /// Notes that `reason` no longer stands for `registry`.
    pub fn clear(&self, reason: Reason, registry: &str) {
        self.lock().remove(&(reason, registry.to_owned()));
    }

    /// Forgets registries that a new configuration no longer names.
    pub fn retain(&self, is_configured: impl Fn(&str) -> bool) {
        self.lock().retain(|(_, registry), _| is_configured(registry));
    }

    /// Everything that stands, in a fixed order.
    pub fn snapshot(&self) -> Vec<Condition> {
        self.lock()
            .iter()
            .map(|((reason, registry), sighting)| Condition {
                reason: *reason,
                registry: registry.clone(),
                count: sighting.count,
                since: sighting.since,
            })
            .collect()
    }

    /// The answer of `/conditions` for the mirror and the generation of its configuration that is loaded.
    pub fn render(&self, mirror: &str, generation: &str) -> serde_json::Value {
        serde_json::json!({"mirror": mirror, "generation": generation, "conditions": self.snapshot()})
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(Reason, String), Sighting>> {
        // Every change is a single step, so a panic elsewhere leaves the board whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_counts_until_it_clears() {
        let conditions = Conditions::new();
        conditions.raise(Reason::RateLimited, "up.test");
        conditions.raise(Reason::CredentialsMissing, "up.test");
        conditions.raise(Reason::RateLimited, "up.test");
        let seen: Vec<_> = conditions
            .snapshot()
            .iter()
            .map(|c| (c.reason, c.count))
            .collect();
        assert_eq!(seen, [(Reason::CredentialsMissing, 1), (Reason::RateLimited, 2)]);
        conditions.clear(Reason::RateLimited, "other.test");
        conditions.clear(Reason::RateLimited, "up.test");
        assert_eq!(conditions.snapshot().len(), 1);
        conditions.retain(|registry| registry == "other.test");
        assert_eq!(conditions.snapshot(), []);
    }

    #[test]
    fn the_json_has_whole_seconds_and_the_reasons_names() {
        let conditions = Conditions::new();
        conditions.raise(Reason::UpstreamUnreachable, "up.test");
        let json = conditions.render("default", "7");
        assert_eq!(
            (&json["mirror"], &json["generation"]),
            (&"default".into(), &"7".into())
        );
        let condition = &json["conditions"][0];
        assert_eq!(condition["reason"], "UpstreamUnreachable");
        assert_eq!(
            (&condition["registry"], &condition["count"]),
            (&"up.test".into(), &1.into())
        );
        assert_eq!(
            condition["since"].as_str().unwrap().len(),
            "2026-01-01T00:00:00Z".len()
        );
    }

    #[test]
    fn a_full_board_stays_small() {
        let conditions = Conditions::new();
        for i in 0..2 * CONDITIONS_MAX {
            conditions.raise(Reason::CredentialsRefused, &format!("{i:0>253}"));
        }
        assert_eq!(conditions.snapshot().len(), CONDITIONS_MAX);
        assert!(conditions.render(&"m".repeat(253), "7").to_string().len() <= 16 * 1024);
    }
}
