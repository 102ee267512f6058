//! Waiting for a condition instead of for a time.

use std::time::Duration;

/// How long a condition that must come true may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Returns once `condition` holds. Panics, naming `what` was waited for, when it takes longer than [`SOON`].
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !condition().await {
            tokio::time::sleep(LOOK).await;
        }
    };
    let waited = tokio::time::timeout(SOON, waiting).await;
    assert!(waited.is_ok(), "not within {SOON:?}: {what}");
}
