//! Connections: bounded in number and patience, and ended gracefully.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustix::net::sockopt::set_socket_send_buffer_size;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many connections there may be, and how long each may take.
#[derive(Clone, Debug)]
pub struct ConnectionLimits {
    /// Connections at once; more wait in the kernel's queue, for a refusal could hit a blob that is here.
    pub connections: usize,
    /// How long a client may take to send a request head.
    pub request_head: Duration,
    /// How long responses that are under way may take when the process ends.
    pub drain: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self {
            connections: 4096,
            request_head: Duration::from_secs(30),
            drain: Duration::from_secs(30),
        }
    }
}

/// The pause after the system has refused to accept, which it does when descriptors run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// What hyper may hold of an answer that its client has not taken: about one chunk of a blob. Its own default of 400 KiB,
/// times some hundred slow readers, would be most of the process's memory. It bounds request heads too.
const CONNECTION_BUFFER_BYTES_MAX: usize = 64 << 10;
/// The same for the kernel. Clients are on this machine, so there is no distance to bridge, and what fits the CPU's cache
/// is copied faster than what the kernel would let grow to megabytes.
const SEND_BUFFER_BYTES: usize = 208 << 10;

/// Serves `answer` on `listener` until `shutdown`, then lets responses that are under way end.
pub async fn serve<F, A>(
    listener: TcpListener,
    limits: ConnectionLimits,
    shutdown: CancellationToken,
    answer: F,
) where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    let places = Arc::new(Semaphore::new(limits.connections));
    let connections = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => break,
            accepted = async {
                let place = Arc::clone(&places).acquire_owned().await;
                (place, listener.accept().await)
            } => accepted,
        };
        match accepted {
            (Ok(place), Ok((stream, _))) => {
                let connection = connection(stream, limits.clone(), shutdown.clone(), answer.clone());
                connections.spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            (_, Err(error)) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
            (Err(_), _) => break,
        }
    }
    drop(listener);
    connections.close();
    if tokio::time::timeout(limits.drain, connections.wait())
        .await
        .is_err()
    {
        tracing::warn!(
            connections = connections.len(),
            "connections are cut: they did not end in time"
        );
    }
}

async fn connection<F, A>(stream: TcpStream, limits: ConnectionLimits, shutdown: CancellationToken, answer: F)
where
    F: Fn(Request<Incoming>) -> A + Clone + Send + Sync + 'static,
    A: Future<Output = Response<Body>> + Send + 'static,
{
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    if let Err(error) = set_socket_send_buffer_size(&stream, SEND_BUFFER_BYTES) {
        tracing::debug!(%error, "cannot set SO_SNDBUF");
    }
    let service = service_fn(move |request| {
        let answered = answer(request);
        async move { Ok::<_, Infallible>(answered.await) }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.request_head)
        .max_buf_size(CONNECTION_BUFFER_BYTES_MAX);
    builder.http2().timer(TokioTimer::new());
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(error = &*error, "connection ended");
    }
}
