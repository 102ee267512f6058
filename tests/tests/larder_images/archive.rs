//! Reads an OCI archive back: its configuration, and the files that its layers come to.

use std::collections::BTreeMap;
use std::fs;
use std::io::Read as _;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use flate2::read::GzDecoder;
use larder_tests::prelude::*;
use serde_json::Value;

/// What an archive holds.
pub(crate) struct Archive {
    /// The image's name, in `org.opencontainers.image.ref.name`.
    pub(crate) name: String,
    /// The image's configuration.
    pub(crate) config: Value,
    /// The root filesystem by path, without leading or trailing slashes.
    pub(crate) files: BTreeMap<String, Entry>,
}

/// A file or a folder of the image.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) mode: u32,
    /// User and group.
    pub(crate) owner: (u64, u64),
    pub(crate) kind: Kind,
}

/// What an entry is.
#[derive(PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File(Vec<u8>),
}

impl std::fmt::Debug for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder => f.write_str("folder"),
            Self::File(content) => write!(f, "{} bytes, {}", content.len(), sha256(content)),
        }
    }
}

impl Archive {
    /// Reads the one image in the archive at `path`; every digest on the way must be true.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let layout = entries(&fs::read(path)?)?;
        let file = |name: &str| match layout.get(name).map(|entry| &entry.kind) {
            Some(Kind::File(content)) => Ok(content),
            _ => anyhow::bail!("the archive has no {name}"),
        };
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().context("no digest")?;
            let content = file(&format!("blobs/{}", digest.replace(':', "/")))?;
            ensure!(sha256(content) == digest, "a blob is not {digest}");
            ensure!(descriptor["size"] == content.len(), "{digest} has another size");
            Ok(content)
        };
        let version: Value = serde_json::from_slice(file("oci-layout")?)?;
        ensure!(version["imageLayoutVersion"] == "1.0.0", "{version}");
        let index: Value = serde_json::from_slice(file("index.json")?)?;
        let [descriptor] = &index["manifests"].as_array().context("manifests")?[..] else {
            anyhow::bail!("not one image: {index}");
        };
        let manifest: Value = serde_json::from_slice(blob(descriptor)?)?;
        let config: Value = serde_json::from_slice(blob(&manifest["config"])?)?;
        let layers = manifest["layers"].as_array().context("layers")?;
        let diff_ids = config["rootfs"]["diff_ids"].as_array().context("diff_ids")?;
        ensure!(layers.len() == diff_ids.len(), "a diff_id for each layer");
        let mut files = BTreeMap::new();
        for (layer, diff_id) in layers.iter().zip(diff_ids) {
            let mut tar = Vec::new();
            GzDecoder::new(blob(layer)?.as_slice()).read_to_end(&mut tar)?;
            ensure!(*diff_id == sha256(&tar), "a layer is not {diff_id}");
            files.extend(entries(&tar)?);
        }
        let name = &descriptor["annotations"]["org.opencontainers.image.ref.name"];
        Ok(Self {
            name: name.as_str().unwrap_or_default().to_owned(),
            config,
            files,
        })
    }
}

fn entries(tar: &[u8]) -> Result<BTreeMap<String, Entry>> {
    let mut entries = BTreeMap::new();
    for entry in tar::Archive::new(tar).entries()? {
        let mut entry = entry?;
        let path = entry.path()?.to_string_lossy().trim_matches('/').to_owned();
        let header = entry.header();
        let (mode, owner) = (header.mode()? & 0o7777, (header.uid()?, header.gid()?));
        let kind = match header.entry_type() {
            tar::EntryType::Directory => Kind::Folder,
            tar::EntryType::Regular => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content)?;
                Kind::File(content)
            }
            other => anyhow::bail!("{path} is a {other:?}"),
        };
        entries.insert(path, Entry { mode, owner, kind });
    }
    Ok(entries)
}
