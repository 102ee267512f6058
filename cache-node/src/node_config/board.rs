//! What is in the way, since when, said once when it comes and once when it goes.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use jiff::{Timestamp, Unit};
use larder_crds::report::{NodeCondition, Reason};

/// The most conditions that are told, so that the cache's report stays within its size.
pub(super) const CONDITIONS_MAX: usize = 32;

/// A condition is one of a registry and an object; several of a reason are several conditions.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Complaint {
    /// What is wrong.
    pub reason: Reason,
    /// With which registry; empty where it is not about one.
    pub registry: String,
    /// The object at fault.
    pub object: String,
}

/// The complaints that stand, and since when.
#[derive(Debug, Default)]
pub(super) struct Board(BTreeMap<Complaint, Timestamp>);

impl Board {
    /// Replaces the complaints by `current`, with what the log should say of each.
    pub(super) fn update(&mut self, current: BTreeMap<Complaint, String>, now: Timestamp) {
        self.0.retain(|complaint, _| {
            let stands = current.contains_key(complaint);
            if !stands {
                let Complaint { reason, registry, .. } = complaint;
                tracing::info!(reason = reason.as_str(), registry, "no longer in the way");
            }
            stands
        });
        for (complaint, detail) in current {
            if let Entry::Vacant(new) = self.0.entry(complaint) {
                let Complaint {
                    reason,
                    registry,
                    object,
                } = new.key();
                tracing::warn!(reason = reason.as_str(), registry, object, detail, "in the way");
                new.insert(now);
            }
        }
    }

    /// What the report says.
    pub(super) fn conditions(&self) -> Vec<NodeCondition> {
        let conditions = self.0.iter().map(|(complaint, since)| NodeCondition {
            reason: complaint.reason.as_str().to_owned(),
            registry: complaint.registry.clone(),
            object: complaint.object.clone(),
            count: 1,
            since: since.round(Unit::Second).unwrap_or(*since).to_string(),
        });
        conditions.take(CONDITIONS_MAX).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_stands_since_it_first_came() {
        let complaint = Complaint {
            reason: Reason::HostOwned,
            registry: "quay.io".to_owned(),
            object: "other".to_owned(),
        };
        let current = || BTreeMap::from([(complaint.clone(), String::new())]);
        let mut board = Board::default();
        board.update(current(), Timestamp::UNIX_EPOCH);
        board.update(current(), Timestamp::MAX);
        let [condition] = &board.conditions()[..] else {
            panic!("{board:?}")
        };
        assert_eq!(condition.reason, "HostOwned");
        assert_eq!(
            (condition.object.as_str(), condition.since.as_str()),
            ("other", "1970-01-01T00:00:00Z")
        );
        board.update(BTreeMap::new(), Timestamp::MAX);
        assert_eq!(board.conditions(), []);
    }
}
