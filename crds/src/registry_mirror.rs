//! The types of a `RegistryMirror` document, field by field as users write them.

use serde::{Deserialize, Serialize};

use crate::Quantity;

/// The `apiVersion` of the documents that these types describe.
pub const API_VERSION: &str = "larder.dev/v1alpha1";
/// The `kind` of the documents that these types describe.
pub const KIND: &str = "RegistryMirror";

/// A pull-through cache of container registries on every node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RegistryMirror {
    /// Always `larder.dev/v1alpha1`.
    pub api_version: String,
    /// Always `RegistryMirror`.
    pub kind: String,
    /// The object's metadata.
    pub metadata: Metadata,
    /// What is mirrored and how.
    pub spec: Spec,
}

/// The part of an object's metadata that matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    /// The mirror's name: a DNS-1123 subdomain.
    pub name: String,
}

/// What is mirrored and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Spec {
    /// The registries that are mirrored, keyed by host. No other host is ever contacted.
    pub registries: Vec<Registry>,
    /// The registry of requests that name none: the host of one of `registries`. Without it such requests
    /// are answered with 404.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_registry: Option<String>,
    /// How content is kept and verified.
    #[serde(skip_serializing_if = "is_default")]
    pub cache: Cache,
}

/// One registry, under the name that image references use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Registry {
    /// The host of the image references that are served from here, such as `docker.io` or `registry.corp:5000`.
    pub host: String,
    /// Where content is fetched from. Defaults to the registry's own endpoint: the known one for docker.io, and
    /// `https://HOST` for every other registry.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub endpoints: Vec<Endpoint>,
    /// Credentials for the registry's own default endpoint. Those of another endpoint are written there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Credential>,
    /// TLS settings for the registry's own default endpoint.
    #[serde(skip_serializing_if = "is_default")]
    pub tls: Tls,
    /// Additional trust for the registry's own default endpoint.
    #[serde(skip_serializing_if = "is_default")]
    pub trust: Trust,
    /// How long tags are trusted.
    #[serde(skip_serializing_if = "is_default")]
    pub tags: Tags,
}

/// A server that a registry's content is fetched from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Endpoint {
    /// The server's address, `http` or `https`. A path is put before `/v2`.
    pub url: String,
    /// Credentials for this endpoint.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub credentials: Vec<Credential>,
    /// TLS settings for this endpoint.
    #[serde(skip_serializing_if = "is_default")]
    pub tls: Tls,
    /// Additional trust for this endpoint.
    #[serde(skip_serializing_if = "is_default")]
    pub trust: Trust,
}

/// A Secret and the repositories that it is used for. Every pod on the node may pull what it can read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Credential {
    /// The name of a Secret of type `kubernetes.io/dockerconfigjson` or `kubernetes.io/basic-auth`, or of an
    /// opaque one with the key `token`.
    pub secret_name: String,
    /// Globs of the repositories, as the endpoint names them, that the Secret is used for: `*` stays within one
    /// path segment, `**` crosses them.
    pub repositories: Vec<String>,
}

/// How an endpoint's certificate is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Tls {
    /// Certificate authorities that are trusted besides the system's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca_bundle: Option<CaBundle>,
    /// Accept any certificate. Content stays verified by digest, but tags and credentials are exposed.
    #[serde(skip_serializing_if = "is_default")]
    pub insecure_skip_verify: bool,
}

/// Where certificate authorities are read from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct CaBundle {
    /// The name of a ConfigMap whose key `ca.crt` holds PEM certificates.
    pub config_map_name: String,
}

/// Servers beyond the registry's own domain that its answers may point to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Trust {
    /// Hosts, `host:port` or CIDRs of token servers that may receive the registry's credentials.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub realms: Vec<String>,
    /// Hosts, `host:port` or CIDRs of private addresses that redirects may lead to.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub redirects: Vec<String>,
}

/// How long a registry's tags are trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Tags {
    /// How long a tag is served without asking the registry again, such as `5m`. Defaults to `5m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl: Option<String>,
    /// How long beyond that a tag is served while the registry does not answer, such as `24h`. Defaults to `24h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub serve_stale_for: Option<String>,
    /// Globs of tags that never move and so are asked for only once.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub immutable: Vec<String>,
}

/// How content is kept and verified.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Cache {
    /// Blobs up to this size are verified whole before the answer begins. Defaults to `1Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_whole_up_to: Option<Quantity>,
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
