//! Why a fill has no answer.

use std::sync::Arc;

use crate::{store, upstream};

/// Why the bytes that a reader waits for will not come. Shared by all readers of a fill, therefore `Clone`.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Upstream refused or could not be reached.
    #[error("upstream failed")]
    Upstream(#[source] upstream::Error),
    /// Upstream answered with something that cannot be the blob, before any byte of it was passed on.
    #[error("upstream sent something else: {0}")]
    Fault(Fault),
    /// The whole content does not have the digest that it was asked for by.
    #[error("the content does not have the digest {0}")]
    Mismatch(crate::oci::Digest),
    /// Upstream's connection ended or stood still too often without bringing a byte.
    #[error("upstream stopped sending: {0}")]
    Stalled(&'static str),
    /// The disk failed.
    #[error("the store failed")]
    Store(#[source] Arc<store::Error>),
    /// What was stored has been found to be wrong. What this reader has may be wrong too; it is told so by a short end.
    #[error("the stored content was found to be wrong")]
    Condemned,
    /// As many fills run as may, and none ended in time.
    #[error("too many fills are running")]
    Busy,
    /// The fill did not come far enough in the time that a client can be kept waiting.
    #[error("upstream did not answer in time")]
    TimedOut,
    /// This reader was so slow that others had to be let go on. What it has is right; it can ask for the rest.
    #[error("the reader was too slow for the others")]
    LeftBehind,
    /// The fill was put aside: nobody read from it, or the process ends.
    #[error("the fill was put aside")]
    Paused,
}

/// What gives an answer away as none of the blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The length differs from the one that a verified manifest gives.
    #[error("{found} bytes where the manifest says {expected}")]
    Length {
        /// What the manifest says, in bytes.
        expected: u64,
        /// What upstream says, in bytes.
        found: u64,
    },
    /// It starts as a web page.
    #[error("a web page")]
    WebPage,
    /// It starts as a registry's JSON error.
    #[error("a registry's error document")]
    ErrorDocument,
    /// What came after a break does not continue what came before it.
    #[error("other bytes than before the connection broke")]
    Discontinuity,
}

impl From<upstream::Error> for Error {
    fn from(error: upstream::Error) -> Self {
        Self::Upstream(error)
    }
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        Self::Store(Arc::new(error))
    }
}

impl Error {
    /// The value of the `outcome` label.
    pub fn metric_label(&self) -> &'static str {
        match self {
            Self::Upstream(error) => error.metric_label(),
            Self::Fault(_) => "fault",
            Self::Mismatch(_) => "mismatch",
            Self::Stalled(_) => "stalled",
            Self::Store(_) => "store",
            Self::Condemned => "condemned",
            Self::Busy => "busy",
            Self::TimedOut => "timeout",
            Self::LeftBehind => "left_behind",
            Self::Paused => "paused",
        }
    }
}
