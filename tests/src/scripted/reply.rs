//! An answer as data: head, body and the faults to commit while sending it.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::json;

use super::Content;
use super::request::Request;

/// How the end of the body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// `Content-Length`; the body's own unless the headers already hold one.
    Length,
    /// `Transfer-Encoding: chunked` (HTTP/2: no length).
    Chunked,
    /// Neither: the connection's end is the body's end (HTTP/2: no length).
    UntilClose,
}

/// How sending ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// As it should.
    Complete,
    /// The connection is closed with FIN (HTTP/2: the stream is reset).
    Fin,
    /// The connection is closed with RST (HTTP/2: the stream is reset).
    Rst,
    /// Nothing more comes, and the connection stays open.
    Stall,
}

/// A part of some content, and what is done to it on the way.
#[derive(Clone, Debug)]
pub struct Body {
    /// The whole content.
    pub content: Content,
    /// First byte of the content in this body.
    pub start: u64,
    /// Number of the content's bytes in this body.
    pub len: u64,
    /// Number of filler bytes (`x`) after them.
    pub extra: u64,
    /// Offsets in the content whose bytes are sent inverted.
    pub wrong: Option<Range<u64>>,
}

impl Body {
    /// The whole of `content`.
    pub fn whole(content: impl Into<Content>) -> Self {
        let content = content.into();
        Self {
            start: 0,
            len: content.len(),
            extra: 0,
            wrong: None,
            content,
        }
    }

    /// Bytes this body has, filler included.
    pub fn total(&self) -> u64 {
        self.len + self.extra
    }

    /// At most `max` bytes from offset `at` of this body.
    pub(super) fn read(&self, at: u64, max: usize) -> Bytes {
        if at >= self.len {
            return Bytes::from(vec![b'x'; max.min((self.total() - at) as usize)]);
        }
        let offset = self.start + at;
        let bytes = self
            .content
            .read(offset, (max as u64).min(self.len - at) as usize);
        let Some(wrong) = &self.wrong else { return bytes };
        let end = offset + bytes.len() as u64;
        let (from, to) = (wrong.start.clamp(offset, end), wrong.end.clamp(offset, end));
        if from >= to {
            return bytes;
        }
        let mut bytes = BytesMut::from(bytes.as_ref());
        for byte in &mut bytes[(from - offset) as usize..(to - offset) as usize] {
            *byte = !*byte;
        }
        bytes.freeze()
    }
}

/// One answer. Every field may be changed by [`Action::with`](super::Action::with).
#[derive(Clone, Debug)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// Reason phrase; the usual one when `None`.
    pub reason: Option<String>,
    /// Header lines, written verbatim and in this order.
    pub headers: Vec<(String, String)>,
    /// Body; not sent to a HEAD.
    pub body: Body,
    /// How the body's end is told.
    pub framing: Framing,
    /// Digest of the whole content, for the record.
    pub digest: Option<String>,
    /// Wait before the head is sent.
    pub head_delay: Duration,
    /// End without sending a head at all.
    pub no_head: Option<Ending>,
    /// After this many body bytes, end so.
    pub cut: Option<(u64, Ending)>,
    /// After so many body bytes, wait so long; in ascending order.
    pub pauses: Vec<(u64, Duration)>,
    /// Body bytes per second.
    pub rate: Option<u64>,
    /// Send these bytes instead of head and body (HTTP/1.1 only), then close with FIN.
    pub raw: Option<Bytes>,
}

impl Reply {
    /// An answer with a body and no headers but its length.
    pub fn new(status: u16, body: impl Into<Content>) -> Self {
        Self {
            status,
            reason: None,
            headers: Vec::new(),
            body: Body::whole(body),
            framing: Framing::Length,
            digest: None,
            head_delay: Duration::ZERO,
            no_head: None,
            cut: None,
            pauses: Vec::new(),
            rate: None,
            raw: None,
        }
    }

    /// An error as OCI's distribution spec writes it.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = json!({"errors": [{"code": code, "message": message, "detail": null}]}).to_string();
        Self::new(status, body).header("Content-Type", "application/json")
    }

    /// Adds a header line.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Replaces every line of this header by one.
    pub fn set_header(&mut self, name: &str, value: impl Into<String>) {
        self.remove_header(name);
        self.headers.push((name.to_owned(), value.into()));
    }

    /// Removes every line of this header.
    pub fn remove_header(&mut self, name: &str) {
        self.headers.retain(|(key, _)| !key.eq_ignore_ascii_case(name));
    }

    /// The first value of a header.
    pub fn get_header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// A 200 with `content`, or what the request's `Range` makes of it: 206 or 416 (RFC 9110, one range only;
    /// several are answered with everything, which the RFC allows).
    pub(crate) fn ranged(content: Content, request: &Request, etag: &str) -> Self {
        let size = content.len();
        let reply = Self::new(200, content).header("Accept-Ranges", "bytes");
        let same = request
            .header("If-Range")
            .is_none_or(|validator| validator == etag);
        let Some(range) = request.header("Range").filter(|_| same).and_then(parse_range) else {
            return reply;
        };
        let mut reply = reply;
        match range.resolve(size) {
            Some(part) => {
                reply.status = 206;
                reply.body.start = part.start;
                reply.body.len = part.end - part.start;
                reply.header(
                    "Content-Range",
                    format!("bytes {}-{}/{size}", part.start, part.end - 1),
                )
            }
            None => Self::new(416, "").header("Content-Range", format!("bytes */{size}")),
        }
    }

    /// The `Content-Length` to announce, unless a header already says one.
    pub(super) fn announced_length(&self) -> Option<u64> {
        let has_own = self.get_header("Content-Length").is_some();
        let bodiless = matches!(self.status, 100..=199 | 204 | 304);
        (self.framing == Framing::Length && !has_own && !bodiless).then(|| self.body.total())
    }

    /// Whether body bytes follow the head.
    pub(super) fn has_body(&self, request: &Request) -> bool {
        !request.is_head() && !matches!(self.status, 100..=199 | 204 | 304)
    }
}

/// One byte range, as asked for.
struct AskedRange {
    first: Option<u64>,
    last: Option<u64>,
}

fn parse_range(value: &str) -> Option<AskedRange> {
    let (first, last) = value.strip_prefix("bytes=")?.split_once('-')?;
    let number = |text: &str| (!text.is_empty()).then(|| text.trim().parse().ok());
    let asked = AskedRange {
        first: number(first).map_or(Some(None), |n| n.map(Some))?,
        last: number(last).map_or(Some(None), |n| n.map(Some))?,
    };
    let backwards = matches!((asked.first, asked.last), (Some(first), Some(last)) if last < first);
    (!backwards && (asked.first.is_some() || asked.last.is_some())).then_some(asked)
}

impl AskedRange {
    fn resolve(&self, size: u64) -> Option<Range<u64>> {
        let part = match (self.first, self.last) {
            (Some(first), last) => first..last.map_or(size, |last| last.saturating_add(1).min(size)),
            (None, Some(suffix)) => size.saturating_sub(suffix)..size,
            (None, None) => return None,
        };
        (part.start < part.end).then_some(part)
    }
}
