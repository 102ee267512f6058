//! Where the tools meet the rights to content: what an export says of them, what an import grants, and what a purge
//! takes away.

use crate::oci::{Digest, RepoName};

/// Whether everybody may have what this name stands for. Without a record, nobody but those who prove it.
pub(super) fn is_public(_digest: &Digest, _registry: &str, _repository: &RepoName) -> bool {
    false
}

/// Notes that this name stands for content that was imported, and whether everybody may have it.
pub(super) fn vouch(digest: &Digest, registry: &str, repository: &RepoName, is_public: bool) {
    tracing::debug!(%digest, registry, %repository, is_public, "imported");
}

/// Notes that nobody has a right to content by this name any more.
pub(super) fn revoke(digest: &Digest, registry: &str, repository: &RepoName) {
    tracing::debug!(%digest, registry, %repository, "purged");
}
