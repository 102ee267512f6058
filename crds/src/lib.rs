//! The contract between users, the operator and `cache-node`: the `RegistryMirror` document, and what nodes report.
//!
//! One schema serves as custom resource and as standalone configuration, so it lives apart from both programs.
//! Sizes, durations, URLs and patterns are plain strings here: the reader of a document wants to report every
//! bad one with its path, and a type that refuses to deserialize would stop at the first. Fields that a
//! validator requires have defaults for the same reason.

mod document;
pub mod names;
mod node;
mod quantity;
mod registry_mirror;
pub mod report;
#[cfg(feature = "k8s")]
mod schema;
#[cfg(feature = "k8s")]
mod status;

pub use document::{API_VERSION, Document, KIND, Metadata};
pub use node::{Containerd, ExistingHosts, Node};
pub use quantity::Quantity;
#[cfg(feature = "k8s")]
pub use registry_mirror::RegistryMirror;
pub use registry_mirror::{
    CaBundle, Cache, Credential, DeletionPolicy, Endpoint, Fallback, Mode, Registry, Repositories, Spec,
    Tags, Tls, Trust,
};
#[cfg(feature = "k8s")]
pub use schema::{SchemaError, custom_resource_definition};
#[cfg(feature = "k8s")]
pub use status::{LaggingNode, NodeCounts, Status};
