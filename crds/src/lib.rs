//! The contract between users, the operator and `cache-node`: the `RegistryMirror` document.
//!
//! One schema serves as custom resource and as standalone configuration, so it lives apart from both programs.
//! Sizes, durations, URLs and patterns are plain strings here: the reader of a document wants to report every
//! bad one with its path, and a type that refuses to deserialize would stop at the first. Fields that a
//! validator requires have defaults for the same reason.

mod quantity;
mod registry_mirror;

pub use quantity::Quantity;
pub use registry_mirror::{
    API_VERSION, CaBundle, Cache, Credential, Endpoint, KIND, Metadata, Registry, RegistryMirror, Spec, Tags,
    Tls, Trust,
};
