//! The answer of `/conditions`: the board of `serve` and what `node-config` says, within the report's bound.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use jiff::Timestamp;
use larder_crds::report::{
    NODE_CONFIG_STALE_S, NODE_CONFIG_STATE_FILE, NodeCondition, NodeConfigState, NodeReport, REPORT_BYTES_MAX,
};

/// The largest state of `node-config` that is read: more than a report can hold.
const STATE_BYTES_MAX: u64 = 64 << 10;

/// What `node-config` says of itself in `directory`; `None` when it has said nothing that can be read, or nothing for
/// [`NODE_CONFIG_STALE_S`]. Blocks for a small file in memory.
pub fn node_config_state(directory: &Path, now: Timestamp) -> Option<NodeConfigState> {
    let mut text = Vec::new();
    File::open(directory.join(NODE_CONFIG_STATE_FILE))
        .ok()?
        .take(STATE_BYTES_MAX)
        .read_to_end(&mut text)
        .ok()?;
    let state: NodeConfigState = serde_json::from_slice(&text).ok()?;
    let updated: Timestamp = state.updated.parse().ok()?;
    // A time in the future is that of a clock that was set back: the next state comes within a second or never.
    let age = now.duration_since(updated).unsigned_abs().as_secs();
    (age < NODE_CONFIG_STALE_S).then_some(state)
}

/// Adds `conditions` and what `node_config` says to `report`, as many as its bound allows: every reason is named before
/// one is named twice.
pub fn assemble(
    mut report: NodeReport,
    conditions: Vec<NodeCondition>,
    node_config: Option<NodeConfigState>,
) -> NodeReport {
    let NodeConfigState {
        generation,
        conditions: theirs,
        ..
    } = node_config.unwrap_or_default();
    report.node_config_generation = generation;
    let mut seen = HashMap::<String, u32>::new();
    let mut ranked: Vec<_> = conditions
        .into_iter()
        .chain(theirs)
        .map(|condition| {
            let rank = seen.entry(condition.reason.clone()).or_default();
            *rank += 1;
            (*rank, condition)
        })
        .collect();
    ranked.sort_by_key(|(rank, _)| *rank);
    report.conditions.clear();
    let mut left = REPORT_BYTES_MAX.saturating_sub(json_bytes(&report));
    for (_, condition) in ranked {
        // One byte is the comma.
        let Some(rest) = left.checked_sub(json_bytes(&condition) + 1) else {
            break;
        };
        left = rest;
        report.conditions.push(condition);
    }
    report
}

fn json_bytes(value: &impl serde::Serialize) -> usize {
    serde_json::to_vec(value).map_or(usize::MAX / 2, |json| json.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use larder_crds::report::Reason;

    fn condition(reason: Reason, index: usize) -> NodeCondition {
        NodeCondition {
            reason: reason.as_str().to_owned(),
            registry: format!("{index:r>259}"),
            object: format!("{index:o>253}"),
            count: u64::MAX,
            since: "2026-01-01T00:00:00Z".to_owned(),
        }
    }

    fn all(count: usize) -> Vec<NodeCondition> {
        let each = |reason| (0..count).map(move |index| condition(reason, index));
        Reason::ALL.into_iter().flat_map(each).collect()
    }

    #[test]
    fn the_largest_report_names_every_reason_within_its_bound() {
        let state = NodeConfigState {
            generation: Some(i64::MIN),
            conditions: all(64),
            ..NodeConfigState::default()
        };
        let report = NodeReport {
            mirror: "u".repeat(128),
            generation: Some(i64::MIN),
            ..NodeReport::default()
        };
        let report = assemble(report, all(64), Some(state));
        let json = serde_json::to_string(&report).unwrap();
        assert!(json.len() <= REPORT_BYTES_MAX, "{}", json.len());
        for reason in Reason::ALL {
            let is_named = report.conditions.iter().any(|c| c.reason == reason.as_str());
            assert!(is_named, "{reason:?}");
        }
    }

    #[test]
    fn what_node_config_says_counts_for_ten_seconds() {
        let directory = tempfile::tempdir().unwrap();
        let now: Timestamp = "2026-01-01T00:00:20Z".parse().unwrap();
        let read = || node_config_state(directory.path(), now);
        assert_eq!(read(), None);
        for (updated, is_heard) in [
            ("2026-01-01T00:00:19.500Z", true),
            ("2026-01-01T00:00:10.001Z", true),
            ("2026-01-01T00:00:10.000Z", false),
            ("2026-01-01T00:00:20.500Z", true),
            ("2026-01-01T01:00:00.000Z", false),
            ("yesterday", false),
        ] {
            let state = NodeConfigState {
                updated: updated.to_owned(),
                generation: Some(7),
                settled: true,
                conditions: vec![condition(Reason::ForeignHosts, 1)],
            };
            let text = serde_json::to_vec(&state).unwrap();
            std::fs::write(directory.path().join(NODE_CONFIG_STATE_FILE), text).unwrap();
            assert_eq!(read(), is_heard.then_some(state), "{updated}");
        }
        std::fs::write(directory.path().join(NODE_CONFIG_STATE_FILE), "{\"updated\":").unwrap();
        assert_eq!(read(), None);
    }
}
