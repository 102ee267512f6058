//! Answers that carry a blob: whole, one range, several ranges, or none.

use axum::body::Body;
use futures_util::stream::{self, BoxStream, StreamExt as _};
use http::header::{ACCEPT_RANGES, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use super::error::{Error, ErrorCode, Status};
use super::multipart::Layout;
use super::range::{self, ByteRange, Outcome};
use super::{DOCKER_CONTENT_DIGEST, conditional, header_value, refusal};
use crate::fill::{self, Content};
use crate::oci::Digest;

type Bytes = BoxStream<'static, Result<bytes::Bytes, fill::Error>>;

/// The answer to a HEAD. Ranges mean nothing to it (RFC 9110, 14.2).
pub(super) fn head(digest: &Digest, length: u64, request: &HeaderMap) -> Result<Response<Body>, Error> {
    if let Some(response) = unchanged(digest, request)? {
        return Ok(response);
    }
    let mut response = whole(digest, Some(length), Body::empty())?;
    response
        .headers_mut()
        .insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    Ok(response)
}

/// The answer to a GET of a blob of `length` bytes. Without a length there are no ranges: the whole content is
/// always a right answer.
pub(super) fn get(
    digest: &Digest,
    content: Content,
    length: Option<u64>,
    request: &HeaderMap,
) -> Result<Response<Body>, Error> {
    if let Some(response) = unchanged(digest, request)? {
        return Ok(response);
    }
    let Some(length) = length else {
        return whole(digest, None, body(content.read(0..u64::MAX, false)));
    };
    let wanted = wanted(digest, request);
    let outcome = wanted.map_or(Outcome::Whole, |header| range::parse(header, length));
    let mut response = match outcome {
        Outcome::Whole => whole(digest, Some(length), body(content.read(0..length, false)))?,
        Outcome::Unsatisfiable => return Err(unsatisfiable(length)),
        Outcome::Single(range) => single(digest, content, range, length, wanted.is_some_and(is_explicit))?,
        Outcome::Several(ranges) => several(digest, content, &ranges, length)?,
    };
    response
        .headers_mut()
        .insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    Ok(response)
}

fn unchanged(digest: &Digest, request: &HeaderMap) -> Result<Option<Response<Body>>, Error> {
    match conditional::evaluate(request, &conditional::etag(digest)) {
        conditional::Outcome::Proceed => Ok(None),
        conditional::Outcome::PreconditionFailed => Err(refusal::precondition_failed()),
        conditional::Outcome::NotModified => {
            let mut response = Response::new(Body::empty());
            *response.status_mut() = StatusCode::NOT_MODIFIED;
            response
                .headers_mut()
                .insert(ETAG, header_value(&conditional::etag(digest))?);
            response
                .headers_mut()
                .insert(DOCKER_CONTENT_DIGEST, header_value(&digest.to_string())?);
            Ok(Some(response))
        }
    }
}

/// The `Range` header, if it counts: several lines do not, and neither does one whose `If-Range` fails.
fn wanted<'a>(digest: &Digest, request: &'a HeaderMap) -> Option<&'a str> {
    let mut lines = request.get_all(RANGE).iter();
    let (first, None) = (lines.next()?, lines.next()) else {
        return None;
    };
    first
        .to_str()
        .ok()
        .filter(|_| conditional::range_applies(request, &conditional::etag(digest)))
}

/// The first byte that the answer may need: 0 unless a single range, and nothing that could undo it, names another.
pub(super) fn first_byte(request: &HeaderMap) -> u64 {
    let mut lines = request.get_all(RANGE).iter();
    let (Some(line), None, None) = (lines.next(), lines.next(), request.get(IF_RANGE)) else {
        return 0;
    };
    let range = line.to_str().ok().and_then(|line| line.strip_prefix("bytes="));
    let start = range
        .and_then(|range| range.split_once('-'))
        .map(|(start, _)| start.trim());
    let is_single = range.is_some_and(|range| !range.contains(','));
    start
        .filter(|_| is_single)
        .and_then(|start| start.parse().ok())
        .unwrap_or(0)
}

/// Whether a range says where it ends: an open one is the rest of a download, and its end must be proved.
fn is_explicit(header: &str) -> bool {
    !header.trim_end().ends_with('-')
}

fn whole(digest: &Digest, length: Option<u64>, body: Body) -> Result<Response<Body>, Error> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
    headers.insert(DOCKER_CONTENT_DIGEST, header_value(&digest.to_string())?);
    headers.insert(ETAG, header_value(&conditional::etag(digest))?);
    if let Some(length) = length {
        headers.insert(CONTENT_LENGTH, length.into());
    }
    Ok(response)
}

fn single(
    digest: &Digest,
    content: Content,
    range: ByteRange,
    length: u64,
    is_explicit: bool,
) -> Result<Response<Body>, Error> {
    let bytes = content.read(range.start..range.end, is_explicit);
    let mut response = whole(digest, Some(range.length()), body(bytes))?;
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    let content_range = header_value(&range.content_range(length).to_string())?;
    response.headers_mut().insert(CONTENT_RANGE, content_range);
    Ok(response)
}

fn several(
    digest: &Digest,
    content: Content,
    ranges: &[ByteRange],
    length: u64,
) -> Result<Response<Body>, Error> {
    let layout = Layout::new(digest, length, ranges);
    let end = stream::iter([Ok(layout.end)]);
    let parts = stream::iter(layout.parts).flat_map(move |part| {
        let bytes = content.clone().read(part.range.start..part.range.end, true);
        stream::iter([Ok(part.head)]).chain(bytes)
    });
    let mut response = whole(
        digest,
        Some(layout.content_length),
        body(parts.chain(end).boxed()),
    )?;
    *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, header_value(&layout.content_type)?);
    Ok(response)
}

fn unsatisfiable(length: u64) -> Error {
    let refusal = Error::new(
        Status::RangeNotSatisfiable,
        ErrorCode::RangeInvalid,
        format!("no byte of the range lies within the {length} bytes of the blob"),
    );
    match HeaderValue::from_str(&range::unsatisfiable_content_range(length)) {
        Ok(content_range) => refusal.with_header(CONTENT_RANGE, content_range),
        Err(_) => refusal,
    }
}

fn body(bytes: Bytes) -> Body {
    Body::from_stream(bytes)
}
