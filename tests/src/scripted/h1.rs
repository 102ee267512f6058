//! HTTP/1.1 by hand, so that every byte and every way to end a connection is ours.

use std::fmt::Write as _;
use std::io;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::sleep;

use super::Inner;
use super::log::{Accepted, Outcome, Recorder};
use super::playback::{Play, Playback};
use super::reply::{Ending, Framing, Reply};
use super::request::Request;
use super::socket::{Wire, close_with_fin, close_with_rst, until_client_leaves};

/// Header lines a request may have.
const HEADERS_MAX: usize = 128;

/// Bytes a request's head may have.
const HEAD_BYTES_MAX: usize = 1 << 20;

/// Bytes a request's body may have.
const BODY_BYTES_MAX: usize = 16 << 20;

/// Serves one connection until either side ends it.
pub(super) async fn serve(mut wire: impl Wire, host: &Inner, from: Accepted) {
    let mut buffer = BytesMut::new();
    while let Some(request) = read_request(&mut wire, &mut buffer, from).await {
        let recorder = host.log.begin(request.clone());
        let reply = host.answer(&request);
        recorder.head(reply.status, reply.digest.clone());
        // A write fails when the client has gone; the recorder notes that by itself when it is dropped.
        let Ok(ending) = write_reply(&mut wire, &request, &reply, &recorder).await else {
            return;
        };
        match ending {
            Ending::Complete => recorder.finish(Outcome::Complete),
            Ending::Fin | Ending::Rst => recorder.finish(Outcome::Cut),
            Ending::Stall => {
                until_client_leaves(&mut wire).await;
                return;
            }
        }
        let reusable = reply.framing != Framing::UntilClose && reply.raw.is_none();
        let close = !reusable || asks_to_close(&request.headers) || asks_to_close(&reply.headers);
        match ending {
            Ending::Rst => return close_with_rst(wire).await,
            Ending::Fin => return close_with_fin(wire).await,
            _ if close => return close_with_fin(wire).await,
            _ => {}
        }
    }
}

fn asks_to_close(headers: &[(String, String)]) -> bool {
    headers.iter().any(|(name, value)| {
        name.eq_ignore_ascii_case("Connection") && value.to_ascii_lowercase().contains("close")
    })
}

/// The next request; `None` when the client is done or speaks something else.
async fn read_request(wire: &mut impl Wire, buffer: &mut BytesMut, from: Accepted) -> Option<Request> {
    let (mut request, head_len) = loop {
        if let Some(parsed) = parse_head(buffer, from)? {
            break parsed;
        }
        if buffer.len() > HEAD_BYTES_MAX || wire.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let _ = buffer.split_to(head_len);
    let body_len = request
        .header("Content-Length")
        .map_or(Some(0), |length| length.parse().ok())?;
    if body_len > BODY_BYTES_MAX {
        return None;
    }
    while buffer.len() < body_len {
        if wire.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    request.body = buffer.split_to(body_len).freeze();
    request.at = Instant::now();
    Some(request)
}

/// `Some(None)`: more bytes are needed; `None`: not HTTP.
fn parse_head(bytes: &[u8], from: Accepted) -> Option<Option<(Request, usize)>> {
    let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut head = httparse::Request::new(&mut lines);
    let httparse::Status::Complete(len) = head.parse(bytes).ok()? else {
        return Some(None);
    };
    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
    let request = Request {
        method: head.method?.to_owned(),
        target: head.path?.to_owned(),
        headers: head
            .headers
            .iter()
            .map(|line| (line.name.to_owned(), text(line.value)))
            .collect(),
        body: Bytes::new(),
        at: Instant::now(),
        connection: from.number,
        peer: from.peer,
        http2: false,
    };
    Some(Some((request, len)))
}

async fn write_reply(
    wire: &mut impl Wire,
    request: &Request,
    reply: &Reply,
    recorder: &Recorder,
) -> io::Result<Ending> {
    sleep(reply.head_delay).await;
    if let Some(ending) = reply.no_head {
        return Ok(ending);
    }
    if let Some(raw) = &reply.raw {
        wire.write_all(raw).await?;
        wire.flush().await?;
        return Ok(Ending::Complete);
    }
    wire.write_all(render_head(reply).as_bytes()).await?;
    wire.flush().await?;
    if !reply.has_body(request) {
        return Ok(Ending::Complete);
    }
    let chunked = reply.framing == Framing::Chunked;
    let mut playback = Playback::new(reply);
    loop {
        match playback.next().await {
            Play::Data(bytes) => {
                write_piece(wire, &bytes, chunked).await?;
                recorder.sent(bytes.len());
            }
            Play::End(ending) => {
                if chunked && ending == Ending::Complete {
                    wire.write_all(b"0\r\n\r\n").await?;
                    wire.flush().await?;
                }
                return Ok(ending);
            }
        }
    }
}

async fn write_piece(wire: &mut impl Wire, bytes: &[u8], chunked: bool) -> io::Result<()> {
    if chunked {
        wire.write_all(format!("{:x}\r\n", bytes.len()).as_bytes())
            .await?;
    }
    wire.write_all(bytes).await?;
    if chunked {
        wire.write_all(b"\r\n").await?;
    }
    wire.flush().await
}

fn render_head(reply: &Reply) -> String {
    let usual = http::StatusCode::from_u16(reply.status)
        .ok()
        .and_then(|status| status.canonical_reason());
    let reason = reply.reason.as_deref().or(usual).unwrap_or_default();
    let mut head = format!("HTTP/1.1 {} {reason}\r\n", reply.status);
    for (name, value) in &reply.headers {
        write!(head, "{name}: {value}\r\n").expect("writing to a string cannot fail");
    }
    if let Some(length) = reply.announced_length() {
        write!(head, "Content-Length: {length}\r\n").expect("writing to a string cannot fail");
    }
    if reply.framing == Framing::Chunked {
        head.push_str("Transfer-Encoding: chunked\r\n");
    }
    head.push_str("\r\n");
    head
}
