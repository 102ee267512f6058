//! skopeo: containers/image without storage, so that every byte it took can be looked at.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::{MirroredRegistry, hex_digest, registries_conf};
use crate::process::run;

/// skopeo with a configuration of its own.
#[derive(Debug)]
pub struct Skopeo {
    dir: TempDir,
}

impl Skopeo {
    /// A skopeo that knows these registries.
    ///
    /// # Errors
    /// Where its directory cannot be made.
    pub fn new(registries: &[MirroredRegistry]) -> Result<Self> {
        let dir = TempDir::with_prefix("larder-skopeo-")?;
        std::fs::write(dir.path().join("registries.conf"), registries_conf(registries))?;
        std::fs::write(dir.path().join("auth.json"), "{}")?;
        Ok(Self { dir })
    }

    /// Copies this machine's platform of an image, hashes each file anew and returns their digests: the manifest, the
    /// configuration and the layers.
    ///
    /// # Errors
    /// With what skopeo said, and where a file's bytes are not its digest's.
    pub async fn copy(&self, image: &str) -> Result<BTreeSet<String>> {
        self.copy_from(&format!("docker://{image}")).await
    }

    /// The same from any place that skopeo knows, such as `oci-archive:FILE:NAME`.
    ///
    /// # Errors
    /// With what skopeo said, and where a file's bytes are not its digest's.
    pub async fn copy_from(&self, source: &str) -> Result<BTreeSet<String>> {
        let copy = TempDir::new_in(self.dir.path())?;
        self.copy_to(source, &format!("dir:{}", copy.path().display()))
            .await?;
        verified_digests(copy.path())
    }

    /// Copies from one place that skopeo knows to another.
    ///
    /// # Errors
    /// With what skopeo said.
    pub async fn copy_to(&self, source: &str, target: &str) -> Result<()> {
        let mut skopeo = self.skopeo(&["copy", "--insecure-policy", "--preserve-digests"]);
        skopeo.arg(source).arg(target);
        run(skopeo).await.map(drop)
    }

    /// The digest of the manifest or index that a name stands for.
    ///
    /// # Errors
    /// With what skopeo said.
    pub async fn digest(&self, image: &str) -> Result<String> {
        let inspect = self.skopeo(&[
            "inspect",
            "--no-tags",
            "--format",
            "{{.Digest}}",
            &format!("docker://{image}"),
        ]);
        Ok(run(inspect).await?.text())
    }

    fn skopeo(&self, args: &[&str]) -> Command {
        let dir = self.dir.path();
        let mut skopeo = Command::new("skopeo");
        skopeo.arg("--registries-conf").arg(dir.join("registries.conf"));
        skopeo
            .env("REGISTRY_AUTH_FILE", dir.join("auth.json"))
            .env("HOME", dir)
            .args(args);
        skopeo
    }
}

/// Files of a `dir:` copy are named by their digest, except the manifest.
fn verified_digests(copy: &Path) -> Result<BTreeSet<String>> {
    let mut digests = BTreeSet::new();
    for entry in std::fs::read_dir(copy)? {
        let entry = entry?;
        let name = entry
            .file_name()
            .into_string()
            .ok()
            .context("a file name that is not UTF-8")?;
        if name == "version" {
            continue;
        }
        let digest = hex_digest("sha256", &entry.path())?;
        ensure!(
            name == "manifest.json" || name == digest,
            "skopeo holds wrong bytes: {name} is {digest}"
        );
        digests.insert(format!("sha256:{digest}"));
    }
    Ok(digests)
}
