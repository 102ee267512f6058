//! The configuration: a `RegistryMirror` document, read, validated, and read again when it changes.
//!
//! A document becomes a [`Config`] only as a whole: every mistake is reported with the path of its field, and
//! one mistake is enough to refuse it. Nothing else in this program sees an unvalidated value.

mod document;
mod effective;
mod error;
mod globs;
mod host;
mod limits;
mod reload;
mod units;
mod validate;

use std::sync::Arc;
use std::time::Duration;

use larder_crds::{DeletionPolicy, Fallback, Mode, Node};
use reqwest::Url;
use sha2::{Digest as _, Sha256};

use crate::oci::RepoName;

pub use error::{ConfigErrors, FieldError};
pub use globs::Globs;
pub use host::{DOCKER_HUB, HostPattern, canonical_host};
pub use limits::{Amount, CacheLimits};
pub(crate) use reload::Settled;
pub use reload::{POLL_INTERVAL, Reload, load, watch};
pub(crate) use units::parse_duration;
pub(crate) use validate::is_dns_subdomain;

/// The largest document; a ConfigMap cannot hold more.
pub const DOCUMENT_BYTES_MAX: usize = 1 << 20;
const EMBEDDED: &str = include_str!("config/embedded.yaml");
const GENERATION_BYTES: usize = 8;

/// A valid configuration with all defaults filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The mirror's name.
    pub name: String,
    /// The object's UID in its cluster; standalone there is none.
    pub uid: Option<String>,
    /// The object's generation in its cluster; standalone there is none.
    pub object_generation: Option<i64>,
    /// The directory on the node that the cache directory is; the process knows it under the name of `--cache-dir`.
    pub cache_path: String,
    /// What becomes of the content when the mirror is deleted.
    pub deletion_policy: DeletionPolicy,
    /// What the mirror makes of its nodes.
    pub node: Node,
    /// What the content may take of the disk.
    pub cache_limits: CacheLimits,
    /// The registries, in the order of the document; their hosts differ.
    pub registries: Vec<Arc<Registry>>,
    /// Blobs up to this size in bytes are verified whole before the answer begins.
    pub verify_whole_up_to_bytes: u64,
    default_registry: Option<usize>,
    generation: String,
}

/// One registry and where its content is fetched from. Equal values behave equally, so that a reload keeps what
/// did not change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registry {
    /// The canonical host of image references, such as `docker.io` or `registry.corp:5000`.
    pub host: String,
    /// The server that content is fetched from.
    pub endpoint: Endpoint,
    /// Which repositories are served.
    pub repositories: RepositoryRules,
    /// Repositories, as the endpoint names them, whose content is not evicted to make room.
    pub pins: Globs,
    /// How long tags are trusted.
    pub tags: TagPolicy,
    /// Whether content that is not here is fetched.
    pub mode: Mode,
    /// Where the runtime turns when there is no answer here.
    pub fallback: Fallback,
}

/// Which of a registry's repositories are served: repositories as the endpoint names them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepositoryRules {
    /// The only ones that are; empty means all.
    pub allow: Globs,
    /// Those that are not, whatever `allow` says.
    pub deny: Globs,
}

/// A server that content is fetched from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The base address: `http` or `https`, without `/v2`, query, fragment or user. See [`Endpoint::api_url`].
    pub url: Url,
    /// Which credentials are used for which repositories; the first match counts.
    pub credentials: Vec<CredentialRule>,
    /// How its certificate is checked.
    pub tls: Tls,
    /// Whom else it may send us to.
    pub trust: Trust,
}

/// A Secret and the repositories it is used for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CredentialRule {
    /// The Secret's name: a DNS-1123 subdomain, so it is safe as the name of a directory.
    pub secret_name: String,
    /// Repositories as the endpoint names them.
    pub repositories: Globs,
}

/// How an endpoint's certificate is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The name of a ConfigMap with additional certificate authorities: a DNS-1123 subdomain.
    pub ca_bundle: Option<String>,
    /// Accept any certificate.
    pub insecure_skip_verify: bool,
}

/// Whom else an endpoint may send us to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// Token servers beyond the registry's own domain that may receive its credentials.
    pub realms: Vec<HostPattern>,
    /// Private addresses that redirects may lead to.
    pub redirects: Vec<HostPattern>,
}

/// How long a registry's tags are trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TagPolicy {
    /// How long a tag is served without asking the registry again.
    pub ttl: Duration,
    /// How long beyond `ttl` a tag is served while the registry does not answer.
    pub serve_stale_for: Duration,
    /// Tags that never move.
    pub immutable: Globs,
}

impl Config {
    /// The configuration of `serve` without `--config`: the great public registries, anonymously.
    #[expect(
        clippy::expect_used,
        reason = "the document is part of the program, and a test parses it"
    )]
    pub fn embedded() -> Self {
        Self::parse(EMBEDDED).expect("the embedded configuration is valid")
    }

    /// Reads a `RegistryMirror` document in YAML or JSON; on failure, everything that is wrong with it.
    pub fn parse(yaml: &str) -> Result<Self, ConfigErrors> {
        let (document, mut errors) = document::read(yaml)?;
        let config =
            document.and_then(|document| validate::validate(&document, generation_of(yaml), &mut errors));
        errors.finish(config)
    }

    /// The registry of this host, in any spelling: upper case and the aliases of Docker Hub are understood.
    pub fn registry(&self, host: &str) -> Option<&Arc<Registry>> {
        let host = canonical_host(host).ok()?;
        self.registries.iter().find(|registry| registry.host == host)
    }

    /// The registry of requests that name none.
    pub fn default_registry(&self) -> Option<&Arc<Registry>> {
        self.registries.get(self.default_registry?)
    }

    /// The document that this configuration amounts to, with all defaults written out.
    pub fn to_yaml(&self) -> String {
        effective::to_yaml(self)
    }

    /// Changes whenever the text of the document does: the first 8 bytes of its SHA-256, in hex.
    pub fn generation(&self) -> &str {
        &self.generation
    }
}

impl RepositoryRules {
    /// Whether the repository of this name, as the endpoint has it, is served.
    pub fn admits(&self, repository: &str) -> bool {
        !self.deny.is_match(repository) && (self.allow.is_empty() || self.allow.is_match(repository))
    }
}

impl Registry {
    /// The repository as the endpoint names it: on Docker Hub one-segment names live under `library/`.
    pub fn upstream_repository(&self, name: &RepoName) -> RepoName {
        if self.host != DOCKER_HUB || name.as_str().contains('/') {
            return name.clone();
        }
        // A name that this makes too long does not exist there in any spelling.
        format!("library/{name}").parse().unwrap_or_else(|_| name.clone())
    }
}

impl Endpoint {
    /// The address of `path` in the registry API, such as `library/alpine/tags/list`; the empty path is the ping.
    pub fn api_url(&self, path: &str) -> Url {
        let mut url = self.url.clone();
        url.set_path(&format!("{}/v2/{path}", self.url.path().trim_end_matches('/')));
        url
    }

    /// The canonical host, with its port unless that is the scheme's, under which credentials are looked up.
    pub fn host(&self) -> String {
        let host = self.url.host_str().unwrap_or_default();
        let host = self
            .url
            .port()
            .map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        canonical_host(&host).unwrap_or(host)
    }
}

impl Trust {
    /// Whether a token server at this host may receive the registry's credentials.
    pub fn realm(&self, host: &str, port: u16) -> bool {
        self.realms.iter().any(|pattern| pattern.matches(host, port))
    }
}

fn generation_of(text: &str) -> String {
    use std::fmt::Write as _;
    Sha256::digest(text.as_bytes())
        .iter()
        .take(GENERATION_BYTES)
        .fold(String::new(), |mut hex, byte| {
            // Writing to a string cannot fail.
            let _ = write!(hex, "{byte:02x}");
            hex
        })
}

#[cfg(test)]
mod tests;
