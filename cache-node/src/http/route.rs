//! Which object of which registry a request means, read from its raw path and query once.
//!
//! The path is never percent-decoded: no valid name, tag or digest needs it, and decoding would let `a%2Fb` be
//! one thing to us and another to whoever sits before or behind us.

use std::str::FromStr;

use percent_encoding::percent_decode_str;

use super::error::{ErrorCode, Status};
use crate::oci::{Digest, ParseDigestError, ParseNameError, Reference, RepoName};

/// A request's target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// How the client named the registry.
    pub registry: Selector,
    /// The repository as the client wrote it, a registry in front included; links back to us need it. Empty for
    /// [`Resource::Base`].
    pub written_name: String,
    /// What is asked for.
    pub resource: Resource,
}

/// How the client named the registry, in order of precedence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selector {
    /// By `?ns=` (distribution-spec, "Registry Proxying"). The host may be one that is not configured.
    Ns(String),
    /// By the path's first segment, which is a configured registry.
    Path(String),
    /// Not at all.
    Default,
}

/// The object that a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resource {
    /// `/v2/`: whether this is a registry.
    Base,
    /// A manifest by tag or digest.
    Manifest {
        /// Its repository.
        repo: RepoName,
        /// Its tag or digest.
        reference: Reference,
    },
    /// A blob.
    Blob {
        /// Its repository.
        repo: RepoName,
        /// Its digest.
        digest: Digest,
    },
    /// The list of a repository's tags.
    Tags {
        /// The repository.
        repo: RepoName,
        /// The most entries that the client wants.
        n: Option<u64>,
        /// The entry after which the list shall begin.
        last: Option<String>,
        /// The raw query without `ns`: registries page with parameters of their own.
        query: Option<String>,
    },
    /// The manifests that refer to another one.
    Referrers {
        /// The repository.
        repo: RepoName,
        /// The digest that they refer to.
        digest: Digest,
        /// The only artifact type wanted.
        artifact_type: Option<String>,
        /// The raw query without `ns`: registries page with parameters of their own.
        query: Option<String>,
    },
}

impl Resource {
    /// The repository that it lies in.
    pub fn repository(&self) -> Option<&RepoName> {
        match self {
            Self::Base => None,
            Self::Manifest { repo, .. }
            | Self::Blob { repo, .. }
            | Self::Tags { repo, .. }
            | Self::Referrers { repo, .. } => Some(repo),
        }
    }
}

/// Why a path and query name nothing that a pull-through cache has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    /// There is no such endpoint.
    #[error("there is no such endpoint in this cache")]
    NoEndpoint,
    /// The path cannot be a repository's: it is encoded, or has segments that are empty or climb.
    #[error("the path has empty, relative or encoded segments")]
    Path,
    /// The repository's name is none.
    #[error("invalid repository name: {0}")]
    Name(ParseNameError),
    /// The tag is none.
    #[error("invalid tag: {0}")]
    Tag(ParseNameError),
    /// The digest is none.
    #[error("invalid digest: {0}")]
    Digest(#[from] ParseDigestError),
    /// A query parameter that we must understand cannot be read.
    #[error("the query parameter {0} cannot be read")]
    Query(&'static str),
}

impl RouteError {
    /// The status of the answer.
    pub fn status(self) -> Status {
        match self {
            Self::NoEndpoint => Status::NotFound,
            Self::Path | Self::Name(_) | Self::Tag(_) | Self::Digest(_) | Self::Query(_) => {
                Status::BadRequest
            }
        }
    }

    /// The code in the answer.
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Path | Self::Name(_) => ErrorCode::NameInvalid,
            Self::Tag(_) => ErrorCode::ManifestInvalid,
            Self::Digest(_) => ErrorCode::DigestInvalid,
            Self::NoEndpoint | Self::Query(_) => ErrorCode::Unsupported,
        }
    }
}

/// Reads a raw path and query; `is_registry` says whether a path's first segment names a configured registry.
///
/// # Errors
/// A [`RouteError`] that says what the client got wrong.
pub fn parse(
    path: &str,
    query: Option<&str>,
    is_registry: impl Fn(&str) -> bool,
) -> Result<Route, RouteError> {
    let query = Query(query.unwrap_or_default());
    let ns = query.get("ns")?.filter(|ns| !ns.is_empty());
    let target = match path.strip_prefix("/v2") {
        Some("" | "/") => None,
        Some(rest) => Some(rest.strip_prefix('/').ok_or(RouteError::NoEndpoint)?),
        None => return Err(RouteError::NoEndpoint),
    };
    let Some(target) = target else {
        return Ok(Route {
            registry: ns.map_or(Selector::Default, Selector::Ns),
            written_name: String::new(),
            resource: Resource::Base,
        });
    };
    let (written_name, endpoint) = split_endpoint(target)?;
    let (registry, name) = match (ns, written_name.split_once('/')) {
        (Some(ns), _) => (Selector::Ns(ns), written_name),
        (None, Some((host, name))) if is_registry(host) => (Selector::Path(host.to_owned()), name),
        // A registry without a repository: not to be mistaken for a repository of the default registry.
        (None, None) if is_registry(written_name) => return Err(RouteError::Name(ParseNameError::Length)),
        (None, _) => (Selector::Default, written_name),
    };
    let repo = RepoName::from_str(name).map_err(RouteError::Name)?;
    Ok(Route {
        registry,
        written_name: written_name.to_owned(),
        resource: endpoint.resource(repo, &query)?,
    })
}

/// An endpoint's kind with the rest of its path.
enum Endpoint<'a> {
    Manifest(&'a str),
    Blob(&'a str),
    Tags,
    Referrers(&'a str),
}

/// Splits what follows `/v2/` into name and endpoint. From the right, because names may have segments that are
/// called like endpoints.
fn split_endpoint(target: &str) -> Result<(&str, Endpoint<'_>), RouteError> {
    if target == "_catalog" || target.ends_with("/blobs/uploads/") {
        return Err(RouteError::NoEndpoint);
    }
    let is_plain = |c: u8| c.is_ascii_graphic() && c != b'%' && c != b'\\';
    if !target.bytes().all(is_plain)
        || target
            .split('/')
            .any(|segment| matches!(segment, "" | "." | ".."))
    {
        return Err(RouteError::Path);
    }
    let (front, last) = target.rsplit_once('/').ok_or(RouteError::NoEndpoint)?;
    let (name, kind) = front.rsplit_once('/').unwrap_or(("", front));
    let endpoint = match (kind, last) {
        ("manifests", reference) => Endpoint::Manifest(reference),
        ("blobs", "uploads") => return Err(RouteError::NoEndpoint),
        ("blobs", digest) => Endpoint::Blob(digest),
        ("tags", "list") => Endpoint::Tags,
        ("referrers", digest) => Endpoint::Referrers(digest),
        _ => return Err(RouteError::NoEndpoint),
    };
    Ok((name, endpoint))
}

impl Endpoint<'_> {
    fn resource(self, repo: RepoName, query: &Query<'_>) -> Result<Resource, RouteError> {
        Ok(match self {
            Self::Manifest(reference) => Resource::Manifest {
                repo,
                reference: reference.parse().map_err(|error| match error {
                    ParseNameError::Digest(error) => RouteError::Digest(error),
                    error => RouteError::Tag(error),
                })?,
            },
            Self::Blob(digest) => Resource::Blob {
                repo,
                digest: digest.parse()?,
            },
            Self::Tags => Resource::Tags {
                repo,
                n: match query.get("n")? {
                    Some(n) => Some(n.parse().map_err(|_| RouteError::Query("n"))?),
                    None => None,
                },
                last: query.get("last")?,
                query: query.without("ns"),
            },
            Self::Referrers(digest) => Resource::Referrers {
                repo,
                digest: digest.parse()?,
                artifact_type: query.get("artifactType")?,
                query: query.without("ns"),
            },
        })
    }
}

/// A raw query string.
struct Query<'a>(&'a str);

impl Query<'_> {
    /// The first value under `key`, decoded. A `+` stays one: `artifactType=application/x+json` means no space.
    fn get(&self, key: &'static str) -> Result<Option<String>, RouteError> {
        let value = self
            .0
            .split('&')
            .find_map(|pair| pair.strip_prefix(key)?.strip_prefix('='));
        let decode = |value| percent_decode_str(value).decode_utf8();
        match value.map(decode).transpose() {
            Ok(value) => Ok(value.map(|value| value.into_owned())),
            Err(_) => Err(RouteError::Query(key)),
        }
    }

    /// Everything but `key`, as the client wrote it.
    fn without(&self, key: &str) -> Option<String> {
        let is_kept = |pair: &&str| !pair.is_empty() && pair.split('=').next() != Some(key);
        let kept: Vec<_> = self.0.split('&').filter(is_kept).collect();
        (!kept.is_empty()).then(|| kept.join("&"))
    }
}

#[cfg(test)]
mod tests;
