//! The vocabulary of the OCI distribution specification as types whose only constructors are parsers.
//!
//! Nothing here does I/O, and nothing here imports another module of ours: a value of these types is safe to
//! log, to compare and to build a file name from.

mod digest;
mod manifest;
mod media_type;
mod name;

pub use digest::{Algorithm, Digest, DigestHasher, ParseDigestError};
pub use manifest::{Descriptor, descriptors, sniff_media_type};
pub use media_type::{MediaType, ParseMediaTypeError};
pub use name::{NAME_BYTES_MAX, ParseNameError, Reference, RepoName, Tag};
