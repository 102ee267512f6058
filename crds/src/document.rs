//! The document as a file: what `cache-node --config` reads and the operator renders into a ConfigMap.

use serde::{Deserialize, Serialize};

use crate::Spec;

/// The `apiVersion` of the documents that these types describe.
pub const API_VERSION: &str = "larder.dev/v1alpha1";
/// The `kind` of the documents that these types describe.
pub const KIND: &str = "RegistryMirror";

/// A `RegistryMirror` as a file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Document {
    /// Always `larder.dev/v1alpha1`.
    pub api_version: String,
    /// Always `RegistryMirror`.
    pub kind: String,
    /// The object's metadata.
    pub metadata: Metadata,
    /// What is mirrored and how.
    pub spec: Spec,
}

/// The part of an object's metadata that matters on a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Metadata {
    /// The mirror's name: a DNS-1123 subdomain.
    pub name: String,
    /// The object's identity in its cluster, by which files on a node are known as this mirror's. Standalone
    /// configurations have none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The object's generation, by which the operator sees which specification a node has loaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generation: Option<i64>,
}
