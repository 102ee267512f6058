//! OCI archives: an image layout in a tar, which `ctr images import`, podman and skopeo read.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde_json::json;

use crate::scripted::Content;

/// The manifest or index that an archive is about.
pub(super) struct Top<'a> {
    pub(super) media_type: &'a str,
    pub(super) digest: &'a str,
    pub(super) len: usize,
}

/// Writes an archive at `path` that gives `top` the name `name`. `blobs` are all that it refers to, and itself.
pub(super) fn write(
    path: &Path,
    name: &str,
    top: Top<'_>,
    blobs: impl IntoIterator<Item = (String, Content)>,
) -> Result<()> {
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": top.media_type,
            "digest": top.digest,
            "size": top.len,
            "annotations": {
                // The first is what containerd goes by, the second what others do.
                "io.containerd.image.name": name,
                "org.opencontainers.image.ref.name": name,
            },
        }],
    });
    let file = File::create(path).with_context(|| path.display().to_string())?;
    let mut tar = tar::Builder::new(file);
    let mut append = |path: String, content: Content| {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len());
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        let reader: &mut dyn Read = &mut content.reader();
        tar.append_data(&mut header, path, reader)
    };
    append(
        "oci-layout".to_owned(),
        r#"{"imageLayoutVersion":"1.0.0"}"#.into(),
    )?;
    append("index.json".to_owned(), index.to_string().into())?;
    // Layers that are the same are one file.
    for (digest, content) in blobs.into_iter().collect::<BTreeMap<_, _>>() {
        append(format!("blobs/{}", digest.replace(':', "/")), content)?;
    }
    tar.into_inner()?;
    Ok(())
}
