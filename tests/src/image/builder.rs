//! Collects what an image is made of.

use std::path::Path;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::layer::{Entry, Layer, Packing};
use super::{Image, media_type};
use crate::digest::sha256;
use crate::scripted::{Content, VirtualBlob};

/// Collects what an image is made of.
pub struct ImageBuilder {
    layers: Vec<Layer>,
    packing: Packing,
    docker: bool,
    architecture: String,
    config: Map<String, Value>,
    env: Vec<String>,
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
            packing: Packing::Gzip,
            docker: false,
            architecture: "amd64".to_owned(),
            config: Map::new(),
            env: Vec::new(),
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

    /// Layers added from here on are plain tars.
    pub fn uncompressed(mut self) -> Self {
        self.packing = Packing::Tar;
        self
    }

    /// Adds a layer with these files, of mode 0644.
    pub fn layer(mut self, files: &[(&str, &[u8])]) -> Self {
        self.layers.push(Layer::of_plain(self.packing, files));
        self
    }

    /// Adds docker's layer without files, of 32 bytes.
    pub fn empty_layer(mut self) -> Self {
        self.layers.push(Layer::empty());
        self
    }

    /// Adds a layer with one incompressible file of `len` bytes, the same for the same `seed`. It is streamed to a
    /// temporary file, so that a gigabyte takes no memory.
    pub fn random_layer(self, seed: u64, len: usize) -> Self {
        let content = Content::Virtual(VirtualBlob::new(seed, len as u64));
        self.file_layer(&format!("data/{seed}"), 0o644, content)
    }

    /// Adds a layer with the static program at `source` on this machine as `path`, of mode 0755.
    pub fn program(self, path: &str, source: &Path) -> Self {
        let content = Content::open(source).unwrap_or_else(|error| panic!("{}: {error}", source.display()));
        self.file_layer(path, 0o755, content)
    }

    /// Adds a layer of this tar.
    pub fn tar_layer(mut self, tar: &[u8]) -> Self {
        self.layers.push(Layer::of_tar(tar));
        self
    }

    fn file_layer(mut self, path: &str, mode: u32, content: Content) -> Self {
        let entry = Entry { path, mode, content };
        self.layers.push(Layer::pack(self.packing, [entry]));
        self
    }

    /// What a container runs, unless its pod says otherwise.
    pub fn entrypoint(self, words: &[&str]) -> Self {
        self.config("Entrypoint", json!(words))
    }

    /// The entry point's arguments, unless the pod says otherwise.
    pub fn cmd(self, words: &[&str]) -> Self {
        self.config("Cmd", json!(words))
    }

    /// One more variable of the environment.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push(format!("{name}={value}"));
        let env = json!(self.env);
        self.config("Env", env)
    }

    /// `user`, `uid`, `user:group` or `uid:gid`. Kubernetes' `runAsNonRoot` wants numbers.
    pub fn user(self, user: &str) -> Self {
        self.config("User", json!(user))
    }

    /// All that containers of the image go by: the object `config` of the OCI image configuration.
    pub fn container_config(mut self, config: Map<String, Value>) -> Self {
        self.config = config;
        self
    }

    fn config(mut self, key: &str, value: Value) -> Self {
        self.config.insert(key.to_owned(), value);
        self
    }

    /// The image.
    pub fn build(self) -> Image {
        let (media_type, config_type) = if self.docker {
            (media_type::DOCKER_MANIFEST, media_type::DOCKER_CONFIG)
        } else {
            (media_type::OCI_MANIFEST, media_type::OCI_CONFIG)
        };
        let diff_ids: Vec<_> = self.layers.iter().map(|layer| &layer.diff_id).collect();
        let config = json!({
            "architecture": self.architecture,
            "os": "linux",
            "config": self.config,
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = Bytes::from(config.to_string());
        let config_digest = sha256(&config);
        let descriptor = |layer: &Layer| {
            json!({
                "mediaType": layer.media_type(self.docker),
                "size": layer.content.len(),
                "digest": layer.digest,
            })
        };
        let layers: Vec<_> = self.layers.iter().map(descriptor).collect();
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
