//! podman, whose library (containers/image) CRI-O shares: mirrors come from `registries.conf` and no `ns` is ever sent.

use std::process::Command;

use anyhow::{Context as _, Result};
use tempfile::TempDir;

use super::{MirroredRegistry, registries_conf};
use crate::process::run;

/// podman with image storage and configuration of its own.
#[derive(Debug)]
pub struct Podman {
    dir: TempDir,
}

impl Podman {
    /// An empty podman that knows these registries.
    ///
    /// # Errors
    /// Where its directory cannot be made.
    pub fn new(registries: &[MirroredRegistry]) -> Result<Self> {
        let dir = TempDir::with_prefix("larder-podman-")?;
        std::fs::write(dir.path().join("registries.conf"), registries_conf(registries))?;
        std::fs::write(
            dir.path().join("policy.json"),
            r#"{"default":[{"type":"insecureAcceptAnything"}]}"#,
        )?;
        std::fs::write(dir.path().join("auth.json"), "{}")?;
        Ok(Self { dir })
    }

    /// Pulls this machine's platform of an image.
    ///
    /// # Errors
    /// With what podman said.
    pub async fn pull(&self, image: &str) -> Result<()> {
        let mut podman = self.podman(&["pull", "--signature-policy"]);
        podman.arg(self.dir.path().join("policy.json")).arg(image);
        run(podman).await.map(drop)
    }

    /// The digest of a pulled image's manifest or index.
    ///
    /// # Errors
    /// Where podman has no such image.
    pub async fn digest_of(&self, image: &str) -> Result<String> {
        let name = run(self.podman(&["image", "inspect", "--format", "{{index .RepoDigests 0}}", image]))
            .await?
            .text();
        let (_, digest) = name.split_once('@').context("podman names no digest")?;
        Ok(digest.to_owned())
    }

    /// Forgets every image and its layers.
    ///
    /// # Errors
    /// With what podman said.
    pub async fn remove_images(&self) -> Result<()> {
        run(self.podman(&["image", "rm", "--all", "--force"]))
            .await
            .map(drop)
    }

    fn podman(&self, args: &[&str]) -> Command {
        let dir = self.dir.path();
        let mut podman = Command::new("podman");
        podman
            .arg("--root")
            .arg(dir.join("root"))
            .arg("--runroot")
            .arg(dir.join("run"));
        podman.arg("--tmpdir").arg(dir.join("libpod"));
        podman.args([
            "--storage-driver",
            "vfs",
            "--cgroup-manager",
            "cgroupfs",
            "--events-backend",
            "none",
        ]);
        podman.env("CONTAINERS_REGISTRIES_CONF", dir.join("registries.conf"));
        podman
            .env("REGISTRY_AUTH_FILE", dir.join("auth.json"))
            .env("HOME", dir)
            .env("TMPDIR", dir);
        podman.args(args);
        podman
    }
}
