//! Where an upstream may lead us: which addresses a redirect or a realm may have, and which realms may see a
//! credential. Pure decisions, so that every rule has a test.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use reqwest::Url;

use crate::config::HostPattern;

/// A host had addresses, and none that it may lead to.
#[derive(Debug, thiserror::Error)]
#[error("{host} leads to an address that is not public; name it under trust.redirects to allow it")]
pub(super) struct Blocked {
    pub(super) host: String,
}

/// A host had no address.
#[derive(Debug, thiserror::Error)]
#[error("cannot resolve {host}")]
pub(super) struct Unresolved {
    pub(super) host: String,
    pub(super) source: Option<std::io::Error>,
}

/// What kind of network an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AddressClass {
    Public,
    Private,
    Loopback,
    /// Link-local addresses, and those of clouds' metadata services wherever they lie.
    LinkLocal,
    /// Unspecified, multicast, broadcast and reserved addresses: nothing that a registry could live at.
    Special,
}

/// Metadata services outside the link-local range hand out node credentials just the same.
const METADATA_V4: [Ipv4Addr; 2] = [
    Ipv4Addr::new(100, 100, 100, 200), // Alibaba Cloud
    Ipv4Addr::new(192, 0, 0, 192),     // Oracle Cloud
];
const METADATA_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254), // AWS
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),  // Google Cloud
];

pub(super) fn classify(address: IpAddr) -> AddressClass {
    match address {
        IpAddr::V4(v4) => classify_v4(v4),
        IpAddr::V6(v6) => embedded_v4(v6).map_or_else(|| classify_v6(v6), classify_v4),
    }
}

fn classify_v4(address: Ipv4Addr) -> AddressClass {
    match address.octets() {
        _ if METADATA_V4.contains(&address) || address.is_link_local() => AddressClass::LinkLocal,
        _ if address.is_loopback() => AddressClass::Loopback,
        // Shared address space (RFC 6598), IETF protocol assignments and benchmarking are private in effect.
        _ if address.is_private() => AddressClass::Private,
        [100, 64..=127, ..] | [192, 0, 0, _] | [198, 18..=19, ..] => AddressClass::Private,
        [0, ..] | [224..=255, ..] => AddressClass::Special,
        _ => AddressClass::Public,
    }
}

fn classify_v6(address: Ipv6Addr) -> AddressClass {
    match address.segments() {
        _ if METADATA_V6.contains(&address) || address.is_unicast_link_local() => AddressClass::LinkLocal,
        _ if address.is_loopback() => AddressClass::Loopback,
        // Unique local, and site-local, which it replaced.
        _ if address.is_unique_local() => AddressClass::Private,
        [0xfec0..=0xfeff, ..] => AddressClass::Private,
        _ if address.is_unspecified() || address.is_multicast() => AddressClass::Special,
        _ => AddressClass::Public,
    }
}

/// The IPv4 address that a mapped, compatible, NAT64 or 6to4 address stands for.
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Ipv4Addr::new(a, b, c, d)
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0, 0, 0 | 1] => None,
        [0, 0, 0, 0, 0, 0 | 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => Some(v4(high, low)),
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

/// The classes of address that the configured endpoint has: what it redirects to may be of the same.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct EndpointClasses(u8);

impl EndpointClasses {
    const LOOPBACK: u8 = 1;
    const PRIVATE: u8 = 2;

    pub(super) fn with(self, class: AddressClass) -> Self {
        Self(
            self.0
                | match class {
                    AddressClass::Loopback => Self::LOOPBACK,
                    AddressClass::Private => Self::PRIVATE,
                    AddressClass::Public | AddressClass::LinkLocal | AddressClass::Special => 0,
                },
        )
    }

    pub(super) fn bits(self) -> u8 {
        self.0
    }

    pub(super) fn from_bits(bits: u8) -> Self {
        Self(bits)
    }
}

/// Whether what an upstream named (a redirect's target, a realm) may be at `address`.
pub(super) fn may_lead_to(address: IpAddr, endpoint: EndpointClasses, trust: &[HostPattern]) -> bool {
    let allowed = match classify(address) {
        AddressClass::Public => true,
        AddressClass::Private => endpoint.0 & EndpointClasses::PRIVATE != 0,
        AddressClass::Loopback => endpoint.0 & EndpointClasses::LOOPBACK != 0,
        AddressClass::LinkLocal | AddressClass::Special => false,
    };
    allowed || trust.iter().any(|pattern| pattern.matches_ip(address))
}

/// Whether `patterns` name the host of `url`, as a name or as an address.
pub(super) fn is_named(url: &Url, patterns: &[HostPattern]) -> bool {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return false;
    };
    patterns.iter().any(|pattern| {
        pattern.matches(host.trim_end_matches('.'), port)
            || literal_address(url).is_some_and(|address| pattern.matches_ip(address))
    })
}

/// The address that the host of `url` is written as, if it is one.
pub(super) fn literal_address(url: &Url) -> Option<IpAddr> {
    let host = url.host_str()?;
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// Why a credential must not be sent to a realm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum RealmError {
    #[error(
        "the realm is not in the registry's domain; name its host under trust.realms to send the credential there"
    )]
    ForeignDomain,
    #[error("the realm is plain http though the registry is https")]
    Downgrade,
}

/// Whether `realm` may see the credential of `endpoint`: its own host, its own registrable domain, or a trusted host.
pub(super) fn check_realm(endpoint: &Url, realm: &Url, trust: &[HostPattern]) -> Result<(), RealmError> {
    if is_downgrade(endpoint, realm) {
        return Err(RealmError::Downgrade);
    }
    if same_site(endpoint, realm) || is_named(realm, trust) {
        Ok(())
    } else {
        Err(RealmError::ForeignDomain)
    }
}

fn same_site(a: &Url, b: &Url) -> bool {
    let (Some(a_host), Some(b_host)) = (a.host_str(), b.host_str()) else {
        return false;
    };
    let (a_host, b_host) = (a_host.trim_end_matches('.'), b_host.trim_end_matches('.'));
    if a_host.eq_ignore_ascii_case(b_host) {
        return true;
    }
    if literal_address(a).is_some() || literal_address(b).is_some() {
        return false;
    }
    match (psl::domain_str(a_host), psl::domain_str(b_host)) {
        (Some(a_domain), Some(b_domain)) => a_domain.eq_ignore_ascii_case(b_domain),
        _ => false,
    }
}

/// Whether going from `from` to `to` would give up encryption.
pub(super) fn is_downgrade(from: &Url, to: &Url) -> bool {
    from.scheme() == "https" && to.scheme() != "https"
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    fn class(text: &str) -> AddressClass {
        classify(text.parse().unwrap())
    }

    #[test]
    fn knows_every_kind_of_address() {
        for (class_expected, addresses) in [
            (
                AddressClass::Public,
                &[
                    "1.1.1.1",
                    "172.32.0.1",
                    "2606:4700::1111",
                    "::ffff:8.8.8.8",
                    "64:ff9b::808:808",
                ][..],
            ),
            (
                AddressClass::Private,
                &[
                    "10.0.0.1",
                    "172.16.0.1",
                    "192.168.1.1",
                    "100.64.0.1",
                    "198.18.0.1",
                    "fd12::1",
                    "fec0::1",
                    "::ffff:10.0.0.1",
                    "64:ff9b::a00:1",
                    "2002:a00:1::",
                    "::10.0.0.1",
                ],
            ),
            (
                AddressClass::Loopback,
                &["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"],
            ),
            (
                AddressClass::LinkLocal,
                &[
                    "169.254.169.254",
                    "fe80::1",
                    "::ffff:169.254.169.254",
                    "64:ff9b::a9fe:a9fe",
                    "100.100.100.200",
                    "fd00:ec2::254",
                    "192.0.0.192",
                    "fd20:ce::254",
                ],
            ),
            (
                AddressClass::Special,
                &[
                    "0.0.0.0",
                    "0.1.2.3",
                    "::",
                    "224.0.0.1",
                    "255.255.255.255",
                    "240.0.0.1",
                    "ff02::1",
                ],
            ),
        ] {
            for address in addresses {
                assert_eq!(class(address), class_expected, "{address}");
            }
        }
    }

    #[test]
    fn an_endpoint_leads_only_to_its_own_kind() {
        let public = EndpointClasses::default().with(AddressClass::Public);
        let private = public.with(AddressClass::Private);
        let loopback = public.with(AddressClass::Loopback);
        let may = |text: &str, endpoint| may_lead_to(text.parse().unwrap(), endpoint, &[]);
        assert!(may("1.1.1.1", public) && may("1.1.1.1", private));
        assert!(!may("10.0.0.1", public) && may("10.0.0.1", private) && !may("10.0.0.1", loopback));
        assert!(!may("127.0.0.1", private) && may("127.0.0.1", loopback));
        let link_local = public.with(AddressClass::LinkLocal);
        for endpoint in [public, private, loopback, link_local] {
            assert!(!may("169.254.169.254", endpoint) && !may("0.0.0.0", endpoint));
        }
    }

    #[test]
    fn a_realm_sees_a_credential_only_within_the_registrys_domain() {
        for (endpoint, realm, expected) in [
            (
                "https://registry-1.docker.io",
                "https://auth.docker.io/token",
                Ok(()),
            ),
            ("https://gcr.io", "https://gcr.io/v2/token", Ok(())),
            ("http://127.0.0.1:5000", "http://127.0.0.1:5001/t", Ok(())),
            ("http://localhost:5000", "http://localhost:1/t", Ok(())),
            (
                "https://r.example.co.uk",
                "https://e.co.uk/t",
                Err(RealmError::ForeignDomain),
            ),
            (
                "https://a.github.io",
                "https://b.github.io/t",
                Err(RealmError::ForeignDomain),
            ),
            (
                "https://registry.example",
                "https://evil.test/t",
                Err(RealmError::ForeignDomain),
            ),
            (
                "https://10.0.0.1",
                "https://10.0.0.2/t",
                Err(RealmError::ForeignDomain),
            ),
            (
                "https://r.example.com",
                "http://r.example.com/t",
                Err(RealmError::Downgrade),
            ),
        ] {
            assert_eq!(check_realm(&url(endpoint), &url(realm), &[]), expected, "{realm}");
        }
    }
}
