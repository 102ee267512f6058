//! The few headers that are sent to and read from a registry. Whatever is malformed counts as absent: a cache proves
//! content by its digest, so a header is a hint.

use bytes::Bytes;
use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::{Error, Kind, RangeRequest};
use crate::oci::{Digest, MediaType};

/// Registries choose what to answer by this list, and some answer schema 1 or 404 when a type is missing from it.
const ACCEPT_MANIFESTS: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.docker.distribution.manifest.v2+json, */*";

/// The specification lets clients ignore warnings beyond 4096 bytes together.
const WARNINGS_BYTES_MAX: usize = 4096;

/// Types that servers send when they do not know the type.
const GENERIC_TYPES: [&str; 4] = [
    "application/json",
    "application/octet-stream",
    "binary/octet-stream",
    "text/plain",
];

/// A part of an object as `Content-Range` tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ContentRange {
    pub(super) start: u64,
    /// Exclusive.
    pub(super) end: u64,
    pub(super) total: Option<u64>,
}

pub(super) fn accepting_manifests() -> HeaderMap {
    accepting(ACCEPT_MANIFESTS)
}

pub(super) fn accepting(types: &'static str) -> HeaderMap {
    HeaderMap::from_iter([
        (header::ACCEPT, HeaderValue::from_static(types)),
        // Anything else would change the bytes under a digest.
        (header::ACCEPT_ENCODING, HeaderValue::from_static("identity")),
    ])
}

/// `Range`, whose last byte is inclusive.
pub(super) fn range(range: &RangeRequest) -> Result<HeaderValue, Error> {
    let value = match range.end {
        None => format!("bytes={}-", range.start),
        Some(end) if end > range.start => format!("bytes={}-{}", range.start, end - 1),
        Some(_) => {
            return Err(Error::new(
                Kind::RangeNotSatisfiable { total: None },
                "an empty range",
            ));
        }
    };
    HeaderValue::try_from(value).map_err(|error| Error::new(Kind::Protocol, "range").with_source(error))
}

pub(super) fn content_range(headers: &HeaderMap) -> Option<ContentRange> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (part, total) = strip_unit(value)?.split_once('/')?;
    let (start, last) = part.split_once('-')?;
    let (start, last) = (number(start)?, number(last)?);
    let end = last.checked_add(1).filter(|end| start < *end)?;
    let total = match total.trim() {
        "*" => None,
        total => Some(number(total).filter(|total| end <= *total)?),
    };
    Some(ContentRange { start, end, total })
}

/// The length that a 416 names: `bytes */N`.
pub(super) fn unsatisfied_total(headers: &HeaderMap) -> Option<u64> {
    let value = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    number(strip_unit(value)?.strip_prefix("*/")?)
}

fn strip_unit(value: &str) -> Option<&str> {
    let (unit, rest) = value.trim().split_at_checked(5)?;
    unit.eq_ignore_ascii_case("bytes")
        .then(|| rest.trim_start_matches([' ', '=']))
}

/// Digits only: `parse` alone would take a sign.
fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    text.bytes()
        .all(|c| c.is_ascii_digit())
        .then(|| text.parse().ok())?
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    number(headers.get(header::CONTENT_LENGTH)?.to_str().ok()?)
}

pub(super) fn content_digest(headers: &HeaderMap) -> Option<Digest> {
    headers
        .get("docker-content-digest")?
        .to_str()
        .ok()?
        .trim()
        .parse()
        .ok()
}

/// `Content-Type` without parameters, unless it says nothing.
pub(super) fn media_type(headers: &HeaderMap) -> Option<MediaType> {
    content_type(headers).filter(|media_type| !GENERIC_TYPES.contains(&media_type.as_str()))
}

pub(super) fn content_type(headers: &HeaderMap) -> Option<MediaType> {
    headers.get(header::CONTENT_TYPE)?.to_str().ok()?.parse().ok()
}

/// Whether the body is labelled as a web page or as JSON.
pub(super) fn is_labelled_text(headers: &HeaderMap) -> bool {
    content_type(headers).is_some_and(|media_type| {
        matches!(
            media_type.as_str(),
            "text/html" | "text/plain" | "application/json"
        )
    })
}

/// Whether the body is encoded in a way that hides the bytes that the digest is about.
pub(super) fn is_encoded(headers: &HeaderMap) -> bool {
    codings(headers).next().is_some()
}

/// Whether the body is an object that a store labels as gzip because it is a gzip file by itself (S3, Apache): its
/// bytes may well be those of the digest. What is compressed on its way has no length to announce.
pub(super) fn is_labelled_gzip(headers: &HeaderMap) -> bool {
    content_length(headers).is_some()
        && codings(headers)
            .all(|coding| coding.eq_ignore_ascii_case("gzip") || coding.eq_ignore_ascii_case("x-gzip"))
}

fn codings(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    values(headers, &header::CONTENT_ENCODING)
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|coding| !coding.is_empty() && !coding.eq_ignore_ascii_case("identity"))
}

/// A strong entity tag, quotes included (RFC 9110, 8.8.3).
pub(super) fn strong_etag(headers: &HeaderMap) -> Option<HeaderValue> {
    let value = headers.get(header::ETAG)?;
    let bytes = value.as_bytes();
    (bytes.len() > 2 && bytes.starts_with(b"\"") && bytes.ends_with(b"\"")).then(|| value.clone())
}

pub(super) fn warnings(headers: &HeaderMap) -> Vec<String> {
    let mut bytes_left = WARNINGS_BYTES_MAX;
    values(headers, &header::WARNING)
        .map_while(|value| {
            bytes_left = bytes_left.checked_sub(value.len())?;
            Some(value.to_owned())
        })
        .collect()
}

pub(super) fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// Every readable value of `name`, in order.
pub(super) fn values<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
}

/// Registries and what stands before them say this in bodies of any status.
pub(super) fn says_too_many_requests(body: &Bytes) -> bool {
    const CODE: &[u8] = b"toomanyrequests";
    body.windows(CODE.len())
        .any(|window| window.eq_ignore_ascii_case(CODE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn content_range_is_inclusive_on_the_wire_and_exclusive_here() {
        let parse =
            |value| content_range(&with(header::CONTENT_RANGE, value)).map(|r| (r.start, r.end, r.total));
        assert_eq!(parse("bytes 1-100/926491594"), Some((1, 101, Some(926_491_594))));
        assert_eq!(parse("Bytes 0-0/*"), Some((0, 1, None)));
        for value in [
            "bytes */5",
            "bytes 5-4/9",
            "bytes 0-9/5",
            "bytes -1-2/3",
            "bytes +1-2/3",
            "lines 1-2/3",
            "bytes",
            "",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(parse(value), None, "{value}");
        }
        assert_eq!(
            unsatisfied_total(&with(header::CONTENT_RANGE, "bytes */0")),
            Some(0)
        );
        assert_eq!(
            unsatisfied_total(&with(header::CONTENT_RANGE, "bytes 0-1/2")),
            None
        );
    }

    #[test]
    fn a_range_ends_before_its_end() {
        let value = |start, end| {
            let if_range = None;
            range(&RangeRequest { start, end, if_range }).map(|value| value.to_str().unwrap().to_owned())
        };
        assert_eq!(value(101, None).unwrap(), "bytes=101-");
        assert_eq!(value(0, Some(1)).unwrap(), "bytes=0-0");
        assert!(value(5, Some(5)).is_err());
    }

    #[test]
    fn hints_that_say_nothing_count_as_absent() {
        for value in [
            "application/json",
            "text/plain; charset=utf-8",
            "application/octet-stream",
            "",
            "x",
        ] {
            assert_eq!(media_type(&with(header::CONTENT_TYPE, value)), None, "{value}");
        }
        let typed = with(
            header::CONTENT_TYPE,
            "application/vnd.oci.image.index.v1+json; charset=utf-8",
        );
        assert_eq!(media_type(&typed).unwrap().as_str(), MediaType::OCI_INDEX);
        for value in ["md5:00", "sha256:00", "\"\""] {
            assert_eq!(
                content_digest(&with(HeaderName::from_static("docker-content-digest"), value)),
                None
            );
        }
        for (value, is_strong) in [
            ("\"a-1\"", true),
            ("W/\"a\"", false),
            ("a", false),
            ("\"\"", false),
        ] {
            assert_eq!(
                strong_etag(&with(header::ETAG, value)).is_some(),
                is_strong,
                "{value}"
            );
        }
        for (value, encoded) in [
            ("identity", false),
            ("", false),
            ("gzip", true),
            ("identity, br", true),
        ] {
            assert_eq!(
                is_encoded(&with(header::CONTENT_ENCODING, value)),
                encoded,
                "{value}"
            );
        }
    }

    #[test]
    fn a_label_of_gzip_is_believed_only_with_a_length() {
        for (coding, length, is_label) in [
            ("gzip", Some("5"), true),
            ("X-GZIP", Some("5"), true),
            ("gzip", None, false),
            ("gzip, br", Some("5"), false),
            ("zstd", Some("5"), false),
        ] {
            let mut headers = with(header::CONTENT_ENCODING, coding);
            headers.extend(length.map(|length| (header::CONTENT_LENGTH, HeaderValue::from_static(length))));
            assert_eq!(is_labelled_gzip(&headers), is_label, "{coding} {length:?}");
        }
    }

    #[test]
    fn a_rate_limit_is_heard_in_any_body() {
        for body in [
            r#"{"errors":[{"code":"TOOMANYREQUESTS"}]}"#,
            r#"{"message":"toomanyrequests: You have reached your pull rate limit."}"#,
        ] {
            assert!(says_too_many_requests(&Bytes::from_static(body.as_bytes())));
        }
        assert!(!says_too_many_requests(&Bytes::from_static(b"too")));
    }
}
