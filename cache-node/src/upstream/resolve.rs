//! Name resolution with the guard inside: the addresses that a connection may use are exactly those that were judged,
//! so a name cannot come to mean something else between the judgement and the connection.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use reqwest::dns::{Addrs, Name, Resolve, Resolving};

use super::guard::{self, AddressClass, Blocked, EndpointClasses, Unresolved};
use crate::config::HostPattern;

/// The classes of address that the endpoint was seen to have, shared by everything that resolves for one registry.
#[derive(Debug, Default)]
pub(super) struct SeenClasses(AtomicU8);

impl SeenClasses {
    pub(super) fn add(&self, class: AddressClass) {
        self.0
            .fetch_or(EndpointClasses::default().with(class).bits(), Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> EndpointClasses {
        EndpointClasses::from_bits(self.0.load(Ordering::Relaxed))
    }
}

/// Resolves the configured endpoint and hosts named under `trust`, whatever their addresses are.
#[derive(Debug)]
pub(super) struct Trusting {
    pub(super) endpoint_host: String,
    pub(super) seen: Arc<SeenClasses>,
}

impl Resolve for Trusting {
    fn resolve(&self, name: Name) -> Resolving {
        let seen = (name.as_str() == self.endpoint_host).then(|| Arc::clone(&self.seen));
        Box::pin(async move {
            let addresses = look_up(name.as_str()).await?;
            if let Some(seen) = seen {
                addresses
                    .iter()
                    .for_each(|address| seen.add(guard::classify(address.ip())));
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Resolves hosts that an upstream named, and keeps only the addresses that they may have.
#[derive(Debug)]
pub(super) struct Filtering {
    pub(super) seen: Arc<SeenClasses>,
    pub(super) trust: Arc<[HostPattern]>,
    /// Hosts of configured proxies: it is they that are connected to, and the administrator named them.
    pub(super) proxies: Arc<[String]>,
}

impl Resolve for Filtering {
    fn resolve(&self, name: Name) -> Resolving {
        let endpoint = self.seen.get();
        let trust = Arc::clone(&self.trust);
        let is_proxy = self.proxies.iter().any(|proxy| proxy == name.as_str());
        Box::pin(async move {
            let mut addresses = look_up(name.as_str()).await?;
            let may_lead_to = |address: IpAddr| is_proxy || guard::may_lead_to(address, endpoint, &trust);
            addresses.retain(|address| may_lead_to(address.ip()));
            if addresses.is_empty() {
                let host = name.as_str().to_owned();
                return Err(Blocked { host }.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

/// Every address of `host`, with port 0, which the connector replaces.
async fn look_up(host: &str) -> Result<Vec<SocketAddr>, Unresolved> {
    let unresolved = |source| Unresolved {
        host: host.to_owned(),
        source,
    };
    let addresses: Vec<_> = tokio::net::lookup_host((host, 0))
        .await
        .map_err(|error| unresolved(Some(error)))?
        .collect();
    if addresses.is_empty() {
        return Err(unresolved(None));
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn resolve(seen: SeenClasses, proxies: &[&str]) -> bool {
        let resolver = Filtering {
            seen: Arc::new(seen),
            trust: Arc::from([]),
            proxies: proxies.iter().map(|&proxy| proxy.to_owned()).collect(),
        };
        resolver.resolve("localhost".parse().unwrap()).await.is_ok()
    }

    #[tokio::test]
    async fn a_name_is_only_as_good_as_its_addresses() {
        assert!(!resolve(SeenClasses::default(), &[]).await);
        assert!(resolve(SeenClasses::default(), &["localhost"]).await);
        let seen = SeenClasses::default();
        seen.add(AddressClass::Loopback);
        assert!(resolve(seen, &[]).await);
    }
}
