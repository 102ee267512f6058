//! Sends one request and waits for its response head: which client, which certificates, which time limits.
//!
//! Two clients: one for the endpoint that the administrator configured and for hosts named under `trust`, the other,
//! with the guard in its resolver, for every host that an upstream named.

use std::sync::{Arc, Mutex, PoisonError};

use reqwest::header::HeaderMap;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, ClientBuilder, Method, Response, Url};

use super::guard::{self, Blocked};
use super::resolve::{Filtering, SeenClasses, Trusting};
use super::{Error, Kind, Limits};
use crate::config::{HostPattern, Registry};
use crate::credentials::CredentialStore;

const USER_AGENT: &str = concat!("larder/", env!("CARGO_PKG_VERSION"));
/// Where the standard proxy settings are. The clients read them too; here they only tell which hosts are proxies.
const PROXY_VARIABLES: [&str; 6] = [
    "http_proxy",
    "HTTP_PROXY",
    "https_proxy",
    "HTTPS_PROXY",
    "all_proxy",
    "ALL_PROXY",
];

pub(super) struct Transport {
    registry: Arc<Registry>,
    credentials: Arc<CredentialStore>,
    limits: Limits,
    seen: Arc<SeenClasses>,
    trust: Arc<[HostPattern]>,
    proxies: Arc<[String]>,
    clients: Mutex<Clients>,
}

#[derive(Clone)]
struct Clients {
    /// Which states of the registry's CA bundle and of everybody's they were built with; none before the first use.
    marks: Option<(u64, u64)>,
    trusting: Client,
    filtering: Client,
}

impl Transport {
    pub(super) fn new(
        registry: Arc<Registry>,
        credentials: Arc<CredentialStore>,
        limits: Limits,
    ) -> Result<Self, Error> {
        let seen = Arc::new(SeenClasses::default());
        if let Some(address) = guard::literal_address(&registry.endpoint.url) {
            seen.add(guard::classify(address));
        }
        let trust = &registry.endpoint.trust;
        let trust: Arc<[HostPattern]> = trust.redirects.iter().chain(&trust.realms).cloned().collect();
        let proxies = proxy_hosts(PROXY_VARIABLES.iter().filter_map(|name| std::env::var(name).ok()));
        let has_bundle = registry.endpoint.tls.ca_bundle.is_some() || credentials.has_ca_file();
        let clients = Clients {
            marks: (!has_bundle).then_some((0, 0)),
            ..build_clients(&registry, &limits, &seen, &trust, &proxies, &[])?
        };
        Ok(Self {
            registry,
            credentials,
            limits,
            seen,
            trust,
            proxies,
            clients: Mutex::new(clients),
        })
    }

    /// Sends one request. Every status is a success here; no redirect is followed.
    pub(super) async fn send(
        &self,
        method: Method,
        url: &Url,
        headers: HeaderMap,
        body: Option<String>,
    ) -> Result<Response, Error> {
        let place = place(&method, url);
        let mut request = self
            .client_for(url)
            .await?
            .request(method, url.clone())
            .headers(headers);
        if let Some(body) = body {
            request = request.body(body);
        }
        match tokio::time::timeout(self.limits.header, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(Error::sending(&place, error)),
            Err(_) => Err(Error::new(Kind::Timeout, format!("{place}: no response head"))),
        }
    }

    async fn client_for(&self, url: &Url) -> Result<Client, Error> {
        let clients = self.current_clients().await?;
        if url.host() == self.registry.endpoint.url.host() || guard::is_named(url, &self.trust) {
            return Ok(clients.trusting);
        }
        // An address needs no resolver, and the resolver lets proxies pass: both are judged here.
        let host = url.host_str().unwrap_or_default();
        let is_blocked = match guard::literal_address(url) {
            Some(address) => !guard::may_lead_to(address, self.seen.get(), &self.trust),
            None => self.proxies.iter().any(|proxy| proxy == host),
        };
        if is_blocked {
            let blocked = Blocked {
                host: host.to_owned(),
            };
            return Err(Error::new(Kind::Blocked, blocked.to_string()));
        }
        Ok(clients.filtering)
    }

    /// The clients; new ones when the CA bundle has changed, so that a rotated one works without a restart.
    async fn current_clients(&self) -> Result<Clients, Error> {
        {
            let clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
            if clients.marks.is_some_and(|marks| marks == self.marks()) {
                return Ok(clients.clone());
            }
        }
        // Taken first: what changes while it is read is read again for the next request.
        let marks = self.marks();
        let authorities = self.authorities().await;
        let mut built = build_clients(
            &self.registry,
            &self.limits,
            &self.seen,
            &self.trust,
            &self.proxies,
            &authorities,
        )?;
        built.marks = Some(marks);
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        *clients = built.clone();
        Ok(built)
    }

    fn marks(&self) -> (u64, u64) {
        let bundle = self.registry.endpoint.tls.ca_bundle.as_deref();
        (
            bundle.map_or(0, |name| self.credentials.generation(name)),
            self.credentials.ca_file_generation(),
        )
    }

    /// Those that are trusted beside the system's. What is missing is gone on without: the condition says so.
    async fn authorities(&self) -> Vec<Certificate> {
        let mut found = Vec::new();
        let bundle = match &self.registry.endpoint.tls.ca_bundle {
            Some(name) => Some(self.credentials.ca_bundle(name).await),
            None => None,
        };
        for pem in bundle.into_iter().chain(self.credentials.ca_file().await) {
            let read = pem.map(|pem| authorities(&pem.unwrap_or_default()));
            match read {
                Ok(read) if read.is_empty() => {
                    tracing::warn!(
                        registry = self.registry.host,
                        "going on without a CA bundle that holds none"
                    );
                }
                Ok(read) => found.extend(read),
                Err(error) => {
                    tracing::warn!(registry = self.registry.host, %error, "going on without a CA bundle");
                }
            }
        }
        found
    }
}

/// The certificates in a PEM file; none where it cannot be understood, which is as good as missing: a mistake in it must
/// not take the system's own authorities away.
pub fn authorities(pem: &[u8]) -> Vec<Certificate> {
    Certificate::from_pem_bundle(pem).unwrap_or_default()
}

/// Method, host and path of a request, for logs and errors: never the query, which may be a signature.
pub(super) fn place(method: &Method, url: &Url) -> String {
    format!("{method} {}{}", url.origin().ascii_serialization(), url.path())
}

fn build_clients(
    registry: &Registry,
    limits: &Limits,
    seen: &Arc<SeenClasses>,
    trust: &Arc<[HostPattern]>,
    proxies: &Arc<[String]>,
    authorities: &[Certificate],
) -> Result<Clients, Error> {
    let tls_error = |error| Error::new(Kind::Tls, "the TLS configuration").with_source(error);
    let build = |builder: &dyn Fn() -> ClientBuilder| {
        let with_platform = builder().tls_certs_merge(authorities.iter().cloned()).build();
        // Without any authority on this machine the platform's verifier cannot be built. Plain http still works then,
        // and https fails as it should: at the handshake.
        with_platform.or_else(|_| builder().tls_certs_only(authorities.iter().cloned()).build())
    };
    let trusting = || {
        base_client(limits)
            .tls_danger_accept_invalid_certs(registry.endpoint.tls.insecure_skip_verify)
            .dns_resolver(Trusting {
                endpoint_host: registry.endpoint.url.host_str().unwrap_or_default().to_owned(),
                seen: Arc::clone(seen),
            })
    };
    let filtering = || {
        base_client(limits).dns_resolver(Filtering {
            seen: Arc::clone(seen),
            trust: Arc::clone(trust),
            proxies: Arc::clone(proxies),
        })
    };
    Ok(Clients {
        marks: None,
        trusting: build(&trusting).map_err(tls_error)?,
        filtering: build(&filtering).map_err(tls_error)?,
    })
}

/// No limit on the whole body: blobs of 100 GB exist. The pauses within it are limited where it is read.
fn base_client(limits: &Limits) -> ClientBuilder {
    Client::builder()
        .user_agent(USER_AGENT)
        .redirect(Policy::none())
        .referer(false)
        .connect_timeout(limits.connect)
}

fn proxy_hosts(values: impl Iterator<Item = String>) -> Arc<[String]> {
    values
        .filter_map(|value| {
            let url = Url::parse(&value).ok().filter(Url::has_host);
            let url = url.or_else(|| Url::parse(&format!("http://{value}")).ok())?;
            url.host_str().map(str::to_owned)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proxies_are_known_by_their_host() {
        let values = ["http://u:p@proxy.corp:3128", "proxy2:8080", "proxy3", ""].map(str::to_owned);
        assert_eq!(
            *proxy_hosts(values.into_iter()),
            ["proxy.corp", "proxy2", "proxy3"]
        );
    }

    #[test]
    fn a_place_has_no_query() {
        let url = "https://u:p@cdn.example:8443/a:b/data?Signature=%2F"
            .parse()
            .unwrap();
        assert_eq!(place(&Method::GET, &url), "GET https://cdn.example:8443/a:b/data");
    }
}
