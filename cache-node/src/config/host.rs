//! Registry hosts in one canonical spelling, and patterns of hosts that are trusted.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use super::error::quote;

/// The canonical name of Docker Hub.
pub const DOCKER_HUB: &str = "docker.io";
/// The server that answers for Docker Hub.
pub(super) const DOCKER_HUB_SERVER: &str = "registry-1.docker.io";
const DOCKER_HUB_ALIASES: [&str; 2] = [DOCKER_HUB_SERVER, "index.docker.io"];
/// RFC 1035, section 2.3.4.
const HOST_BYTES_MAX: usize = 253;
const LABEL_BYTES_MAX: usize = 63;

/// The canonical spelling of `HOST` or `HOST:PORT`: lower case, aliases of Docker Hub folded into `docker.io`,
/// IPv6 addresses in brackets and compressed. The error says what is wrong.
pub fn canonical_host(text: &str) -> Result<String, String> {
    let (host, port) = split_port(text)?;
    let host = match host {
        Host::Name(name) if port.is_none() && DOCKER_HUB_ALIASES.contains(&name.as_str()) => {
            DOCKER_HUB.to_owned()
        }
        Host::Name(name) => name,
        Host::Ip(IpAddr::V4(ip)) => ip.to_string(),
        Host::Ip(IpAddr::V6(ip)) => format!("[{ip}]"),
    };
    Ok(port.map_or_else(|| host.clone(), |port| format!("{host}:{port}")))
}

/// A host, a host with its port, or a range of addresses that is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostPattern(Pattern);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Pattern {
    Host { host: Host, port: Option<u16> },
    Cidr { network: IpAddr, prefix_bits: u8 },
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Host {
    Name(String),
    Ip(IpAddr),
}

impl HostPattern {
    /// Whether this names `host` (a name or an address, with or without brackets) at `port`. A pattern without a
    /// port matches every port; a range matches the addresses in it.
    pub fn matches(&self, host: &str, port: u16) -> bool {
        let Ok(host) = parse_host(host.strip_suffix('.').unwrap_or(host)) else {
            return false;
        };
        match (&self.0, host) {
            (
                Pattern::Host {
                    host: own,
                    port: own_port,
                },
                host,
            ) => *own == host && own_port.is_none_or(|own_port| own_port == port),
            (Pattern::Cidr { .. }, Host::Ip(ip)) => self.matches_ip(ip),
            (Pattern::Cidr { .. }, Host::Name(_)) => false,
        }
    }

    /// Whether this is a range that holds `ip`, or `ip` itself at every port. An IPv4 address mapped into IPv6
    /// counts as IPv4.
    pub fn matches_ip(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        match self.0 {
            Pattern::Cidr { network, prefix_bits } => masked(ip, prefix_bits) == Some(network),
            Pattern::Host {
                host: Host::Ip(own),
                port: None,
            } => own == ip,
            Pattern::Host { .. } => false,
        }
    }
}

impl FromStr for HostPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some((address, prefix)) = text.split_once('/') {
            return parse_cidr(address, prefix).unwrap_or_else(|| {
                Err(format!(
                    "{} is not a range of addresses such as 10.0.0.0/8 or fd00::/8",
                    quote(text)
                ))
            });
        }
        // A bare IPv6 address is unambiguous here, where it cannot be followed by a path.
        if let Ok(ip) = text.parse::<Ipv6Addr>() {
            return Ok(Self(Pattern::Host {
                host: Host::Ip(ip.into()),
                port: None,
            }));
        }
        let (host, port) = split_port(text)?;
        Ok(Self(Pattern::Host { host, port }))
    }
}

impl fmt::Display for HostPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Pattern::Cidr { network, prefix_bits } => write!(f, "{network}/{prefix_bits}"),
            Pattern::Host { host, port } => {
                match host {
                    Host::Name(name) => f.write_str(name)?,
                    Host::Ip(IpAddr::V4(ip)) => ip.fmt(f)?,
                    Host::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]")?,
                }
                port.map_or(Ok(()), |port| write!(f, ":{port}"))
            }
        }
    }
}

/// `None` if it is no range; an error if the address has bits beyond the prefix, because one of them is a slip.
fn parse_cidr(address: &str, prefix: &str) -> Option<Result<HostPattern, String>> {
    let network: IpAddr = address.parse().ok()?;
    let prefix_bits: u8 = prefix.parse().ok().filter(|_| !prefix.starts_with('+'))?;
    let first = masked(network, prefix_bits)?;
    if first == network {
        Some(Ok(HostPattern(Pattern::Cidr { network, prefix_bits })))
    } else {
        Some(Err(format!(
            "the address has bits beyond the prefix; write {first}/{prefix_bits}"
        )))
    }
}

/// The first address of the network; `None` if the prefix is longer than an address.
fn masked(ip: IpAddr, prefix_bits: u8) -> Option<IpAddr> {
    let bits = u32::from(prefix_bits);
    Some(match ip {
        IpAddr::V4(ip) => {
            let host_bits = Ipv4Addr::BITS.checked_sub(bits)?;
            Ipv4Addr::from_bits(ip.to_bits() & u32::MAX.checked_shl(host_bits).unwrap_or(0)).into()
        }
        IpAddr::V6(ip) => {
            let host_bits = Ipv6Addr::BITS.checked_sub(bits)?;
            Ipv6Addr::from_bits(ip.to_bits() & u128::MAX.checked_shl(host_bits).unwrap_or(0)).into()
        }
    })
}

fn split_port(text: &str) -> Result<(Host, Option<u16>), String> {
    let malformed = || {
        format!(
            "{} is not a host or host:port such as registry.corp:5000",
            quote(text)
        )
    };
    let colon = match text.rfind(':') {
        Some(colon) if !text.ends_with(']') => Some(colon),
        _ => None,
    };
    let Some(colon) = colon else {
        return Ok((parse_host(text).map_err(|()| malformed())?, None));
    };
    let (host, port) = (&text[..colon], &text[colon + 1..]);
    if host.contains(':') && !host.starts_with('[') {
        return Err(format!(
            "{}: write an IPv6 address in brackets, such as [::1]:5000",
            quote(text)
        ));
    }
    let port: u16 = port
        .parse()
        .ok()
        .filter(|p| *p > 0 && !port.starts_with(['+', '0']))
        .ok_or_else(malformed)?;
    Ok((parse_host(host).map_err(|()| malformed())?, Some(port)))
}

fn parse_host(text: &str) -> Result<Host, ()> {
    let unbracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Some(ip) = unbracketed {
        return ip
            .parse::<Ipv6Addr>()
            .map(|ip| Host::Ip(IpAddr::V6(ip)))
            .map_err(|_| ());
    }
    if let Ok(ip) = text.parse::<IpAddr>() {
        return Ok(Host::Ip(ip));
    }
    let is_label = |label: &str| {
        !label.is_empty()
            && label.len() <= LABEL_BYTES_MAX
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    if text.len() > HOST_BYTES_MAX || !text.split('.').all(is_label) {
        return Err(());
    }
    Ok(Host::Name(text.to_ascii_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> HostPattern {
        text.parse().unwrap()
    }

    #[test]
    fn a_host_matches_itself_at_every_port_or_at_its_own() {
        assert!(pattern("Auth.test").matches("auth.TEST", 443));
        assert!(pattern("auth.test").matches("auth.test.", 8443));
        assert!(!pattern("auth.test").matches("x.auth.test", 443));
        assert!(!pattern("auth.test").matches("auth.test.evil", 443));
        assert!(pattern("auth.test:8443").matches("auth.test", 8443));
        assert!(!pattern("auth.test:8443").matches("auth.test", 443));
        for ip in ["fd00::1", "[fd00::1]"] {
            assert!(pattern(ip).matches("[fd00:0::1]", 443) && pattern(ip).matches("fd00::1", 443));
        }
    }

    #[test]
    fn a_range_matches_the_addresses_in_it() {
        let ip = |text: &str| text.parse().unwrap();
        assert!(pattern("10.0.0.0/8").matches("10.255.0.1", 80));
        assert!(!pattern("10.0.0.0/8").matches("11.0.0.1", 80));
        assert!(!pattern("10.0.0.0/8").matches("10.test", 80));
        assert!(pattern("10.0.0.0/8").matches_ip(ip("::ffff:10.1.2.3")));
        assert!(pattern("fd00::/8").matches("[fdff::1]", 80));
        assert!(!pattern("fd00::/8").matches_ip(ip("fe80::1")));
        assert!(pattern("0.0.0.0/0").matches_ip(ip("1.2.3.4")));
        assert!(!pattern("0.0.0.0/0").matches_ip(ip("::1")));
        assert!(pattern("::/0").matches_ip(ip("::1")));
        assert!(pattern("10.1.2.3/32").matches_ip(ip("10.1.2.3")));
        assert!(pattern("10.1.2.3").matches_ip(ip("10.1.2.3")));
        assert!(!pattern("10.1.2.3:80").matches_ip(ip("10.1.2.3")));
    }

    #[test]
    fn patterns_print_as_they_parse() {
        for text in [
            "a.test",
            "a.test:5000",
            "10.0.0.0/8",
            "fd00::/8",
            "[::1]",
            "[::1]:5000",
            "1.2.3.4",
        ] {
            assert_eq!(pattern(text).to_string(), text);
        }
        assert_eq!(
            "10.1.0.0/8".parse::<HostPattern>().unwrap_err(),
            "the address has bits beyond the prefix; write 10.0.0.0/8"
        );
    }
}
