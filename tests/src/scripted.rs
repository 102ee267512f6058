//! An HTTP host that does as it is told: the socket under the fake registry, its CDN and its token server.
//!
//! HTTP/1.1 is written by hand on the TCP stream, because tests need what no HTTP library lets through: a FIN or
//! RST at a given byte, lying lengths, odd headers. HTTP/2 is hyper's, and there a cut is a stream reset.

mod action;
mod content;
mod h1;
mod h2;
mod log;
mod matcher;
mod playback;
mod reply;
mod request;
mod setup;
mod socket;
mod tls;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};

pub use action::Action;
pub use content::{Content, VirtualBlob};
pub use log::{Exchange, Outcome};
pub use matcher::{
    On, Rule, on_any, on_any_blob, on_any_manifest, on_blob, on_manifest, on_path, on_ping, on_referrers,
    on_tags,
};
pub use reply::{Body, Ending, Framing, Reply};
pub(crate) use request::form_values;
pub use request::{Kind, Request};
pub use tls::CertificateAuthority;

pub(crate) use setup::{HostSetup, host_setup};

use log::Log;
use matcher::Script;

/// What a host answers when no rule speaks.
pub(crate) trait Handler: Send + Sync + 'static {
    /// An answer that comes before any rule (authentication). `None` lets the request in.
    fn gate(&self, _request: &Request) -> Option<Reply> {
        None
    }

    /// The answer of a healthy host.
    fn reply(&self, request: &Request) -> Reply;
}

/// What every connection task of one host shares.
struct Inner {
    log: Log,
    script: Script,
    handler: Arc<dyn Handler>,
    http2: bool,
    tls: Option<tokio_rustls::TlsAcceptor>,
}

impl Inner {
    fn answer(&self, request: &Request) -> Reply {
        if let Some(action) = self.script.take(request, true) {
            return action.apply(request, &*self.handler);
        }
        if let Some(refusal) = self.handler.gate(request) {
            return refusal;
        }
        match self.script.take(request, false) {
            Some(action) => action.apply(request, &*self.handler),
            None => self.handler.reply(request),
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let from = self.log.connected(peer.ip());
        // Small writes must reach the client as they are made: tests count bytes.
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = &self.tls else {
            if self.http2 && socket::starts_http2(&stream).await {
                h2::serve(stream, self, from).await;
            } else {
                h1::serve(stream, &self, from).await;
            }
            return;
        };
        // A client that does not trust us ends here: nothing to serve, nothing to record.
        let Ok(stream) = acceptor.accept(stream).await else {
            return;
        };
        if stream.get_ref().1.alpn_protocol() == Some(b"h2") {
            h2::serve(stream, self, from).await;
        } else {
            h1::serve(stream, &self, from).await;
        }
    }
}

/// A running host. Dropping it closes its listener and all its connections.
pub struct ScriptedHost {
    inner: Arc<Inner>,
    address: SocketAddr,
    authority: Option<CertificateAuthority>,
    accepting: Mutex<Option<AbortHandle>>,
}

impl Drop for ScriptedHost {
    fn drop(&mut self) {
        self.close();
    }
}

impl ScriptedHost {
    pub(crate) async fn start(setup: HostSetup, handler: Arc<dyn Handler>) -> Self {
        let listener = TcpListener::bind((setup.bind.as_str(), setup.port))
            .await
            .unwrap_or_else(|error| panic!("listen on {}:{}: {error}", setup.bind, setup.port));
        let address = listener.local_addr().expect("a bound listener has an address");
        let tls = setup
            .authority
            .as_ref()
            .map(|authority| authority.acceptor(&setup));
        let inner = Arc::new(Inner {
            log: Log::new(setup.name),
            script: Script::default(),
            handler,
            http2: setup.http2,
            tls,
        });
        let accepting = Mutex::new(Some(accept(inner.clone(), listener)));
        Self {
            inner,
            address,
            authority: setup.authority,
            accepting,
        }
    }

    /// `http://ADDRESS:PORT` or `https://…`, without a trailing slash.
    pub fn url(&self) -> String {
        let scheme = if self.authority.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.address)
    }

    /// `ADDRESS:PORT`.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// The PEM certificate of the CA that signed this host's certificate. Panics on a plain host.
    pub fn ca_pem(&self) -> String {
        self.authority
            .as_ref()
            .expect("ca_pem() needs a host built with tls()")
            .pem()
    }

    /// Adds a rule. Rules are asked in the order of their addition. The returned rule can be asked how often it
    /// acted, or be ignored.
    pub fn script(&self, on: On, action: Action) -> Rule {
        self.inner.script.add(on, action)
    }

    /// Forgets all rules, so that the host works normally again.
    pub fn clear_script(&self) {
        self.inner.script.clear();
    }

    /// Every request so far, oldest first.
    pub fn requests(&self) -> Vec<Arc<Exchange>> {
        self.inner.log.all()
    }

    /// The requests that `on` matches, oldest first. Its `times` and `nth` play no role here.
    pub fn requests_on(&self, on: On) -> Vec<Arc<Exchange>> {
        self.requests()
            .into_iter()
            .filter(|exchange| on.matches(&exchange.request))
            .collect()
    }

    /// How many requests `on` matches.
    pub fn count(&self, on: On) -> usize {
        self.requests_on(on).len()
    }

    /// Body bytes written to sockets for the content with this digest, over all requests. What a client left
    /// unread in the kernel's buffers counts as sent.
    pub fn body_bytes_sent(&self, digest: &str) -> u64 {
        let of_digest = |exchange: &&Arc<Exchange>| exchange.digest().as_deref() == Some(digest);
        self.requests()
            .iter()
            .filter(of_digest)
            .map(|exchange| exchange.body_sent())
            .sum()
    }

    /// How often each client (by its IP address) asked for the bytes of each blob (by its digest): GETs, ranges
    /// included, however they ended; those refused for want of credentials apart.
    ///
    /// "Once per node": `assert!(up.blob_fetches().values().all(|&times| times == 1))`.
    pub fn blob_fetches(&self) -> BTreeMap<(IpAddr, String), usize> {
        log::blob_fetches(&self.requests())
    }

    /// The largest number of requests matched by `on` that were open at the same time.
    pub fn max_concurrent(&self, on: On) -> usize {
        log::max_concurrent(&self.requests_on(on))
    }

    /// How many connections were accepted.
    pub fn connections(&self) -> u64 {
        self.inner.log.connections()
    }

    /// Returns as soon as `condition` holds for the requests so far. It is asked again at every request, at every
    /// piece of body sent and at every end. Panics with the list of requests after `timeout`.
    pub async fn wait_for(&self, condition: impl Fn(&[Arc<Exchange>]) -> bool, timeout: Duration) {
        self.inner.log.wait_for(condition, timeout).await;
    }

    /// Returns as soon as `count` requests matched by `on` have come. Panics after `timeout`.
    pub async fn wait_for_count(&self, on: On, count: usize, timeout: Duration) {
        let enough = |all: &[Arc<Exchange>]| all.iter().filter(|e| on.matches(&e.request)).count() >= count;
        self.wait_for(enough, timeout).await;
    }

    /// Closes the listener and every connection: from now on connecting is refused.
    pub fn close(&self) {
        if let Some(task) = self.accepting.lock().unwrap().take() {
            task.abort();
        }
    }

    /// Opens the listener again, on the same port, after [`close`](Self::close).
    pub async fn reopen(&self) {
        self.close();
        // The aborted task frees the port only when the runtime drops it.
        let rebind = async {
            loop {
                match TcpListener::bind(self.address).await {
                    Ok(listener) => break listener,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        let listener = tokio::time::timeout(REBIND_MAX, rebind)
            .await
            .expect("bind the same port again");
        *self.accepting.lock().unwrap() = Some(accept(self.inner.clone(), listener));
    }
}

/// How long a closed host may take to get its port back.
const REBIND_MAX: Duration = Duration::from_secs(5);

fn accept(inner: Arc<Inner>, listener: TcpListener) -> AbortHandle {
    let task = async move {
        // Owned here, so that aborting this task also drops every connection.
        let mut connections = JoinSet::new();
        while let Ok((stream, peer)) = listener.accept().await {
            connections.spawn(inner.clone().serve(stream, peer));
            while connections.try_join_next().is_some() {}
        }
    };
    tokio::spawn(task).abort_handle()
}

#[cfg(test)]
mod tests;
