//! What a client may see when something fails: never our internals, never a status that breaks clients.
//!
//! A 401 would make runtimes send us their users' credentials and a final 3xx makes containerd give up, so
//! [`Status`] has neither.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use serde_json::json;

use super::route::RouteError;

/// An error code of the distribution specification ("Error Codes"), and the two of Docker's older registry API
/// that fill its gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorCode {
    /// The blob is unknown to the registry.
    BlobUnknown,
    /// The blob upload is invalid.
    BlobUploadInvalid,
    /// The blob upload is unknown to the registry.
    BlobUploadUnknown,
    /// The digest is none, or not that of the content.
    DigestInvalid,
    /// The manifest names a blob that is unknown to the registry.
    ManifestBlobUnknown,
    /// The manifest, or the reference to it, is invalid.
    ManifestInvalid,
    /// The manifest is unknown to the registry.
    ManifestUnknown,
    /// The repository name is invalid.
    NameInvalid,
    /// The repository, or the registry it should be in, is not known here.
    NameUnknown,
    /// The length is not that of the content.
    SizeInvalid,
    /// Authentication is required.
    Unauthorized,
    /// Access is refused.
    Denied,
    /// The operation is not supported.
    Unsupported,
    /// Too many requests.
    TooManyRequests,
    /// No byte of the content lies in the ranges asked for (Docker Registry HTTP API V2).
    RangeInvalid,
    /// The registry cannot answer now (Docker Registry HTTP API V2).
    Unavailable,
}

impl ErrorCode {
    /// The code as it stands in the JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::BlobUploadInvalid => "BLOB_UPLOAD_INVALID",
            Self::BlobUploadUnknown => "BLOB_UPLOAD_UNKNOWN",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestBlobUnknown => "MANIFEST_BLOB_UNKNOWN",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::SizeInvalid => "SIZE_INVALID",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Denied => "DENIED",
            Self::Unsupported => "UNSUPPORTED",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::Unavailable => "UNAVAILABLE",
        }
    }
}

/// Every status that an error may have: closed, so that none can be passed on from upstream by mistake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Status {
    /// 400
    BadRequest,
    /// 403
    Forbidden,
    /// 404
    NotFound,
    /// 405
    MethodNotAllowed,
    /// 412
    PreconditionFailed,
    /// 416
    RangeNotSatisfiable,
    /// 429
    TooManyRequests,
    /// 500: a fault of our own that nobody foresaw.
    Internal,
    /// 502
    BadGateway,
    /// 503
    Unavailable,
    /// 504
    GatewayTimeout,
}

impl From<Status> for StatusCode {
    fn from(status: Status) -> Self {
        match status {
            Status::BadRequest => Self::BAD_REQUEST,
            Status::Forbidden => Self::FORBIDDEN,
            Status::NotFound => Self::NOT_FOUND,
            Status::MethodNotAllowed => Self::METHOD_NOT_ALLOWED,
            Status::PreconditionFailed => Self::PRECONDITION_FAILED,
            Status::RangeNotSatisfiable => Self::RANGE_NOT_SATISFIABLE,
            Status::TooManyRequests => Self::TOO_MANY_REQUESTS,
            Status::Internal => Self::INTERNAL_SERVER_ERROR,
            Status::BadGateway => Self::BAD_GATEWAY,
            Status::Unavailable => Self::SERVICE_UNAVAILABLE,
            Status::GatewayTimeout => Self::GATEWAY_TIMEOUT,
        }
    }
}

/// A failure as the client sees it. The message is read by people; details belong in the log.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    status: Status,
    code: ErrorCode,
    message: String,
    /// Boxed, because every result on the way of a request is as large as its error.
    headers: Box<HeaderMap>,
}

impl Error {
    /// A failure with `message` for the person who reads the client's output.
    pub fn new(status: Status, code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            status,
            code,
            message: message.into(),
            headers: Box::default(),
        }
    }

    /// 405 for everything but GET and HEAD: the cache only pulls.
    pub fn method_not_allowed() -> Self {
        Self::new(
            Status::MethodNotAllowed,
            ErrorCode::Unsupported,
            "this is a pull-only cache: push to the registry itself",
        )
        .with_header(ALLOW, HeaderValue::from_static("GET, HEAD"))
    }

    /// Tells the client to come back after this many seconds.
    #[must_use]
    pub fn with_retry_after(self, seconds: u64) -> Self {
        self.with_header(RETRY_AFTER, seconds.into())
    }

    /// Sets one header of the answer, such as `Content-Range` with a 416.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// The status line's number.
    pub fn status(&self) -> StatusCode {
        self.status.into()
    }

    /// The code in the JSON.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    /// The answer. One to a HEAD has the headers of the GET's, `Content-Length` too, and no body (RFC 9110, 9.3.2).
    pub fn to_response(&self, is_head: bool) -> Response<Bytes> {
        let errors = json!([{"code": self.code.as_str(), "message": self.message, "detail": {}}]);
        let body = Bytes::from(json!({ "errors": errors }).to_string());
        let length = body.len();
        let mut response = Response::new(if is_head { Bytes::new() } else { body });
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        *headers = (*self.headers).clone();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(CONTENT_LENGTH, length.into());
        response
    }
}

impl From<RouteError> for Error {
    fn from(error: RouteError) -> Self {
        Self::new(error.status(), error.code(), error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_is_the_specification_s_json() {
        let error = Error::new(
            Status::NotFound,
            ErrorCode::ManifestUnknown,
            "no \"such\" manifest",
        );
        let response = error.to_response(false);
        assert_eq!(response.status(), 404);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        assert_eq!(
            response.headers()[CONTENT_LENGTH],
            response.body().len().to_string()
        );
        let body: serde_json::Value = serde_json::from_slice(response.body()).unwrap();
        let expected = json!({"errors": [{"code": "MANIFEST_UNKNOWN", "message": "no \"such\" manifest", "detail": {}}]});
        assert_eq!(body, expected);
    }

    /// Row A40 of the protocol notes: a HEAD's error carries a length and no body.
    #[test]
    fn a_head_gets_the_headers_alone() {
        let error =
            Error::new(Status::TooManyRequests, ErrorCode::TooManyRequests, "later").with_retry_after(7);
        let (get, head) = (error.to_response(false), error.to_response(true));
        assert_eq!(get.headers(), head.headers());
        assert_eq!(head.headers()[RETRY_AFTER], "7");
        assert_eq!(head.headers()[CONTENT_LENGTH], get.body().len().to_string());
        assert!(head.body().is_empty());
    }

    #[test]
    fn other_methods_are_told_which_are_allowed() {
        let response = Error::method_not_allowed().to_response(false);
        assert_eq!(response.status(), 405);
        assert_eq!(response.headers()[ALLOW], "GET, HEAD");
        assert!(
            response
                .body()
                .starts_with(b"{\"errors\":[{\"code\":\"UNSUPPORTED\"")
        );
    }
}
