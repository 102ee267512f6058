//! What a rule does to an answer. Small pieces, combined with [`Action::and`].

use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

use super::Handler;
use super::content::Content;
use super::reply::{Body, Ending, Framing, Reply};
use super::request::Request;

type Step = Arc<dyn Fn(&Request, &mut Reply) + Send + Sync>;

/// Where the answer to change comes from.
#[derive(Clone)]
enum Base {
    /// What the host would answer.
    Default,
    /// What the host would answer if the request had no `Range`.
    Unranged,
    /// A new one.
    Fresh(Box<Reply>),
}

/// How to answer: what the host would say, or something else, with faults.
#[derive(Clone)]
pub struct Action {
    base: Base,
    steps: Vec<Step>,
}

/// Another answer.
impl Action {
    /// The host's own answer, unchanged.
    pub fn pass() -> Self {
        Self {
            base: Base::Default,
            steps: Vec::new(),
        }
    }

    /// This status with an OCI error body that fits it.
    pub fn status(status: u16) -> Self {
        let (code, message) = match status {
            401 => ("UNAUTHORIZED", "authentication required"),
            403 => ("DENIED", "requested access to the resource is denied"),
            404 => ("NAME_UNKNOWN", "not found"),
            429 => ("TOOMANYREQUESTS", "too many requests"),
            _ => ("UNKNOWN", "scripted answer"),
        };
        Self::error(status, code, message)
    }

    /// This status with an OCI error body of this code.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self::reply(Reply::error(status, code, message))
    }

    /// This status, this body, and no headers but its length.
    pub fn respond(status: u16, body: impl Into<Content>) -> Self {
        Self::reply(Reply::new(status, body))
    }

    /// This very answer.
    pub fn reply(reply: Reply) -> Self {
        Self {
            base: Base::Fresh(Box::new(reply)),
            steps: Vec::new(),
        }
    }

    /// A redirect with `Location` verbatim, absolute or relative, and an empty body.
    pub fn redirect(status: u16, location: impl Into<String>) -> Self {
        Self::reply(Reply::new(status, "").header("Location", location))
    }

    /// 429 with `Retry-After` in seconds.
    pub fn rate_limited(retry_after_s: u64) -> Self {
        Self::status(429).and(Self::header("Retry-After", retry_after_s.to_string()))
    }

    /// 429 with `Retry-After` as an HTTP date (whole seconds from now).
    pub fn rate_limited_until(from_now: Duration) -> Self {
        let date = httpdate::fmt_http_date(SystemTime::now() + from_now);
        Self::status(429).and(Self::header("Retry-After", date))
    }

    /// 401 with these `WWW-Authenticate` lines, verbatim; none for an empty list.
    pub fn challenge(lines: &[&str]) -> Self {
        let reply = lines.iter().fold(
            Reply::error(401, "UNAUTHORIZED", "authentication required"),
            |reply, line| reply.header("WWW-Authenticate", *line),
        );
        Self::reply(reply)
    }

    /// These bytes in place of head and body, then FIN. HTTP/1.1 only.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self::with(move |_, reply| reply.raw = Some(bytes.clone()))
    }
}

/// Changes to the answer.
impl Action {
    /// Any change, by a closure.
    pub fn with(step: impl Fn(&Request, &mut Reply) + Send + Sync + 'static) -> Self {
        Self {
            base: Base::Default,
            steps: vec![Arc::new(step)],
        }
    }

    /// This action, then `next`. Where both replace the answer, the later one holds.
    pub fn and(mut self, next: Self) -> Self {
        if !matches!(next.base, Base::Default) {
            self.base = next.base;
        }
        self.steps.extend(next.steps);
        self
    }

    /// Only the status; headers and body stay.
    pub fn set_status(status: u16) -> Self {
        Self::with(move |_, reply| reply.status = status)
    }

    /// The reason phrase (HTTP/1.1 only); may be empty.
    pub fn reason(reason: impl Into<String>) -> Self {
        let reason = reason.into();
        Self::with(move |_, reply| reply.reason = Some(reason.clone()))
    }

    /// One more header line, verbatim (HTTP/1.1 keeps the spelling).
    pub fn header(name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        Self::with(move |_, reply| reply.headers.push((name.clone(), value.clone())))
    }

    /// This header once, whatever there was.
    pub fn set_header(name: impl Into<String>, value: impl Into<String>) -> Self {
        let (name, value) = (name.into(), value.into());
        Self::with(move |_, reply| reply.set_header(&name, value.clone()))
    }

    /// No line of this header. (`Content-Length` is the framing's: see [`until_close`](Self::until_close).)
    pub fn without_header(name: impl Into<String>) -> Self {
        let name = name.into();
        Self::with(move |_, reply| reply.remove_header(&name))
    }

    /// Another body; status and headers stay.
    pub fn body(content: impl Into<Content>) -> Self {
        let content = content.into();
        Self::with(move |_, reply| reply.body = Body::whole(content.clone()))
    }

    /// A `Content-Length` that need not be true.
    pub fn content_length(length: u64) -> Self {
        Self::set_header("Content-Length", length.to_string())
    }

    /// The body ends after `len` bytes, and `Content-Length` agrees.
    pub fn shorten_to(len: u64) -> Self {
        Self::with(move |_, reply| reply.body.len = reply.body.len.min(len))
    }

    /// `extra` bytes more than there are, and `Content-Length` agrees.
    pub fn lengthen_by(extra: u64) -> Self {
        Self::with(move |_, reply| reply.body.extra = extra)
    }

    /// The bytes at these offsets *of the content* are sent inverted, in whichever response they are.
    pub fn wrong_bytes(offsets: Range<u64>) -> Self {
        Self::with(move |_, reply| reply.body.wrong = Some(offsets.clone()))
    }

    /// Chunked, without a length.
    pub fn chunked() -> Self {
        Self::with(|_, reply| reply.framing = Framing::Chunked)
    }

    /// Neither length nor chunks: the body ends with the connection.
    pub fn until_close() -> Self {
        Self::with(|_, reply| reply.framing = Framing::UntilClose)
    }

    /// Chunked, ending cleanly after `len` bytes, as if that were all.
    pub fn chunked_short(len: u64) -> Self {
        Self::chunked().and(Self::shorten_to(len))
    }

    /// Chunked, and FIN after `len` bytes without a last chunk.
    pub fn chunked_abort(len: u64) -> Self {
        Self::chunked().and(Self::cut_fin(len))
    }
}

/// Faults in time and on the connection.
impl Action {
    /// FIN after `len` bytes of this response's body (HTTP/2: the stream is reset).
    pub fn cut_fin(len: u64) -> Self {
        Self::with(move |_, reply| reply.cut = Some((len, Ending::Fin)))
    }

    /// RST after `len` bytes of this response's body have been received (HTTP/2: the stream is reset).
    pub fn cut_rst(len: u64) -> Self {
        Self::with(move |_, reply| reply.cut = Some((len, Ending::Rst)))
    }

    /// Silence after `len` bytes of this response's body, until the client leaves.
    pub fn stall_after(len: u64) -> Self {
        Self::with(move |_, reply| reply.cut = Some((len, Ending::Stall)))
    }

    /// FIN in place of an answer.
    pub fn hangup_fin() -> Self {
        Self::with(|_, reply| reply.no_head = Some(Ending::Fin))
    }

    /// RST in place of an answer.
    pub fn hangup_rst() -> Self {
        Self::with(|_, reply| reply.no_head = Some(Ending::Rst))
    }

    /// Never an answer; the connection stays open until the client leaves.
    pub fn hang() -> Self {
        Self::with(|_, reply| reply.no_head = Some(Ending::Stall))
    }

    /// The head comes this much later.
    pub fn delay_head(delay: Duration) -> Self {
        Self::with(move |_, reply| reply.head_delay = delay)
    }

    /// A pause after `len` bytes of this response's body. May be combined with others.
    pub fn pause_after(len: u64, pause: Duration) -> Self {
        Self::with(move |_, reply| reply.pauses.push((len, pause)))
    }

    /// At most this many body bytes per second.
    pub fn rate(bytes_per_s: u64) -> Self {
        Self::with(move |_, reply| reply.rate = Some(bytes_per_s.max(1)))
    }
}

/// Lies about ranges.
impl Action {
    /// The whole object with 200, as if the request had no `Range`.
    pub fn ignore_range() -> Self {
        Self {
            base: Base::Unranged,
            steps: Vec::new(),
        }
    }

    /// Another `Content-Range` than the bytes that are sent.
    pub fn content_range(value: impl Into<String>) -> Self {
        Self::set_header("Content-Range", value)
    }

    /// The right `Content-Range`, but the bytes that start at this offset of the content.
    pub fn bytes_from(offset: u64) -> Self {
        Self::with(move |_, reply| {
            let size = reply.body.content.len();
            reply.body.start = offset.min(size - reply.body.len);
        })
    }
}

impl Action {
    pub(super) fn apply(&self, request: &Request, handler: &dyn Handler) -> Reply {
        let mut reply = match &self.base {
            Base::Default => handler.reply(request),
            Base::Unranged => {
                let mut unranged = request.clone();
                unranged
                    .headers
                    .retain(|(name, _)| !name.eq_ignore_ascii_case("Range"));
                handler.reply(&unranged)
            }
            Base::Fresh(reply) => (**reply).clone(),
        };
        for step in &self.steps {
            step(request, &mut reply);
        }
        reply
    }
}
