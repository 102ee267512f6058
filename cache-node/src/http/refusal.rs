//! Which status and code a client gets for what went wrong in a pull: the mapping that decides whether a runtime
//! goes on to the real registry.

use super::error::{Error, ErrorCode, Status};
use crate::pull::{self, Subject};

/// What `Retry-After` says when upstream did not: its own limits work in windows of hours, ours in seconds.
const RATE_LIMITED_RETRY_S: u64 = 60;
const OVERLOADED_RETRY_S: u64 = 5;

/// The client's view of a failed pull. Never a challenge, for that would draw the client's credentials to us.
pub(super) fn from_pull(error: &pull::Error, subject: Subject) -> Error {
    let unknown = match subject {
        Subject::Manifest => ErrorCode::ManifestUnknown,
        Subject::Blob => ErrorCode::BlobUnknown,
        Subject::Listing => ErrorCode::NameUnknown,
    };
    let (status, code) = match error {
        pull::Error::UnknownRegistry | pull::Error::NotAllowed | pull::Error::Unauthorized => {
            (Status::NotFound, ErrorCode::NameUnknown)
        }
        pull::Error::NotFound | pull::Error::NotKept => (Status::NotFound, unknown),
        pull::Error::Denied => (Status::Forbidden, ErrorCode::Denied),
        pull::Error::Malformed => (Status::BadRequest, malformed(subject)),
        pull::Error::RateLimited(_) => (Status::TooManyRequests, ErrorCode::TooManyRequests),
        pull::Error::Unavailable => (Status::BadGateway, ErrorCode::Unavailable),
        pull::Error::TimedOut => (Status::GatewayTimeout, ErrorCode::Unavailable),
        pull::Error::Overloaded => (Status::Unavailable, ErrorCode::Unavailable),
    };
    let refusal = Error::new(status, code, error.to_string());
    match error {
        pull::Error::RateLimited(after) => {
            refusal.with_retry_after(after.map_or(RATE_LIMITED_RETRY_S, |after| after.as_secs().max(1)))
        }
        pull::Error::Overloaded => refusal.with_retry_after(OVERLOADED_RETRY_S),
        _ => refusal,
    }
}

/// 412: the client wanted another content than there is.
pub(super) fn precondition_failed() -> Error {
    let message = "the content is another than the one that If-Match names";
    Error::new(Status::PreconditionFailed, ErrorCode::Unsupported, message)
}

fn malformed(subject: Subject) -> ErrorCode {
    match subject {
        Subject::Manifest | Subject::Listing => ErrorCode::ManifestInvalid,
        Subject::Blob => ErrorCode::DigestInvalid,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn absent_stays_absent_and_unknown_stays_unknown() {
        let of = |error: pull::Error| from_pull(&error, Subject::Blob).status().as_u16();
        assert_eq!(of(pull::Error::NotFound), 404);
        assert_eq!(of(pull::Error::NotKept), 404);
        assert_eq!(of(pull::Error::UnknownRegistry), 404);
        assert_eq!(of(pull::Error::NotAllowed), 404);
        assert_eq!(of(pull::Error::Unauthorized), 404, "never a challenge");
        assert_eq!(of(pull::Error::Denied), 403);
        assert_eq!(of(pull::Error::Malformed), 400);
        assert_eq!(of(pull::Error::RateLimited(None)), 429);
        assert_eq!(of(pull::Error::Unavailable), 502);
        assert_eq!(of(pull::Error::Overloaded), 503);
        assert_eq!(of(pull::Error::TimedOut), 504);
    }

    #[test]
    fn a_limit_says_when_to_come_back() {
        for (after, seconds) in [
            (None, "60"),
            (Some(Duration::from_millis(1)), "1"),
            (Some(Duration::from_secs(7)), "7"),
        ] {
            let response = from_pull(&pull::Error::RateLimited(after), Subject::Manifest).to_response(false);
            assert_eq!(response.headers()["retry-after"], seconds);
        }
    }
}
