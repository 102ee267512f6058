//! What a registry holds.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use super::cdn::{Cdn, Signer};
use crate::scripted::Content;

/// A manifest as it was added.
#[derive(Clone)]
pub(super) struct Manifest {
    pub(super) digest: String,
    pub(super) media_type: String,
    pub(super) bytes: Bytes,
}

#[derive(Default)]
struct Repo {
    blobs: HashMap<String, Content>,
    manifests: BTreeMap<String, Manifest>,
    tags: BTreeMap<String, String>,
}

/// All repositories of one registry.
#[derive(Default)]
pub(super) struct Catalog {
    repos: HashMap<String, Repo>,
    blob_redirect: Option<(u16, Arc<Signer>)>,
}

impl Catalog {
    fn repo_mut(&mut self, repo: &str) -> &mut Repo {
        self.repos.entry(repo.to_owned()).or_default()
    }

    pub(super) fn add_blob(&mut self, repo: &str, digest: &str, content: Content) {
        self.repo_mut(repo).blobs.insert(digest.to_owned(), content);
    }

    pub(super) fn add_manifest(&mut self, repo: &str, digest: &str, media_type: &str, bytes: Bytes) {
        let manifest = Manifest {
            digest: digest.to_owned(),
            media_type: media_type.to_owned(),
            bytes,
        };
        self.repo_mut(repo).manifests.insert(digest.to_owned(), manifest);
    }

    pub(super) fn tag(&mut self, repo: &str, tag: &str, digest: &str) {
        self.repo_mut(repo).tags.insert(tag.to_owned(), digest.to_owned());
    }

    pub(super) fn untag(&mut self, repo: &str, tag: &str) {
        self.repo_mut(repo).tags.remove(tag);
    }

    pub(super) fn remove(&mut self, repo: &str, digest: &str) {
        let repo = self.repo_mut(repo);
        repo.blobs.remove(digest);
        repo.manifests.remove(digest);
    }

    pub(super) fn redirect_blobs(&mut self, status: u16, cdn: &Cdn) {
        self.blob_redirect = Some((status, cdn.signer()));
    }

    pub(super) fn blob_redirect(&self) -> Option<(u16, Arc<Signer>)> {
        self.blob_redirect.clone()
    }

    pub(super) fn blob(&self, repo: &str, digest: &str) -> Option<Content> {
        self.repos.get(repo)?.blobs.get(digest).cloned()
    }

    /// By tag or digest.
    pub(super) fn manifest(&self, repo: &str, reference: &str) -> Option<Manifest> {
        let repo = self.repos.get(repo)?;
        let digest = repo.tags.get(reference).map_or(reference, String::as_str);
        repo.manifests.get(digest).cloned()
    }

    /// All tags, in order.
    pub(super) fn tags(&self, repo: &str) -> Option<Vec<String>> {
        Some(self.repos.get(repo)?.tags.keys().cloned().collect())
    }

    /// Descriptors of the manifests whose `subject` is `digest`.
    pub(super) fn referrers(&self, repo: &str, digest: &str) -> Vec<Value> {
        let Some(repo) = self.repos.get(repo) else {
            return Vec::new();
        };
        let descriptor = |manifest: &Manifest| {
            let document: Value = serde_json::from_slice(&manifest.bytes).ok()?;
            if document["subject"]["digest"] != digest {
                return None;
            }
            let artifact_type = match &document["artifactType"] {
                Value::Null => document["config"]["mediaType"].clone(),
                given => given.clone(),
            };
            Some(json!({
                "mediaType": manifest.media_type,
                "digest": manifest.digest,
                "size": manifest.bytes.len(),
                "artifactType": artifact_type,
            }))
        };
        repo.manifests.values().filter_map(descriptor).collect()
    }
}
