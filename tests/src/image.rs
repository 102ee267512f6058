//! Builds small images, deterministic to the byte, and pushes them to a fake or a real registry.

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use crate::client::{Answer, Call};
use crate::digest::sha256;
use crate::fake_registry::FakeRegistry;

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
    /// Docker schema 2 manifest.
    pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// Docker manifest list.
    pub const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// Docker image configuration.
    pub const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// Docker layer, tar and gzip.
    pub const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
}

/// A layer: a tar of files, compressed.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The compressed bytes.
    pub bytes: Bytes,
    /// Their digest.
    pub digest: String,
    /// Digest of the tar itself.
    pub diff_id: String,
}

/// An empty tar as docker compresses it: 32 bytes that are in half of the world's images.
const EMPTY_GZIPPED_TAR: [u8; 32] = [
    31, 139, 8, 0, 0, 9, 110, 136, 0, 255, 98, 24, 5, 163, 96, 20, 140, 88, 0, 8, 0, 0, 255, 255, 46, 175,
    181, 239, 0, 4, 0, 0,
];

/// Length in bytes of a tar without files.
const EMPTY_TAR_BYTES: usize = 1024;

impl Layer {
    /// Docker's layer without files.
    pub fn empty() -> Self {
        let bytes = Bytes::from_static(&EMPTY_GZIPPED_TAR);
        Self {
            digest: sha256(&bytes),
            diff_id: sha256(&[0; EMPTY_TAR_BYTES]),
            bytes,
        }
    }

    /// A layer with these files (path, content), all of mode 0644 and time 0.
    pub fn of_files(files: &[(&str, &[u8])]) -> Self {
        let mut tar = tar::Builder::new(Vec::new());
        for (path, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            header.set_mtime(0);
            tar.append_data(&mut header, path, *content)
                .expect("append to a tar in memory");
        }
        let tar = tar.into_inner().expect("end a tar in memory");
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        std::io::Write::write_all(&mut gzip, &tar).expect("compress in memory");
        let bytes = Bytes::from(gzip.finish().expect("compress in memory"));
        Self {
            digest: sha256(&bytes),
            diff_id: sha256(&tar),
            bytes,
        }
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

/// Collects what an image is made of.
pub struct ImageBuilder {
    layers: Vec<Layer>,
    docker: bool,
    architecture: String,
}

impl Default for ImageBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl ImageBuilder {
    /// An OCI image for linux/amd64 without layers.
    pub fn new() -> Self {
        Self {
            layers: Vec::new(),
            docker: false,
            architecture: "amd64".to_owned(),
        }
    }

    /// Docker's media types in place of OCI's.
    pub fn docker(mut self) -> Self {
        self.docker = true;
        self
    }

    /// The architecture, in Go's words.
    pub fn architecture(mut self, architecture: &str) -> Self {
        architecture.clone_into(&mut self.architecture);
        self
    }

    /// Adds a layer with these files.
    pub fn layer(mut self, files: &[(&str, &[u8])]) -> Self {
        self.layers.push(Layer::of_files(files));
        self
    }

    /// Adds docker's layer without files, of 32 bytes.
    pub fn empty_layer(mut self) -> Self {
        self.layers.push(Layer::empty());
        self
    }

    /// Adds a layer with one incompressible file of `len` bytes, the same for the same `seed`.
    pub fn random_layer(self, seed: u64, len: usize) -> Self {
        let content = crate::digest::seeded(seed, len);
        self.layer(&[(&format!("data/{seed}"), content.as_ref())])
    }

    /// The image.
    pub fn build(self) -> Image {
        use media_type::{DOCKER_CONFIG, DOCKER_LAYER, DOCKER_MANIFEST, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST};
        let (media_type, config_type, layer_type) = if self.docker {
            (DOCKER_MANIFEST, DOCKER_CONFIG, DOCKER_LAYER)
        } else {
            (OCI_MANIFEST, OCI_CONFIG, OCI_LAYER)
        };
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| &layer.diff_id).collect();
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": {},
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = Bytes::from(config.to_string());
        let config_digest = sha256(&config);
        let layers: Vec<_> = self
            .layers
            .iter()
            .map(|layer| json!({"mediaType": layer_type, "size": layer.bytes.len(), "digest": layer.digest}))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type,
            "config": {"mediaType": config_type, "size": config.len(), "digest": config_digest},
            "layers": layers,
        });
        let manifest = Bytes::from(manifest.to_string());
        Image {
            digest: sha256(&manifest),
            layers: self.layers,
            architecture: self.architecture,
            config,
            config_digest,
            manifest,
            media_type,
        }
    }
}

impl Image {
    /// Config and layers with their digests, in the manifest's order.
    pub fn blobs(&self) -> Vec<(String, Bytes)> {
        let layers = self
            .layers
            .iter()
            .map(|layer| (layer.digest.clone(), layer.bytes.clone()));
        std::iter::once((self.config_digest.clone(), self.config.clone()))
            .chain(layers)
            .collect()
    }

    /// Adds the image to a fake registry under a tag; returns the manifest's digest.
    pub fn push_to(&self, registry: &FakeRegistry, repo: &str, tag: &str) -> String {
        self.push_untagged_to(registry, repo);
        registry.tag(repo, tag, &self.digest);
        self.digest.clone()
    }

    fn push_untagged_to(&self, registry: &FakeRegistry, repo: &str) {
        for (digest, bytes) in self.blobs() {
            registry.add_blob_under(repo, &digest, bytes);
        }
        registry.add_manifest_under(repo, &self.digest, self.media_type, self.manifest.clone());
    }

    /// Uploads the image to a real registry (`http://HOST:PORT`); `reference` is a tag or the manifest's digest.
    /// `authorization` is a whole header value. Panics when the registry refuses.
    pub async fn push_http(&self, registry: &str, repo: &str, reference: &str, authorization: Option<&str>) {
        for (digest, bytes) in self.blobs() {
            upload_blob(registry, repo, &digest, bytes, authorization).await;
        }
        upload_manifest(
            registry,
            repo,
            reference,
            self.media_type,
            self.manifest.clone(),
            authorization,
        )
        .await;
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
        for image in &self.images {
            image
                .push_http(registry, repo, &image.digest, authorization)
                .await;
        }
        upload_manifest(
            registry,
            repo,
            tag,
            self.media_type,
            self.manifest.clone(),
            authorization,
        )
        .await;
    }
}

async fn upload_blob(registry: &str, repo: &str, digest: &str, bytes: Bytes, authorization: Option<&str>) {
    let start = Call::new("POST", &format!("{registry}/v2/{repo}/blobs/uploads/"));
    let started = expect(202, send(start, authorization).await, "start an upload");
    let location = started
        .header("Location")
        .expect("an upload has a Location")
        .to_owned();
    let location = if location.starts_with('/') {
        format!("{registry}{location}")
    } else {
        location
    };
    let joint = if location.contains('?') { '&' } else { '?' };
    let put = Call::new("PUT", &format!("{location}{joint}digest={digest}"))
        .header("Content-Type", "application/octet-stream")
        .body(bytes);
    expect(201, send(put, authorization).await, "upload a blob");
}

async fn upload_manifest(
    registry: &str,
    repo: &str,
    reference: &str,
    media_type: &str,
    bytes: Bytes,
    authorization: Option<&str>,
) {
    let put = Call::new("PUT", &format!("{registry}/v2/{repo}/manifests/{reference}"))
        .header("Content-Type", media_type)
        .body(bytes);
    expect(201, send(put, authorization).await, "upload a manifest");
}

async fn send(call: Call, authorization: Option<&str>) -> Answer {
    match authorization {
        Some(value) => call.header("Authorization", value).send().await,
        None => call.send().await,
    }
}

fn expect(status: u16, answer: Answer, what: &str) -> Answer {
    assert_eq!(answer.status, status, "{what}: {}", answer.text());
    answer
}
