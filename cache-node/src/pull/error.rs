//! Why a pull has no answer, in the classes that clients can tell apart (distribution-spec, "Error Codes").

use std::time::Duration;

use crate::upstream::Kind;
use crate::{fill, store, upstream};

/// What kind of thing was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Subject {
    /// A manifest.
    Manifest,
    /// A blob.
    Blob,
    /// A list of tags or referrers.
    Listing,
}

/// Why a pull has no answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The configuration does not name this registry: it is never contacted.
    #[error("the registry is not configured")]
    UnknownRegistry,
    /// The configuration does not let this repository be served ([`crate::config::RepositoryRules`]).
    #[error("the configuration does not let this cache serve the repository")]
    NotAllowed,
    /// Upstream says that it does not have it.
    #[error("upstream does not have it")]
    NotFound,
    /// The registry is never contacted ([`larder_crds::Mode::CacheOnly`]), and this is not here.
    #[error("this cache only serves what it has, and it does not have this")]
    NotKept,
    /// Upstream wants credentials that the cache does not have. Clients must not be challenged for theirs.
    #[error("upstream wants credentials that this cache does not have")]
    Unauthorized,
    /// Upstream refuses.
    #[error("upstream refuses access")]
    Denied,
    /// Upstream says that the request itself is wrong.
    #[error("upstream refuses the request as malformed")]
    Malformed,
    /// Upstream limits the rate of requests.
    #[error("upstream limits the rate of requests")]
    RateLimited(Option<Duration>),
    /// Upstream cannot be reached, fails, or sends what cannot be right.
    #[error("upstream failed")]
    Unavailable,
    /// Upstream did not answer in time.
    #[error("upstream did not answer in time")]
    TimedOut,
    /// The cache itself is too busy, or its disk fails.
    #[error("the cache cannot take this on now")]
    Overloaded,
}

impl Error {
    /// Whether the last known good answer is better than this one: only when upstream could not be asked.
    pub fn allows_stale(&self) -> bool {
        match self {
            Self::RateLimited(_) | Self::Unavailable | Self::TimedOut | Self::Overloaded => true,
            Self::UnknownRegistry
            | Self::NotAllowed
            | Self::NotFound
            | Self::NotKept
            | Self::Unauthorized
            | Self::Denied
            | Self::Malformed => false,
        }
    }

    /// The value of the `outcome` label.
    pub fn metric_label(&self) -> &'static str {
        match self {
            Self::UnknownRegistry => "unknown_registry",
            Self::NotAllowed => "not_allowed",
            Self::NotFound => "not_found",
            Self::NotKept => "not_kept",
            Self::Unauthorized => "unauthorized",
            Self::Denied => "denied",
            Self::Malformed => "malformed",
            Self::RateLimited(_) => "rate_limited",
            Self::Unavailable => "unavailable",
            Self::TimedOut => "timeout",
            Self::Overloaded => "overloaded",
        }
    }
}

impl From<&upstream::Error> for Error {
    fn from(error: &upstream::Error) -> Self {
        match error.kind() {
            Kind::NotFound => Self::NotFound,
            Kind::Unauthorized => Self::Unauthorized,
            Kind::Denied => Self::Denied,
            Kind::RateLimited { retry_after } => Self::RateLimited(retry_after),
            Kind::Timeout | Kind::Status(408 | 504) => Self::TimedOut,
            Kind::Status(400..=499) => Self::Malformed,
            Kind::RangeNotSatisfiable { .. }
            | Kind::RedirectRefused(_)
            | Kind::Status(_)
            | Kind::Connect
            | Kind::Tls
            | Kind::Dns
            | Kind::Blocked
            | Kind::Protocol
            | Kind::TooLarge
            | Kind::BodyCut => Self::Unavailable,
        }
    }
}

impl From<&fill::Error> for Error {
    fn from(error: &fill::Error) -> Self {
        match error {
            fill::Error::Upstream(error) => Self::from(error),
            fill::Error::Fault(_) | fill::Error::Mismatch(_) => Self::Unavailable,
            fill::Error::Stalled(_) | fill::Error::TimedOut => Self::TimedOut,
            fill::Error::Store(_)
            | fill::Error::Busy
            | fill::Error::Paused
            | fill::Error::Condemned
            | fill::Error::LeftBehind => Self::Overloaded,
        }
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
        Self::Overloaded
    }
}
