//! What people and probes may ask the process about itself, apart from the runtime's listener.
//!
//! The metrics listener may be reachable from other machines, so nothing on it names an image; `/statusz` may,
//! and is only for programs on this node, not for a web page that a name was rebound for.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::header::{CONTENT_TYPE, HOST};
use http::{HeaderValue, StatusCode};
use tokio::io::{self, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::metrics::Metrics;

/// How long our own runtime listener may take to answer before the process counts as hung.
const LIVEZ_TIMEOUT: Duration = Duration::from_millis(500);

/// Something that says how things stand when asked; it must not wait.
pub type Report = Arc<dyn Fn() -> serde_json::Value + Send + Sync>;

/// Says in words what does not work as it should, if anything; it must not wait.
pub type Hindrance = Arc<dyn Fn() -> Option<&'static str> + Send + Sync>;

/// What the answers are made from.
#[derive(Clone)]
pub struct Admin {
    /// The runtime's listener, as it was bound.
    pub listen: SocketAddr,
    /// Whether the process serves; nothing upstream may have a say in it.
    pub ready: watch::Receiver<bool>,
    /// What keeps content from being kept: pulls go on without it, so the process is ready all the same.
    pub hindrance: Hindrance,
    /// What `/metrics` shows.
    pub metrics: Arc<Metrics>,
    /// What `/statusz` shows.
    pub status: Report,
    /// What `/conditions` shows; it may read a small file.
    pub conditions: Report,
}

impl Admin {
    /// For the listener on loopback: `/livez /readyz /metrics /statusz`.
    pub fn admin_router(self) -> Router {
        common().route("/statusz", get(statusz)).with_state(self)
    }

    /// For the listener on the node's address: `/livez /readyz /metrics /conditions`.
    pub fn metrics_router(self) -> Router {
        common().route("/conditions", get(conditions)).with_state(self)
    }
}

fn common() -> Router<Admin> {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

/// Where a listener bound to `listen` is reached from this machine.
pub(crate) fn reachable(mut listen: SocketAddr) -> SocketAddr {
    match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    listen
}

async fn livez(State(admin): State<Admin>) -> Response {
    match tokio::time::timeout(LIVEZ_TIMEOUT, answers(reachable(admin.listen))).await {
        Ok(Ok(true)) => "ok\n".into_response(),
        Ok(Ok(false)) => unavailable("the runtime listener answers with an error\n"),
        Ok(Err(_)) => unavailable("the runtime listener refuses connections\n"),
        Err(_) => unavailable("the runtime listener does not answer\n"),
    }
}

/// Whether `GET /v2/` over a connection of its own is answered with 200.
async fn answers(listener: SocketAddr) -> io::Result<bool> {
    const OK: &[u8; 12] = b"HTTP/1.1 200";
    let mut stream = TcpStream::connect(listener).await?;
    let request =
        format!("GET /v2/ HTTP/1.1\r\nHost: {listener}\r\nUser-Agent: livez\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut start = [0; OK.len()];
    stream.read_exact(&mut start).await?;
    Ok(start == *OK)
}

async fn readyz(State(admin): State<Admin>) -> Response {
    if !*admin.ready.borrow() {
        return unavailable("not serving\n");
    }
    match (admin.hindrance)() {
        Some(hindrance) => format!("degraded: {hindrance}\n").into_response(),
        None => "ok\n".into_response(),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    let text = HeaderValue::from_static(prometheus::TEXT_FORMAT);
    ([(CONTENT_TYPE, text)], admin.metrics.render()).into_response()
}

async fn statusz(State(admin): State<Admin>, request: Request) -> Response {
    if is_local(&request) {
        json(&(admin.status)())
    } else {
        (StatusCode::FORBIDDEN, "ask by the name localhost\n").into_response()
    }
}

/// Without white space: its readers stop at a size.
async fn conditions(State(admin): State<Admin>) -> Response {
    let report = tokio::task::spawn_blocking(move || (admin.conditions)().to_string());
    match report.await {
        Ok(text) => (
            [(CONTENT_TYPE, HeaderValue::from_static("application/json"))],
            text,
        )
            .into_response(),
        Err(_) => unavailable("no report\n"),
    }
}

fn json(value: &serde_json::Value) -> Response {
    let kind = HeaderValue::from_static("application/json");
    ([(CONTENT_TYPE, kind)], format!("{value:#}\n")).into_response()
}

fn unavailable(reason: &'static str) -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, reason).into_response()
}

/// Whether the request names this machine, and nothing else, as its host: a browser that was lured here by a
/// rebound name tells that name.
fn is_local(request: &Request) -> bool {
    let header = request
        .headers()
        .get_all(HOST)
        .iter()
        .map(|host| host.to_str().unwrap_or_default());
    let authority = request.uri().authority().map(|authority| authority.as_str());
    let mut hosts = header.chain(authority).peekable();
    hosts.peek().is_some() && hosts.all(is_local_host)
}

fn is_local_host(host: &str) -> bool {
    let is_port = |port: &str| !port.is_empty() && port.bytes().all(|c| c.is_ascii_digit());
    let name = match host.rsplit_once(':') {
        Some((name, port)) if is_port(port) => name,
        _ => host,
    };
    name.eq_ignore_ascii_case("localhost") || matches!(name, "127.0.0.1" | "[::1]")
}

#[cfg(test)]
mod tests;
