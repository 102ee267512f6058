//! Open files and connections are descriptors, of which a process has so many and no more. Whoever would need one beyond them
//! waits for a connection, which a client does not notice, and not for a file in the middle of an answer.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::Limits;

/// Listeners, the lock, the ledger, directories that are being listed, lookups of names.
const OWN: usize = 32;
/// The data, its journal, and a file on its way to its name.
const PER_FILL: usize = 3;
/// The client's, and the file that it reads.
const PER_CONNECTION: usize = 2;
/// Requests for blobs and for manifests are counted apart.
const REQUEST_KINDS: usize = 2;
/// The one for this node's programs and the one for other machines.
const ADMIN_LISTENERS: usize = 2;
/// A probe or a scrape must not wait for another.
const ADMIN_CONNECTIONS_MIN: usize = 4;

/// Takes as many as the process may have; returns how many that are. The soft limit is often 1024: for programs that use
/// `select`, which nothing here does.
pub(super) fn raise_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let granted = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::warn!(%error, "cannot raise the limit of open files");
            limit.current
        }
    };
    granted.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX))
}

impl Limits {
    /// These limits, lowered to what a process with so many descriptors can keep to.
    #[must_use]
    pub fn within(mut self, descriptors: usize) -> Self {
        let left = descriptors.saturating_sub(OWN);
        let requests = &mut self.upstream.concurrent_requests_max;
        *requests = (left / 8).clamp(1, *requests);
        let fills = &mut self.fill.fills;
        *fills = (left / 16).clamp(1, *fills);
        let admin = &mut self.admin_connections;
        *admin = (left / 32).max(ADMIN_CONNECTIONS_MIN).min(*admin);
        let others = *requests * REQUEST_KINDS + *fills * PER_FILL + *admin * ADMIN_LISTENERS;
        let connections = &mut self.connections.connections;
        *connections = (left.saturating_sub(others) / PER_CONNECTION).clamp(1, *connections);
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_together_fits() {
        for descriptors in [64, 128, 200, 1024, 4096, 1 << 20] {
            let limits = Limits::default().within(descriptors);
            let needed = OWN
                + limits.connections.connections * PER_CONNECTION
                + limits.fill.fills * PER_FILL
                + limits.upstream.concurrent_requests_max * REQUEST_KINDS
                + limits.admin_connections * ADMIN_LISTENERS;
            assert!(needed <= descriptors, "{descriptors}: {limits:?}");
        }
    }

    #[test]
    fn with_plenty_nothing_is_lowered() {
        let (given, whole) = (Limits::default().within(1 << 20), Limits::default());
        assert_eq!(given.connections.connections, whole.connections.connections);
        assert_eq!(given.fill.fills, whole.fill.fills);
        assert_eq!(given.admin_connections, whole.admin_connections);
    }
}
