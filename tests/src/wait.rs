//! Waiting for a condition instead of for a time.

use std::time::Duration;

use anyhow::{Context as _, Result};

/// How long a condition that must come true may take on a busy machine.
pub const SOON: Duration = Duration::from_secs(30);

/// How long a program or a cluster may take to come up, or to go, on a busy machine.
const UP_WITHIN: Duration = Duration::from_secs(60);

/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// Returns once `condition` holds. Panics, naming `what` was waited for, when it takes longer than [`SOON`].
pub async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let waited = look(SOON, async || Ok(condition().await.then_some(()))).await;
    assert!(waited.is_ok(), "not within {SOON:?}: {what}");
}

/// Looks until `ready` gives a value, or an error, which it also is that there was neither within a minute.
pub(crate) async fn until_some<T>(ready: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    look(UP_WITHIN, ready).await
}

/// Looks until `ready` gives a value.
///
/// # Errors
/// What `ready` fails with, or that it gave nothing `within` this time.
pub async fn look<T>(within: Duration, mut ready: impl AsyncFnMut() -> Result<Option<T>>) -> Result<T> {
    let looking = async {
        loop {
            if let Some(value) = ready().await? {
                return Ok(value);
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    // A look that hangs counts too.
    let found = tokio::time::timeout(within, looking).await;
    found.with_context(|| format!("not within {within:?}"))?
}
