//! What bounds the demand on an upstream, and who is told of it.

use std::time::Duration;

/// How long and how often an upstream is tried. Production uses the default; tests shorten it.
#[derive(Clone, Debug)]
pub struct Limits {
    /// For name resolution, TCP and TLS together.
    pub connect: Duration,
    /// From sending a request to its response head.
    pub header: Duration,
    /// From one piece of a body to the next.
    pub idle: Duration,
    /// For a whole call, from waiting for a slot to the last try's head (to the body's end for manifests and listings).
    pub total: Duration,
    /// Tries of one call, the first included.
    pub tries_max: u32,
    /// The pause before the second try; it doubles with every further one.
    pub backoff_first: Duration,
    /// Requests under way at once for one credential and one [`RequestKind`].
    pub concurrent_requests_max: usize,
    /// A pause after a 429 that is waited for rather than answered with [`Kind::RateLimited`](super::Kind::RateLimited).
    pub rate_limit_wait_max: Duration,
    /// The pause after a 429 that names none.
    pub rate_limit_pause_default: Duration,
    /// The longest pause that a 429 can demand.
    pub rate_limit_pause_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            header: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(15),
            tries_max: 3,
            backoff_first: Duration::from_millis(200),
            concurrent_requests_max: 64,
            rate_limit_wait_max: Duration::from_secs(2),
            rate_limit_pause_default: Duration::from_secs(30),
            rate_limit_pause_max: Duration::from_secs(600),
        }
    }
}

/// Registries limit manifests (and listings) apart from blobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestKind {
    /// Manifests, tag lists and referrers.
    Manifest,
    /// Blobs.
    Blob,
    /// Whether the registry is there and takes our credentials; nothing that it counts as a pull.
    Probe,
}

impl RequestKind {
    /// The kind as a metric's label value.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Manifest => "manifest",
            Self::Blob => "blob",
            Self::Probe => "probe",
        }
    }
}

/// Is told what happens, for metrics. Every method does nothing unless implemented.
pub trait Observer: Send + Sync + 'static {
    /// One try of a call has ended: `outcome` is `ok` or an [`Error::metric_label`](super::Error::metric_label).
    fn request(&self, registry: &str, kind: RequestKind, outcome: &'static str) {
        let _ = (registry, kind, outcome);
    }

    /// The token server refused the credential; the request goes on anonymously.
    fn credential_refused(&self, registry: &str, secret_name: &str) {
        let _ = (registry, secret_name);
    }

    /// A probe found that the credential is good.
    fn credential_accepted(&self, registry: &str, secret_name: &str) {
        let _ = (registry, secret_name);
    }
}

/// An [`Observer`] that looks away.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoObserver;

impl Observer for NoObserver {}
