//! What the container that writes the runtime's configuration has done, in a file that the cache and probes read.

use std::io;
use std::path::Path;

use jiff::Timestamp;
use larder_crds::report::{NODE_CONFIG_STATE_FILE, NodeConfigState};

use crate::conditions::node_config_state;

/// Replaces the state in the directory that the pod's containers share.
pub(super) fn write(directory: &Path, state: &NodeConfigState) -> io::Result<()> {
    let new = directory.join(".node-config.json");
    std::fs::write(&new, serde_json::to_vec(state)?)?;
    std::fs::rename(new, directory.join(NODE_CONFIG_STATE_FILE))
}

/// Removes what a process before this one said, so that nobody takes it for this one's.
pub(super) fn forget(directory: &Path) -> io::Result<()> {
    match std::fs::remove_file(directory.join(NODE_CONFIG_STATE_FILE)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Why the probe fails.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    /// There is no state, or it is too old.
    #[error("node-config has not been heard of for too long")]
    Silent,
    /// There is more to do.
    #[error("not settled: {0}")]
    Unsettled(String),
}

/// The exec probe: whether all is done that this node allows.
///
/// # Errors
/// It is not, or nobody knows.
pub fn probe(directory: &Path) -> Result<(), NotReady> {
    let state = node_config_state(directory, Timestamp::now()).ok_or(NotReady::Silent)?;
    if state.settled {
        return Ok(());
    }
    let reasons: Vec<_> = state
        .conditions
        .into_iter()
        .map(|condition| condition.reason)
        .collect();
    Err(NotReady::Unsettled(reasons.join(", ")))
}

#[cfg(test)]
mod tests {
    use larder_crds::report::NodeCondition;

    use super::*;

    #[test]
    fn the_probe_wants_a_fresh_and_settled_state() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(probe(dir.path()), Err(NotReady::Silent));
        let mut state = NodeConfigState {
            updated: Timestamp::now().to_string(),
            generation: Some(7),
            settled: true,
            conditions: vec![NodeCondition {
                reason: "CacheUnhealthy".to_owned(),
                ..NodeCondition::default()
            }],
        };
        write(dir.path(), &state).unwrap();
        assert_eq!(probe(dir.path()), Ok(()));
        state.settled = false;
        write(dir.path(), &state).unwrap();
        let unsettled = NotReady::Unsettled("CacheUnhealthy".to_owned());
        assert_eq!(probe(dir.path()), Err(unsettled));
        state.settled = true;
        state.updated = Timestamp::UNIX_EPOCH.to_string();
        write(dir.path(), &state).unwrap();
        assert_eq!(probe(dir.path()), Err(NotReady::Silent));
        forget(dir.path()).unwrap();
        assert!(!dir.path().join(NODE_CONFIG_STATE_FILE).try_exists().unwrap());
        forget(dir.path()).unwrap();
    }
}
