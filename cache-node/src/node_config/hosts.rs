//! What the runtime is told about a registry, as text. Pure: which files there are is found out, and what is written is
//! written, elsewhere. Another runtime is another [`Renderer`].

mod merge;

use larder_crds::Fallback;

use crate::config::{DOCKER_HUB, Registry};

pub(super) use merge::Unmergeable;

/// The directory whose files count for every registry that has none of its own.
pub(super) const DEFAULT_DIRECTORY: &str = "_default";

/// Where pulls of a registry are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// To the cache first.
    Cache,
    /// Nowhere: the cache is not well, and the mirror allows no other way (`fallback: None`).
    Nowhere,
}

/// What somebody else has configured for a registry, which goes on to count behind the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Basis {
    /// Their `hosts.toml`; empty means the same as none.
    pub text: String,
    /// Names of certificate files that count where there is no `hosts.toml`, in the order of their names.
    pub certificates: Vec<String>,
    /// Whether they are for all registries and lie in [`DEFAULT_DIRECTORY`].
    pub is_default: bool,
}

impl Basis {
    /// Whether there is anything that counts.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty() && self.certificates.is_empty()
    }
}

/// How a runtime is told about a registry.
pub(super) trait Renderer: Send + Sync {
    /// The names of the directories in which the runtime looks; the first that exists counts. The last is the one to make.
    fn places(&self, host: &str) -> Vec<String>;

    /// The file's content.
    ///
    /// # Errors
    /// What is there cannot be kept behind the cache.
    fn render(&self, registry: &Registry, route: Route, basis: &Basis) -> Result<String, Unmergeable>;
}

/// containerd's `hosts.toml`.
#[derive(Clone, Debug)]
pub(super) struct HostsToml {
    /// The cache: `http://127.0.0.1:PORT`.
    pub cache: String,
}

/// Where nobody can listen: a connection is refused at once.
const NOWHERE: &str = "http://127.0.0.1:0";
/// containerd 1.7 refuses a file with other capabilities than these and `push`.
const CAPABILITIES: &str = "capabilities = [\"pull\", \"resolve\"]\n";
/// A listener on loopback accepts at once or never; containerd 1.7 ignores this and waits for 30 s.
const DIAL_TIMEOUT: &str = "dial_timeout = \"1s\"\n";
const NOTICE: &str =
    "# Written by Larder, which undoes changes to this file and takes it back with the mirror.\n";

impl Renderer for HostsToml {
    /// As `hostPaths` in containerd 1.7 and 2.x has them. Of the two names of a host with a port, the second is made,
    /// so that whatever somebody adds is seen to count before it.
    fn places(&self, host: &str) -> Vec<String> {
        let mut places = vec![host.to_owned()];
        // containerd cuts at the last colon, in IPv6 addresses too.
        if let Some((name, port)) = host.rsplit_once(':').filter(|(name, _)| !name.is_empty()) {
            places.insert(0, format!("{name}_{port}_"));
        }
        places
    }

    fn render(&self, registry: &Registry, route: Route, basis: &Basis) -> Result<String, Unmergeable> {
        let cache = &self.cache;
        let first = format!("[host.\"{cache}\"]\n{CAPABILITIES}{DIAL_TIMEOUT}");
        if !basis.text.is_empty() {
            return Ok(format!("{NOTICE}{}", merge::prepend(&first, cache, basis)?));
        }
        if !basis.certificates.is_empty() {
            let server = server(&registry.host);
            return Ok(format!("{NOTICE}{server}{}\n{first}", merge::certificates(basis)));
        }
        Ok(match (registry.fallback, route) {
            (Fallback::Registry, _) => format!("{NOTICE}{}\n{first}", server(&registry.host)),
            // The server is the last host. containerd 1.7 wants the table, even if it is empty.
            (Fallback::None, route) => {
                let server = if route == Route::Cache { cache } else { NOWHERE };
                format!("{NOTICE}server = \"{server}\"\n{CAPABILITIES}{DIAL_TIMEOUT}\n[host]\n")
            }
        })
    }
}

/// Where containerd itself would turn. For a registry on the node's own loopback that is more than one way, which no
/// address says, so containerd is left to it.
fn server(host: &str) -> String {
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let ip = name.trim_matches(['[', ']']).parse::<std::net::IpAddr>();
    if name == "localhost" || host == "[::1]" || ip.is_ok_and(|ip| ip.is_loopback()) {
        String::new()
    } else if host == DOCKER_HUB {
        "server = \"https://registry-1.docker.io\"\n".to_owned()
    } else {
        format!("server = \"https://{host}\"\n")
    }
}

#[cfg(test)]
mod tests;
