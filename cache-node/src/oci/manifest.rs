//! The little that a cache needs to know of a manifest: what it is, and what it names.

use serde::Deserialize;

use super::{Digest, MediaType};

/// The most descriptors remembered of one manifest: a manifest is at most 4 MiB, a descriptor at least 100 bytes.
const DESCRIPTORS_MAX: usize = 40_000;

/// What a manifest says of something that it names (image-spec, descriptor.md).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The content's digest.
    pub digest: Digest,
    /// The content's length in bytes.
    pub size_bytes: u64,
    /// Whether the content is itself a manifest or an index.
    pub is_manifest: bool,
    /// Whether the content is a file system layer: a tar, compressed or not.
    pub is_layer: bool,
    /// Whether it is what the manifest calls its configuration.
    pub is_config: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    config: Option<RawDescriptor>,
    #[serde(default)]
    layers: Vec<RawDescriptor>,
    #[serde(default)]
    manifests: Vec<RawDescriptor>,
    #[serde(default)]
    blobs: Vec<RawDescriptor>,
    signatures: Option<serde::de::IgnoredAny>,
    fs_layers: Option<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RawDescriptor {
    media_type: Option<String>,
    digest: Option<String>,
    size: Option<u64>,
}

/// What `manifest` names. Empty for anything that is not JSON of a known shape: a cache relays what it cannot read.
pub fn descriptors(manifest: &[u8]) -> Vec<Descriptor> {
    let Ok(document) = serde_json::from_slice::<Document>(manifest) else {
        return Vec::new();
    };
    let config = document.config.into_iter().map(|raw| (raw, true, false));
    let blobs = document.layers.into_iter().chain(document.blobs);
    let blobs = blobs.map(|raw| (raw, false, false));
    let manifests = document.manifests.into_iter().map(|raw| (raw, false, true));
    config
        .chain(blobs)
        .chain(manifests)
        .filter_map(|(raw, is_config, is_manifest)| {
            let digest = raw.digest?.parse().ok()?;
            let is_layer = raw.media_type.is_some_and(|media_type| is_layer(&media_type));
            Some(Descriptor {
                digest,
                size_bytes: raw.size?,
                is_manifest,
                is_layer,
                is_config,
            })
        })
        .take(DESCRIPTORS_MAX)
        .collect()
}

/// `application/vnd.docker.image.rootfs.(foreign.)diff.tar…` and `application/vnd.oci.image.layer…v1.tar…`
fn is_layer(media_type: &str) -> bool {
    media_type.contains(".rootfs.") || media_type.starts_with("application/vnd.oci.image.layer.")
}

/// The media type that `manifest` has by its own `mediaType` field, else by its structure; `None` when it is no
/// manifest at all.
pub fn sniff_media_type(manifest: &[u8]) -> Option<MediaType> {
    let document = serde_json::from_slice::<Document>(manifest).ok()?;
    if let Some(media_type) = document
        .media_type
        .and_then(|text| text.parse::<MediaType>().ok())
    {
        return Some(media_type);
    }
    let by_structure = match document.schema_version? {
        1 if document.signatures.is_some() => MediaType::DOCKER_SCHEMA1_SIGNED,
        1 if document.fs_layers.is_some() => MediaType::DOCKER_SCHEMA1,
        2 if document.config.is_some() => MediaType::OCI_MANIFEST,
        2 => MediaType::OCI_INDEX,
        _ => return None,
    };
    by_structure.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn names_config_layers_and_children() {
        let digest = Digest::of(Algorithm::Sha256, b"x");
        let image = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":1}},"layers":[{{"digest":"{digest}","size":2}},{{"size":3}}]}}"#
        );
        let sizes: Vec<_> = descriptors(image.as_bytes())
            .iter()
            .map(|d| (d.size_bytes, d.is_manifest))
            .collect();
        assert_eq!(sizes, [(1, false), (2, false)]);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{{"digest":"{digest}","size":9}}]}}"#);
        assert!(descriptors(index.as_bytes())[0].is_manifest);
        assert!(descriptors(b"<html>").is_empty());
    }

    #[test]
    fn structure_tells_the_type_when_the_field_does_not() {
        let sniff = |text: &str| sniff_media_type(text.as_bytes()).map(|m| m.to_string());
        assert_eq!(
            sniff(r#"{"schemaVersion":2,"config":{}}"#).as_deref(),
            Some(MediaType::OCI_MANIFEST)
        );
        assert_eq!(
            sniff(r#"{"schemaVersion":2,"manifests":[]}"#).as_deref(),
            Some(MediaType::OCI_INDEX)
        );
        assert_eq!(
            sniff(r#"{"schemaVersion":1,"signatures":[]}"#).as_deref(),
            Some(MediaType::DOCKER_SCHEMA1_SIGNED)
        );
        assert_eq!(sniff(r#"{"errors":[]}"#), None);
        assert_eq!(sniff("<html>"), None);
    }
}
