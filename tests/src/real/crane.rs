//! crane (go-containerregistry), the strictest reader of registry answers, and the way to push test images.
//!
//! It speaks plain HTTP to loopback addresses without being told.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::tool;
use crate::process::run;

/// crane with a credentials file of its own.
#[derive(Debug)]
pub struct Crane {
    home: TempDir,
}

impl Crane {
    /// A crane without credentials.
    ///
    /// # Errors
    /// Where its directory cannot be made.
    pub fn new() -> Result<Self> {
        Ok(Self {
            home: TempDir::with_prefix("larder-crane-")?,
        })
    }

    /// A crane that has credentials for one registry (`host:port`).
    ///
    /// # Errors
    /// Where its directory cannot be made.
    pub fn logged_in(host: &str, user: &str, password: &str) -> Result<Self> {
        let this = Self::new()?;
        let auth = STANDARD.encode(format!("{user}:{password}"));
        let config = json!({ "auths": { host: { "auth": auth } } });
        std::fs::write(this.home.path().join("config.json"), config.to_string())?;
        Ok(this)
    }

    /// Pushes an image of these layers (tar files, gzipped or not) and returns its digest.
    ///
    /// # Errors
    /// With what crane said.
    pub async fn append(&self, layers: &[&Path], reference: &str) -> Result<String> {
        let mut crane = self.crane(&["append", "--new_tag", reference])?;
        for layer in layers {
            crane.arg("--new_layer").arg(layer);
        }
        let pushed = run(crane).await?.text();
        Ok(pushed
            .rsplit_once('@')
            .map_or(pushed.as_str(), |(_, digest)| digest)
            .to_owned())
    }

    /// Pushes an OCI layout directory as it is, index included.
    ///
    /// # Errors
    /// With what crane said.
    pub async fn push(&self, layout: &Path, reference: &str) -> Result<()> {
        let mut crane = self.crane(&["push", "--index"])?;
        crane.arg(layout).arg(reference);
        run(crane).await.map(drop)
    }

    /// Pulls an image or index, all its platforms, into a new OCI layout directory.
    ///
    /// # Errors
    /// With what crane said.
    pub async fn pull(&self, reference: &str, layout: &Path) -> Result<()> {
        let mut crane = self.crane(&["pull", "--format", "oci", reference])?;
        crane.arg(layout);
        run(crane).await.map(drop)
    }

    /// The digest of a tag, asked with HEAD.
    ///
    /// # Errors
    /// With what crane said.
    pub async fn digest(&self, reference: &str) -> Result<String> {
        Ok(run(self.crane(&["digest", reference])?).await?.text())
    }

    /// The manifest or index.
    ///
    /// # Errors
    /// With what crane said, and where it is no JSON.
    pub async fn manifest(&self, reference: &str) -> Result<Value> {
        Ok(serde_json::from_slice(
            &run(self.crane(&["manifest", reference])?).await?.stdout,
        )?)
    }

    /// The bytes of one blob (`repository@sha256:…`).
    ///
    /// # Errors
    /// With what crane said.
    pub async fn blob(&self, reference: &str) -> Result<Vec<u8>> {
        Ok(run(self.crane(&["blob", reference])?).await?.stdout)
    }

    /// The tags of a repository.
    ///
    /// # Errors
    /// With what crane said.
    pub async fn tags(&self, repository: &str) -> Result<Vec<String>> {
        let list = run(self.crane(&["ls", repository])?).await?.text();
        Ok(list.lines().map(str::to_owned).collect())
    }

    /// Downloads everything and checks each digest, size and layer.
    ///
    /// # Errors
    /// With what crane found wrong.
    pub async fn validate(&self, reference: &str) -> Result<()> {
        run(self.crane(&["validate", "--remote", reference])?)
            .await
            .map(drop)
    }

    fn crane(&self, args: &[&str]) -> Result<Command> {
        let mut crane = Command::new(tool("crane", "crane")?);
        crane
            .env("DOCKER_CONFIG", self.home.path())
            .env("HOME", self.home.path())
            .args(args);
        Ok(crane)
    }
}
