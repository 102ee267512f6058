//! Builds images, deterministic to the byte: for a fake or a real registry, or as an archive for a node to import.
//!
//! ```
//! use larder_tests::prelude::*;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> anyhow::Result<()> {
//! let image = |architecture, seed| {
//!     ImageBuilder::new()
//!         .architecture(architecture)
//!         .program("bin/hello", std::path::Path::new("/bin/true"))
//!         .entrypoint(&["/bin/hello"])
//!         .user("65532:65532")
//!         .random_layer(seed, 1 << 20)
//!         .uncompressed()
//!         .random_layer(seed + 1, 1 << 10)
//!         .build()
//! };
//! let index = Index::of(vec![image("amd64", 1), image("arm64", 3)]);
//! let up = FakeRegistry::builder().start().await;
//! index.push_to(&up, "acme/hello", "v1");
//! let dir = tempfile::tempdir()?;
//! index.write_archive(&dir.path().join("hello.tar"), "up.test/acme/hello:v1")?;
//! # Ok(())
//! # }
//! ```

mod archive;
mod builder;
mod layer;
mod upload;

use std::path::Path;

use anyhow::Result;
use bytes::Bytes;
use serde_json::{Value, json};

use crate::digest::sha256;
use crate::fake_registry::FakeRegistry;
use crate::scripted::Content;
use archive::Top;
use upload::Target;

pub use builder::ImageBuilder;
pub use layer::{Layer, Packing};

/// Media types of manifests and their parts.
pub mod media_type {
    /// OCI image manifest.
    pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// OCI image index.
    pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// OCI image configuration.
    pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
    /// OCI layer, tar and gzip.
    pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
    /// OCI layer, tar only.
    pub const OCI_LAYER_TAR: &str = "application/vnd.oci.image.layer.v1.tar";
    /// Docker schema 2 manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, tar and gzip.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// Docker layer, tar only.
    pub const DOCKER_LAYER_TAR: &str = "application/vnd.docker.image.rootfs.diff.tar";
}

/// This machine's architecture, in Go's words as images have it. Panics where Larder has no images for it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => panic!("no images for {other}"),
    }
}

/// A complete image for one platform.
#[derive(Clone, Debug)]
pub struct Image {
    /// Layers, lowest first.
    pub layers: Vec<Layer>,
    /// The configuration.
    pub config: Bytes,
    /// The configuration's digest.
    pub config_digest: String,
    /// The manifest.
    pub manifest: Bytes,
    /// The manifest's digest.
    pub digest: String,
    /// The manifest's media type.
    pub media_type: &'static str,
    architecture: String,
}

impl Image {
    /// Config and layers with their digests, in the manifest's order, in memory.
    pub fn blobs(&self) -> Vec<(String, Bytes)> {
        self.contents()
            .map(|(digest, content)| (digest, content.bytes()))
            .collect()
    }

    /// Config and layers with their digests, in the manifest's order.
    pub fn contents(&self) -> impl Iterator<Item = (String, Content)> {
        let layers = self
            .layers
            .iter()
            .map(|layer| (layer.digest.clone(), layer.content.clone()));
        std::iter::once((self.config_digest.clone(), self.config.clone().into())).chain(layers)
    }

    /// Adds the image to a fake registry under a tag; returns the manifest's digest.
    pub fn push_to(&self, registry: &FakeRegistry, repo: &str, tag: &str) -> String {
        self.push_untagged_to(registry, repo);
        registry.tag(repo, tag, &self.digest);
        self.digest.clone()
    }

    fn push_untagged_to(&self, registry: &FakeRegistry, repo: &str) {
        for (digest, content) in self.contents() {
            registry.add_blob_under(repo, &digest, content);
        }
        registry.add_manifest_under(repo, &self.digest, self.media_type, self.manifest.clone());
    }

    /// Uploads the image to a real registry (`http://HOST:PORT`); `reference` is a tag or the manifest's digest.
    /// `authorization` is a whole header value. Panics when the registry refuses.
    pub async fn push_http(&self, registry: &str, repo: &str, reference: &str, authorization: Option<&str>) {
        let target = Target {
            registry,
            repo,
            authorization,
        };
        self.upload(target, reference).await;
    }

    async fn upload(&self, target: Target<'_>, reference: &str) {
        for (digest, content) in self.contents() {
            target.blob(&digest, &content).await;
        }
        target
            .manifest(reference, self.media_type, self.manifest.clone())
            .await;
    }

    /// Writes the image as an OCI archive, in which it is called `name` (`REGISTRY/REPO:TAG`, all of it).
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write_archive(&self, path: &Path, name: &str) -> Result<()> {
        let top = Top {
            media_type: self.media_type,
            digest: &self.digest,
            len: self.manifest.len(),
        };
        archive::write(path, name, top, self.documents_and_contents())
    }

    fn documents_and_contents(&self) -> impl Iterator<Item = (String, Content)> {
        let manifest = (self.digest.clone(), self.manifest.clone().into());
        self.contents().chain([manifest])
    }
}

/// Several images under one name, one for each platform.
#[derive(Clone, Debug)]
pub struct Index {
    /// The images.
    pub images: Vec<Image>,
    /// The index document.
    pub manifest: Bytes,
    /// Its digest.
    pub digest: String,
    /// Its media type, of the same family as the first image's.
    pub media_type: &'static str,
}

impl Index {
    /// An index over `images`.
    pub fn of(images: Vec<Image>) -> Self {
        let docker = images
            .first()
            .is_some_and(|image| image.media_type == media_type::DOCKER_MANIFEST);
        let media_type = if docker {
            media_type::DOCKER_LIST
        } else {
            media_type::OCI_INDEX
        };
        let descriptor = |image: &Image| -> Value {
            json!({
                "mediaType": image.media_type,
                "size": image.manifest.len(),
                "digest": image.digest,
                "platform": {"architecture": image.architecture, "os": "linux"},
            })
        };
        let manifests: Vec<_> = images.iter().map(descriptor).collect();
        let document = json!({"schemaVersion": 2, "mediaType": media_type, "manifests": manifests});
        let manifest = Bytes::from(document.to_string());
        Self {
            digest: sha256(&manifest),
            images,
            manifest,
            media_type,
        }
    }

    /// Adds the index and its images to a fake registry; returns the index's digest.
    pub fn push_to(&self, registry: &FakeRegistry, repo: &str, tag: &str) -> String {
        for image in &self.images {
            image.push_untagged_to(registry, repo);
        }
        registry.add_manifest(repo, tag, self.media_type, self.manifest.clone())
    }

    /// Uploads the index and its images to a real registry, as [`Image::push_http`] does.
    pub async fn push_http(&self, registry: &str, repo: &str, tag: &str, authorization: Option<&str>) {
        let target = Target {
            registry,
            repo,
            authorization,
        };
        for image in &self.images {
            image.upload(target, &image.digest).await;
        }
        target.manifest(tag, self.media_type, self.manifest.clone()).await;
    }

    /// Writes the index and its images as an OCI archive, as [`Image::write_archive`] does.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn write_archive(&self, path: &Path, name: &str) -> Result<()> {
        let top = Top {
            media_type: self.media_type,
            digest: &self.digest,
            len: self.manifest.len(),
        };
        let index = (self.digest.clone(), self.manifest.clone().into());
        let images = self.images.iter().flat_map(Image::documents_and_contents);
        archive::write(path, name, top, images.chain([index]))
    }
}
