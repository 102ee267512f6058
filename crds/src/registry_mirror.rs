//! The types of a `RegistryMirror` document, field by field as users write them.

#![cfg_attr(
    feature = "k8s",
    expect(clippy::duplicated_attributes, reason = "each printer column has a type")
)]

use serde::{Deserialize, Serialize};

#[cfg(feature = "k8s")]
use crate::Status;
use crate::{Node, Quantity};

/// What is mirrored and how.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(
    feature = "k8s",
    derive(kube::CustomResource, schemars::JsonSchema),
    kube(
        group = "larder.dev",
        version = "v1alpha1",
        kind = "RegistryMirror",
        status = "Status",
        shortname = "rmir",
        category = "larder",
        doc = "A pull-through cache of container registries on every node of the cluster.",
        derive = "PartialEq",
        printcolumn(
            name = "Ready",
            type_ = "string",
            description = "Whether pulls go through the caches of all nodes.",
            json_path = r#".status.conditions[?(@.type=="Ready")].status"#
        ),
        printcolumn(
            name = "Reason",
            type_ = "string",
            description = "Why, in one word.",
            json_path = r#".status.conditions[?(@.type=="Ready")].reason"#
        ),
        printcolumn(
            name = "Nodes",
            type_ = "string",
            description = "Nodes whose cache serves pulls, of those that should have one.",
            json_path = ".status.nodes.summary"
        ),
        printcolumn(
            name = "Registries",
            type_ = "string",
            description = "The registries that are mirrored.",
            json_path = ".status.registries"
        ),
        printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"),
        printcolumn(
            name = "Capacity",
            type_ = "string",
            description = "What the content of each node may take, where the mirror says so.",
            json_path = ".spec.cache.capacity",
            priority = 1
        ),
        printcolumn(
            name = "Message",
            type_ = "string",
            description = "Why, in a sentence.",
            json_path = r#".status.conditions[?(@.type=="Ready")].message"#,
            priority = 1
        )
    )
)]
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
    /// The cache's pods, and the runtime that pulls through them.
    #[serde(skip_serializing_if = "is_default")]
    pub node: Node,
}

/// One registry, under the name that image references use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(schemars::JsonSchema))]
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
    /// Which of the registry's repositories are served; the others are 404, so that the runtime goes on as `fallback`
    /// says. Defaults to all of them.
    #[serde(skip_serializing_if = "is_default")]
    pub repositories: Repositories,
    /// Globs of the repositories, as the endpoint names them, whose content is not evicted to make room, up to
    /// `cache.pinnedMax`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pins: Vec<String>,
    /// How long tags are trusted.
    #[serde(skip_serializing_if = "is_default")]
    pub tags: Tags,
    /// Whether content that is not on the node yet is fetched.
    #[serde(skip_serializing_if = "is_default")]
    pub mode: Mode,
    /// Where the runtime turns when the cache has no answer.
    #[serde(skip_serializing_if = "is_default")]
    pub fallback: Fallback,
}

/// Which of a registry's repositories are served.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "camelCase")]
pub struct Repositories {
    /// Globs of the repositories that are served, as the endpoint names them, on Docker Hub `library/alpine`: `*` stays
    /// within one path segment, `**` crosses them. Without any, all that `deny` does not name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow: Vec<String>,
    /// Globs of the repositories that are not served, whatever `allow` says.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub deny: Vec<String>,
}

/// Whether a registry's content is fetched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(schemars::JsonSchema))]
pub enum Mode {
    /// What is missing is fetched from the registry.
    #[default]
    Proxy,
    /// Only what is on the node is served, and the registry is never contacted by the cache.
    CacheOnly,
}

/// Where the runtime turns when the cache has no answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(schemars::JsonSchema))]
pub enum Fallback {
    /// To the registry itself, with the pod's own pull secrets.
    #[default]
    Registry,
    /// Nowhere: the pull fails.
    None,
}

/// A server that a registry's content is fetched from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "k8s", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "k8s", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "k8s", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "camelCase")]
pub struct CaBundle {
    /// The name of a ConfigMap whose key `ca.crt` holds PEM certificates.
    pub config_map_name: String,
}

/// Servers beyond the registry's own domain that its answers may point to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(schemars::JsonSchema))]
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
#[cfg_attr(feature = "k8s", derive(schemars::JsonSchema))]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "camelCase")]
pub struct Cache {
    /// The directory on each node that keeps the content.
    pub path: String,
    /// What becomes of a node's content when the mirror is deleted.
    pub deletion_policy: DeletionPolicy,
    /// What the content of a node may take of its disk: bytes such as `50Gi`, or a percentage of the filesystem such as
    /// `25%`. Defaults to `50Gi` or `25%`, whichever is less.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capacity: Option<Quantity>,
    /// What stays free on the filesystem, whoever fills it: content is evicted for it. Bytes, or a percentage of the
    /// filesystem. Defaults to `20%`, since kubelet removes images and then pods from a node with less than 15 % free.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_free: Option<Quantity>,
    /// How much content `pins` may exempt from eviction: bytes, or a percentage of the capacity. Defaults to `50%`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned_max: Option<Quantity>,
    /// Blobs up to this size are verified whole before the answer begins. Defaults to `1Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verify_whole_up_to: Option<Quantity>,
}

impl Default for Cache {
    fn default() -> Self {
        Self {
            path: "/var/lib/larder".to_owned(),
            deletion_policy: DeletionPolicy::default(),
            capacity: None,
            min_free: None,
            pinned_max: None,
            verify_whole_up_to: None,
        }
    }
}

/// What becomes of a node's content when the mirror is deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(schemars::JsonSchema))]
pub enum DeletionPolicy {
    /// It is removed.
    #[default]
    Delete,
    /// It stays, for a mirror with the same path to go on with.
    Retain,
}

pub(crate) fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
