//! Why an upstream did not give what was asked for, and whether asking again can help.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::guard;

/// The class of an [`Error`]: what a caller decides by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The registry itself says that there is no such thing (404, 410).
    NotFound,
    /// The registry wants credentials that we do not have, or refuses those that we have (401).
    Unauthorized,
    /// The registry knows who asks and refuses (403), or a credential was kept from a realm that it must not reach.
    Denied,
    /// Too many requests (429); nothing was or should be sent before `retry_after` is over.
    RateLimited {
        /// How long to hold back, when known.
        retry_after: Option<Duration>,
    },
    /// The object ends before the range begins (416).
    RangeNotSatisfiable {
        /// The object's length in bytes, when the answer names it.
        total: Option<u64>,
    },
    /// The place that a registry redirected to refused with this status, twice, each time after a fresh redirect.
    RedirectRefused(u16),
    /// Any other status that is no answer.
    Status(u16),
    /// No connection, no response head, no next byte, or no free slot within its limit.
    Timeout,
    /// The connection was refused or broke before a response head came.
    Connect,
    /// The TLS handshake failed.
    Tls,
    /// The host's name has no address.
    Dns,
    /// A redirect or a realm leads to an address that it must not lead to.
    Blocked,
    /// What came is not what the protocol allows.
    Protocol,
    /// The answer is longer than its limit.
    TooLarge,
    /// The body ended early.
    BodyCut,
}

impl Kind {
    /// Whether the same request, sent again within seconds, may well succeed.
    fn is_transient(self) -> bool {
        match self {
            Self::RedirectRefused(_)
            | Self::Timeout
            | Self::Connect
            | Self::Dns
            | Self::Protocol
            | Self::BodyCut => true,
            Self::Status(status) => matches!(status, 408 | 500 | 502 | 503 | 504),
            Self::NotFound
            | Self::Unauthorized
            | Self::Denied
            | Self::RateLimited { .. }
            | Self::RangeNotSatisfiable { .. }
            | Self::Tls
            | Self::Blocked
            | Self::TooLarge => false,
        }
    }

    fn label(self) -> &'static str {
        match self {
            Self::NotFound => "not_found",
            Self::Unauthorized => "unauthorized",
            Self::Denied => "denied",
            Self::RateLimited { .. } => "rate_limited",
            Self::RangeNotSatisfiable { .. } => "range_not_satisfiable",
            Self::RedirectRefused(_) => "redirect_refused",
            Self::Status(500..) => "server_error",
            Self::Status(_) => "client_error",
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Tls => "tls",
            Self::Dns => "dns",
            Self::Blocked => "blocked",
            Self::Protocol => "protocol",
            Self::TooLarge => "too_large",
            Self::BodyCut => "body_cut",
        }
    }
}

/// A failed request to an upstream. Clones share the cause, so that everyone who waited for one request learns the same.
///
/// `Display` is for logs: it names host and path, never a query, a token or a header's value.
#[derive(Clone, Debug)]
pub struct Error {
    kind: Kind,
    detail: Arc<str>,
    source: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    pub(super) fn new(kind: Kind, detail: impl Into<Arc<str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            source: None,
        }
    }

    pub(super) fn with_source(mut self, source: impl StdError + Send + Sync + 'static) -> Self {
        self.source = Some(Arc::new(source));
        self
    }

    pub(super) fn with_kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// A failure to get a response head from `place`.
    pub(super) fn sending(place: &str, error: reqwest::Error) -> Self {
        Self::new(sending_kind(&error), place).with_source(error.without_url())
    }

    /// A failure while the body from `place` came in.
    pub(super) fn reading(place: &str, error: reqwest::Error) -> Self {
        Self::new(Kind::BodyCut, place).with_source(error.without_url())
    }

    /// The class.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Whether the same request, sent again later, may succeed without anybody mending anything. What is limited by rate
    /// counts as not retryable: it has its own time.
    pub fn retryable(&self) -> bool {
        self.kind.is_transient()
    }

    /// The class as a metric's label value: one of a fixed few.
    pub fn metric_label(&self) -> &'static str {
        self.kind.label()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Status(status) | Kind::RedirectRefused(status) => {
                write!(f, "{} {status}: {}", self.kind.label(), self.detail)
            }
            _ => write!(f, "{}: {}", self.kind.label(), self.detail),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.source
            .as_deref()
            .map(|source| source as &(dyn StdError + 'static))
    }
}

fn sending_kind(error: &reqwest::Error) -> Kind {
    for cause in causes(error) {
        if cause.is::<guard::Blocked>() {
            return Kind::Blocked;
        }
        if cause.is::<guard::Unresolved>() {
            return Kind::Dns;
        }
    }
    if error.is_timeout() {
        return Kind::Timeout;
    }
    if error.is_builder() {
        return Kind::Protocol;
    }
    if error.is_connect() && causes(error).any(is_tls) {
        return Kind::Tls;
    }
    Kind::Connect
}

/// rustls reports what it refuses through an I/O error of this kind; sockets never do.
fn is_tls(cause: &(dyn StdError + 'static)) -> bool {
    let mut error = cause.downcast_ref::<std::io::Error>();
    while let Some(found) = error {
        if found.kind() == std::io::ErrorKind::InvalidData {
            return true;
        }
        // Connectors wrap it in another I/O error, whose source is not what it wraps but what lies behind that.
        error = found.get_ref().and_then(|inner| inner.downcast_ref());
    }
    false
}

fn causes<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&'a (dyn StdError + 'static)| {
        (*error).source()
    })
}
