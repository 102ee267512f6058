//! The sockets that the process listens on.

use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use http::Request;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::cli::ServeOptions;
use crate::http::{self as surface, ConnectionLimits};

/// A scrape is short.
const ADMIN_DRAIN: Duration = Duration::from_secs(1);

/// Where the bound listeners are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Where runtimes pull.
    pub listen: SocketAddr,
    /// Where this node's programs look.
    pub admin: SocketAddr,
    /// Where other machines look.
    pub metrics: Option<SocketAddr>,
}

/// Bound, and not yet answered on.
pub(super) struct Listeners {
    pub(super) runtime: TcpListener,
    pub(super) admin: TcpListener,
    pub(super) public: Option<TcpListener>,
    pub(super) addresses: Addresses,
}

impl Listeners {
    pub(super) async fn bind(options: &ServeOptions) -> Result<Self, Error> {
        let runtime = bind("--listen", options.listen).await?;
        let admin = bind("--admin", options.admin).await?;
        let public = match options.metrics {
            Some(address) => Some(bind("--metrics", address).await?),
            None => None,
        };
        let addresses = Addresses {
            listen: local(&runtime, options.listen),
            admin: local(&admin, options.admin),
            metrics: public
                .as_ref()
                .zip(options.metrics)
                .map(|(bound, asked)| local(bound, asked)),
        };
        if let Some(address) = addresses.metrics.filter(|address| address.ip().is_unspecified()) {
            tracing::warn!(%address, "--metrics is answered on every address of this machine: give one of them");
        }
        Ok(Self {
            runtime,
            admin,
            public,
            addresses,
        })
    }
}

async fn bind(flag: &'static str, address: SocketAddr) -> Result<TcpListener, Error> {
    TcpListener::bind(address).await.map_err(|source| Error::Bind {
        flag,
        address,
        source,
    })
}

fn local(listener: &TcpListener, asked: SocketAddr) -> SocketAddr {
    listener.local_addr().unwrap_or(asked)
}

/// Answers by `router` until `stop`, at most so many connections at once.
pub(super) fn serve_router(
    listener: TcpListener,
    router: axum::Router,
    connections: usize,
    stop: CancellationToken,
) -> tokio::task::JoinHandle<()> {
    let answer = move |request: Request<hyper::body::Incoming>| {
        let router = router.clone();
        async move {
            match tower::ServiceExt::oneshot(router, request.map(Body::new)).await {
                Ok(response) => response,
                Err(never) => match never {},
            }
        }
    };
    let limits = ConnectionLimits {
        connections,
        drain: ADMIN_DRAIN,
        ..Default::default()
    };
    tokio::spawn(surface::serve(listener, limits, stop, answer))
}
