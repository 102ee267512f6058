//! What a mirror makes of its nodes: ports, placement, and the runtime's configuration.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::registry_mirror::is_default;

/// The cache's pods and the runtime that pulls through them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "camelCase")]
pub struct Node {
    /// The port on each node's loopback address from which its runtime pulls.
    pub port: i32,
    /// The port on each node's loopback address that answers probes, metrics and `/statusz`.
    pub admin_port: i32,
    /// The port on each node's own address that answers metrics and the operator, without naming images.
    pub metrics_port: i32,
    /// Labels of the nodes that get a cache. Linux nodes only, always.
    #[serde(skip_serializing_if = "is_default")]
    pub node_selector: BTreeMap<String, String>,
    /// Which nodes get a cache, as a pod's `affinity`.
    #[serde(skip_serializing_if = "is_default")]
    #[cfg_attr(
        feature = "k8s",
        schemars(with = "Option<k8s_openapi::api::core::v1::Affinity>")
    )]
    pub affinity: Map<String, Value>,
    /// Taints that the cache tolerates, as a pod's `tolerations`. Without any, all of them.
    #[serde(skip_serializing_if = "is_default")]
    #[cfg_attr(
        feature = "k8s",
        schemars(with = "Vec<k8s_openapi::api::core::v1::Toleration>")
    )]
    pub tolerations: Vec<Map<String, Value>>,
    /// Requests and limits of the container that serves pulls.
    #[serde(skip_serializing_if = "is_default")]
    #[cfg_attr(
        feature = "k8s",
        schemars(with = "Option<k8s_openapi::api::core::v1::ResourceRequirements>")
    )]
    pub resources: Map<String, Value>,
    /// How pods are replaced, as a DaemonSet's `updateStrategy`. Without it, a tenth of the nodes at a time.
    #[serde(skip_serializing_if = "is_default")]
    #[cfg_attr(
        feature = "k8s",
        schemars(with = "Option<k8s_openapi::api::apps::v1::DaemonSetUpdateStrategy>")
    )]
    pub update_strategy: Map<String, Value>,
    /// Labels added to the cache's pods.
    #[serde(skip_serializing_if = "is_default")]
    pub pod_labels: BTreeMap<String, String>,
    /// Annotations added to the cache's pods.
    #[serde(skip_serializing_if = "is_default")]
    pub pod_annotations: BTreeMap<String, String>,
    /// Annotations added to the cache's ServiceAccount.
    #[serde(skip_serializing_if = "is_default")]
    pub service_account_annotations: BTreeMap<String, String>,
    /// The runtime's configuration.
    pub containerd: Containerd,
}

impl Default for Node {
    fn default() -> Self {
        Self {
            port: 5117,
            admin_port: 5118,
            metrics_port: 5119,
            node_selector: BTreeMap::new(),
            affinity: Map::new(),
            tolerations: Vec::new(),
            resources: Map::new(),
            update_strategy: Map::new(),
            pod_labels: BTreeMap::new(),
            pod_annotations: BTreeMap::new(),
            service_account_annotations: BTreeMap::new(),
            containerd: Containerd::default(),
        }
    }
}

/// Where containerd's configuration lies on the nodes, and what becomes of what is found there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(schemars::JsonSchema))]
#[serde(default, rename_all = "camelCase")]
pub struct Containerd {
    /// The directory that containerd's `config_path` names, in which the mirror writes `hosts.toml` files.
    pub config_path: String,
    /// The directory of containerd's own configuration, which is only read.
    pub config_dir: String,
    /// What becomes of configuration that somebody else wrote for a registry of this mirror.
    pub existing: ExistingHosts,
}

impl Default for Containerd {
    fn default() -> Self {
        Self {
            config_path: "/etc/containerd/certs.d".to_owned(),
            config_dir: "/etc/containerd".to_owned(),
            existing: ExistingHosts::default(),
        }
    }
}

/// What becomes of configuration that somebody else wrote for a registry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "k8s", derive(schemars::JsonSchema))]
pub enum ExistingHosts {
    /// It stays, and the registry is not pulled through the cache (`ForeignHosts`).
    #[default]
    Leave,
    /// The cache is asked first, then what was there: its server, hosts and certificates.
    Prepend,
}
