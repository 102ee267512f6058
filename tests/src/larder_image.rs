//! Larder's own images, made without Docker. Each image has one description, the `Dockerfile` that releases are
//! built from; this follows it over the same staged files, and the outcome is an OCI archive that any runtime can
//! load. The same programs give the same bytes, wherever and whenever they are put together.

mod dockerfile;
mod layer;
mod root;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::image::{ImageBuilder, architecture};
use crate::static_program;
use dockerfile::Dockerfile;

/// Where released images live.
const REPOSITORY: &str = "ghcr.io/larder-dev";

/// The version that every crate of the workspace has.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// One of Larder's images, for this machine's architecture.
#[derive(Clone, Debug)]
pub struct LarderImage {
    /// The program inside, which is also the last part of the image's name.
    program: &'static str,
    binary: PathBuf,
    dockerfile: &'static str,
}

impl LarderImage {
    /// The cache node's. Panics when the static program has not been built.
    pub fn cache_node() -> Self {
        Self {
            program: "cache-node",
            binary: static_program::cache_node(),
            dockerfile: include_str!("../../cache-node/Dockerfile"),
        }
    }

    /// The operator's. Panics when the static program has not been built.
    pub fn operator() -> Self {
        Self {
            program: "operator",
            binary: static_program::operator(),
            dockerfile: include_str!("../../operator/Dockerfile"),
        }
    }

    /// The name that the image has once it is loaded, for example `ghcr.io/larder-dev/cache-node:0.1.0`.
    pub fn reference(&self) -> String {
        format!("{REPOSITORY}/{}:{VERSION}", self.program)
    }

    /// Puts the files that the `Dockerfile` copies into `context`, below a folder named as the architecture.
    ///
    /// # Errors
    /// When they cannot be read or written.
    pub fn stage(&self, context: &Path) -> Result<()> {
        let root = context.join(architecture());
        root::stage(&root, &self.binary).with_context(|| format!("stage {}", root.display()))
    }

    /// Stages the files in `dir/PROGRAM` and writes the archive beside that folder; returns the archive's path.
    ///
    /// # Errors
    /// When the `Dockerfile` says what this cannot follow, or files cannot be read or written.
    pub fn build(&self, dir: &Path) -> Result<PathBuf> {
        let architecture = architecture();
        let context = dir.join(self.program);
        self.stage(&context)?;
        let arguments = [("TARGETARCH", architecture), ("VERSION", VERSION)];
        let dockerfile = Dockerfile::parse(self.dockerfile, &arguments)
            .with_context(|| format!("the Dockerfile of {}", self.program))?;
        let layer = layer::tar_of(&dockerfile.copies, &context)?;
        let image = ImageBuilder::new()
            .architecture(architecture)
            .container_config(dockerfile.config())
            .tar_layer(&layer)
            .build();
        let path = dir.join(format!("larder-{}-{VERSION}-{architecture}.tar", self.program));
        image.write_archive(&path, &self.reference())?;
        Ok(path)
    }
}
