//! A registry that behaves well until a test scripts otherwise, with its token server's challenges and a CDN.

mod auth;
mod catalog;
mod cdn;
mod routes;

use std::ops::Deref;
use std::sync::{Arc, Mutex};

use bytes::Bytes;

pub use auth::Auth;
pub(crate) use auth::parse_basic;
pub use cdn::{Cdn, CdnBuilder};

use crate::digest::{sha256, sha512};
use crate::scripted::{Content, HostSetup, ScriptedHost, VirtualBlob, host_setup};
use catalog::Catalog;
use routes::Routes;

/// A running registry. Requests, rules and addresses are those of the [`ScriptedHost`] it derefs to.
pub struct FakeRegistry {
    host: ScriptedHost,
    catalog: Arc<Mutex<Catalog>>,
}

impl Deref for FakeRegistry {
    type Target = ScriptedHost;

    fn deref(&self) -> &ScriptedHost {
        &self.host
    }
}

/// What a registry is started with.
pub struct FakeRegistryBuilder {
    host: HostSetup,
    auth: Option<Auth>,
}

host_setup!(FakeRegistryBuilder);

impl FakeRegistryBuilder {
    /// Demands tokens or passwords.
    pub fn auth(mut self, auth: Auth) -> Self {
        self.auth = Some(auth);
        self
    }

    /// Starts to listen, on the runtime of the calling test.
    pub async fn start(self) -> FakeRegistry {
        let catalog = Arc::<Mutex<Catalog>>::default();
        let own_realm = self.auth.as_ref().and_then(Auth::own_realm_slot);
        let routes = Routes::new(catalog.clone(), self.auth);
        let host = ScriptedHost::start(self.host, Arc::new(routes)).await;
        if let Some(slot) = own_realm {
            slot.set_base(&host.url());
        }
        FakeRegistry { host, catalog }
    }
}

impl FakeRegistry {
    /// A plain HTTP/1.1 registry on a free port of 127.0.0.1 without authentication, to be changed.
    pub fn builder() -> FakeRegistryBuilder {
        FakeRegistryBuilder {
            host: HostSetup::named("registry"),
            auth: None,
        }
    }

    /// Adds a blob; returns its sha256 digest.
    pub fn add_blob(&self, repo: &str, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest = sha256(&bytes);
        self.add_blob_under(repo, &digest, bytes);
        digest
    }

    /// Adds a blob under its sha512 digest, which is returned.
    pub fn add_blob_sha512(&self, repo: &str, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest = sha512(&bytes);
        self.add_blob_under(repo, &digest, bytes);
        digest
    }

    /// Adds a blob of `size` bytes that takes no memory; returns its sha256 digest. The same size gives the same
    /// content within one test process, so that its digest is computed once.
    pub fn add_virtual_blob(&self, repo: &str, size: u64) -> String {
        let blob = VirtualBlob::new(size, size);
        let digest = blob.digest();
        self.add_blob_under(repo, &digest, Content::Virtual(blob));
        digest
    }

    /// Serves `content` as the blob `digest`, true or not.
    pub fn add_blob_under(&self, repo: &str, digest: &str, content: impl Into<Content>) {
        self.catalog
            .lock()
            .unwrap()
            .add_blob(repo, digest, content.into());
    }

    /// Adds a manifest and points `tag` to it; returns its sha256 digest.
    pub fn add_manifest(&self, repo: &str, tag: &str, media_type: &str, bytes: impl Into<Bytes>) -> String {
        let digest = self.add_untagged_manifest(repo, media_type, bytes);
        self.tag(repo, tag, &digest);
        digest
    }

    /// Adds a manifest that only its digest finds; returns it.
    pub fn add_untagged_manifest(&self, repo: &str, media_type: &str, bytes: impl Into<Bytes>) -> String {
        let bytes = bytes.into();
        let digest = sha256(&bytes);
        self.add_manifest_under(repo, &digest, media_type, bytes);
        digest
    }

    /// Serves `bytes` as the manifest `digest`, true or not.
    pub fn add_manifest_under(&self, repo: &str, digest: &str, media_type: &str, bytes: impl Into<Bytes>) {
        self.catalog
            .lock()
            .unwrap()
            .add_manifest(repo, digest, media_type, bytes.into());
    }

    /// Points `tag` to `digest`.
    pub fn tag(&self, repo: &str, tag: &str, digest: &str) {
        self.catalog.lock().unwrap().tag(repo, tag, digest);
    }

    /// Removes a tag.
    pub fn untag(&self, repo: &str, tag: &str) {
        self.catalog.lock().unwrap().untag(repo, tag);
    }

    /// Removes a blob or manifest from a repository.
    pub fn remove(&self, repo: &str, digest: &str) {
        self.catalog.lock().unwrap().remove(repo, digest);
    }

    /// From now on every GET of a blob is a redirect of this status to a freshly signed URL of `cdn`. HEAD is
    /// still answered here, as real registries do.
    pub fn redirect_blobs(&self, status: u16, cdn: &Cdn) {
        self.catalog.lock().unwrap().redirect_blobs(status, cdn);
    }
}

#[cfg(test)]
mod tests;
