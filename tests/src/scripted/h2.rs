//! HTTP/2 by hyper. A cut, with FIN or RST, is a reset of the stream; the connection lives on.

use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Empty, StreamBody, combinators::UnsyncBoxBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::time::sleep;

use super::Inner;
use super::log::{Accepted, Outcome, Recorder};
use super::playback::{Play, Playback};
use super::reply::{Ending, Reply};
use super::request::Request;
use super::socket::Wire;

/// Before a reset, the time for what was sent before it to leave: a reset overtakes queued data.
const RESET_DELAY: Duration = Duration::from_millis(50);

type Answer = http::Response<UnsyncBoxBody<Bytes, io::Error>>;

/// Serves one connection until either side ends it.
pub(super) async fn serve(wire: impl Wire + 'static, host: Arc<Inner>, from: Accepted) {
    let service = service_fn(|request| answer(host.clone(), request, from));
    let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    // An error here is a client that left.
    let _ = server.serve_connection(TokioIo::new(wire), service).await;
}

async fn answer(host: Arc<Inner>, request: http::Request<Incoming>, from: Accepted) -> io::Result<Answer> {
    let Some(request) = record(request, from).await else {
        return Err(io::Error::other(
            "the client left before its request was complete",
        ));
    };
    let recorder = host.log.begin(request.clone());
    let reply = host.answer(&request);
    recorder.head(reply.status, reply.digest.clone());
    sleep(reply.head_delay).await;
    if let Some(ending) = reply.no_head {
        if ending == Ending::Stall {
            std::future::pending::<Infallible>().await;
        }
        recorder.finish(Outcome::Cut);
        return Err(io::Error::other("scripted hang-up"));
    }
    let mut response = http::Response::builder().status(reply.status);
    for (name, value) in &reply.headers {
        response = response.header(name.to_ascii_lowercase(), value);
    }
    if let Some(length) = reply.announced_length() {
        response = response.header("content-length", length);
    }
    let body = if reply.has_body(&request) {
        play(&reply, recorder)
    } else {
        nothing(&recorder)
    };
    Ok(response.body(body).expect("scripted headers are valid in HTTP/2"))
}

async fn record(request: http::Request<Incoming>, from: Accepted) -> Option<Request> {
    let (head, body) = request.into_parts();
    let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    let host = head
        .uri
        .authority()
        .map(|authority| ("host".to_owned(), authority.to_string()));
    let lines = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value)));
    Some(Request {
        method: head.method.to_string(),
        target: head
            .uri
            .path_and_query()
            .map_or_else(|| "/".to_owned(), ToString::to_string),
        headers: host.into_iter().chain(lines).collect(),
        body: body.collect().await.ok()?.to_bytes(),
        at: Instant::now(),
        connection: from.number,
        peer: from.peer,
        http2: true,
    })
}

fn nothing(recorder: &Recorder) -> UnsyncBoxBody<Bytes, io::Error> {
    recorder.finish(Outcome::Complete);
    Empty::new()
        .map_err(|never: Infallible| match never {})
        .boxed_unsync()
}

fn play(reply: &Reply, recorder: Recorder) -> UnsyncBoxBody<Bytes, io::Error> {
    let pieces = stream::unfold(Some((Playback::new(reply), recorder)), |state| async {
        let (mut playback, recorder) = state?;
        match playback.next().await {
            Play::Data(bytes) => {
                recorder.sent(bytes.len());
                Some((Ok(Frame::data(bytes)), Some((playback, recorder))))
            }
            Play::End(Ending::Complete) => {
                recorder.finish(Outcome::Complete);
                None
            }
            Play::End(Ending::Stall) => std::future::pending().await,
            Play::End(Ending::Fin | Ending::Rst) => {
                sleep(RESET_DELAY).await;
                recorder.finish(Outcome::Cut);
                Some((Err(io::Error::other("scripted cut")), None))
            }
        }
    });
    StreamBody::new(pieces).boxed_unsync()
}
