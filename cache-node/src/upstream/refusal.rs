//! What a response without success means.

use std::time::SystemTime;

use reqwest::header;
use reqwest::{Response, StatusCode};

use super::{Error, Kind, body, governor, headers};

/// The error that a response without success is.
pub(super) async fn error(place: String, response: Response) -> Error {
    let status = response.status();
    let retry_after = headers::text(response.headers(), header::RETRY_AFTER.as_str())
        .and_then(|value| governor::retry_after(&value, SystemTime::now()));
    let total = headers::unsatisfied_total(response.headers());
    let is_limited = headers::says_too_many_requests(&body::read_beginning(response).await);
    let kind = match status {
        _ if status == StatusCode::TOO_MANY_REQUESTS || is_limited => Kind::RateLimited { retry_after },
        StatusCode::UNAUTHORIZED => Kind::Unauthorized,
        StatusCode::FORBIDDEN => Kind::Denied,
        StatusCode::NOT_FOUND | StatusCode::GONE => Kind::NotFound,
        StatusCode::RANGE_NOT_SATISFIABLE => Kind::RangeNotSatisfiable { total },
        status => Kind::Status(status.as_u16()),
    };
    Error::new(kind, place)
}
