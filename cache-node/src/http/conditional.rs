//! Conditional requests of RFC 9110, section 13, against our entity tag: the quoted digest.
//!
//! We send no `Last-Modified`, so conditions on dates never hold.

use http::HeaderMap;
use http::header::{AsHeaderName, IF_MATCH, IF_NONE_MATCH, IF_RANGE};

use crate::oci::Digest;

/// The value of `ETag` for a content: strong, because the same digest means the same bytes.
pub fn etag(digest: &Digest) -> String {
    format!("\"{digest}\"")
}

/// What a request's conditions mean for a content that is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answer as if there were no conditions.
    Proceed,
    /// 304: the client has it. Only ever said to a client that asked with `If-None-Match`.
    NotModified,
    /// 412: the client wanted another one.
    PreconditionFailed,
}

/// Judges `If-Match` and `If-None-Match` in the RFC's order (13.2.2) against our `etag`.
pub fn evaluate(headers: &HeaderMap, etag: &str) -> Outcome {
    if headers.contains_key(IF_MATCH) && !any_tag(headers, IF_MATCH, |tag| tag == "*" || tag == etag) {
        return Outcome::PreconditionFailed;
    }
    let matches_weakly = |tag: &str| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag;
    if any_tag(headers, IF_NONE_MATCH, matches_weakly) {
        return Outcome::NotModified;
    }
    Outcome::Proceed
}

/// Whether the request's `Range` is to be followed: without `If-Range`, or with our strong `etag` in it.
pub fn range_applies(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get(IF_RANGE)
        .is_none_or(|condition| condition.as_bytes().trim_ascii() == etag.as_bytes())
}

/// Whether a tag in any of the header's lines satisfies `is_match`.
fn any_tag(headers: &HeaderMap, name: impl AsHeaderName, is_match: impl Fn(&str) -> bool) -> bool {
    headers
        .get_all(name)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .any(|line| tags(line).any(&is_match))
}

/// The entity tags of one line, `W/` and quotes included, up to the first thing that is none.
fn tags(line: &str) -> impl Iterator<Item = &str> {
    let mut rest = line;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let opening = match rest.as_bytes() {
            [b'*', ..] => return std::mem::take(&mut rest).get(..1),
            [b'"', ..] => 1,
            [b'W', b'/', b'"', ..] => 3,
            _ => return None,
        };
        let closing = opening + rest[opening..].find('"')?;
        let (tag, behind) = rest.split_at(closing + 1);
        rest = behind;
        Some(tag)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ETAG: &str = "\"sha256:ab\"";

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn if_none_match_compares_weakly_in_lists() {
        for value in [
            ETAG,
            "W/\"sha256:ab\"",
            "*",
            "\"x\", \"sha256:ab\"",
            "\"a,b\",,W/\"sha256:ab\"",
        ] {
            let outcome = evaluate(&headers(&[("if-none-match", value)]), ETAG);
            assert_eq!(outcome, Outcome::NotModified, "{value}");
        }
        for value in [
            "",
            "sha256:ab",
            "\"sha256:ab",
            "\"x\"",
            "\"x\" y \"sha256:ab\"",
            "\"*\"",
        ] {
            let outcome = evaluate(&headers(&[("if-none-match", value)]), ETAG);
            assert_eq!(outcome, Outcome::Proceed, "{value}");
        }
        let lines = headers(&[("if-none-match", "\"x\""), ("if-none-match", ETAG)]);
        assert_eq!(evaluate(&lines, ETAG), Outcome::NotModified);
    }

    #[test]
    fn if_match_compares_strongly_and_goes_first() {
        for (value, outcome) in [
            (ETAG, Outcome::Proceed),
            ("*", Outcome::Proceed),
            ("\"x\",\"sha256:ab\"", Outcome::Proceed),
            ("W/\"sha256:ab\"", Outcome::PreconditionFailed),
            ("\"x\"", Outcome::PreconditionFailed),
            ("", Outcome::PreconditionFailed),
        ] {
            assert_eq!(
                evaluate(&headers(&[("if-match", value)]), ETAG),
                outcome,
                "{value}"
            );
        }
        let both = headers(&[("if-match", "\"x\""), ("if-none-match", ETAG)]);
        assert_eq!(evaluate(&both, ETAG), Outcome::PreconditionFailed);
    }

    #[test]
    fn if_range_holds_for_our_strong_tag_alone() {
        assert!(range_applies(&HeaderMap::new(), ETAG));
        assert!(range_applies(&headers(&[("if-range", ETAG)]), ETAG));
        for value in [
            "W/\"sha256:ab\"",
            "\"x\"",
            "*",
            "Sat, 29 Oct 1994 19:43:31 GMT",
            "",
        ] {
            assert!(!range_applies(&headers(&[("if-range", value)]), ETAG), "{value}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(line: String) {
            tags(&line).count();
        }
    }
}
