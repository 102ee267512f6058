//! What an `index.json` says: which images a layout has and what they are called (image-spec, image-layout.md and
//! annotations.md).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::config::{DOCKER_HUB, canonical_host};
use crate::oci::{Digest, MediaType, RepoName, Tag};
use crate::tags;

/// What `oci-layout` says.
pub(super) const LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const LAYOUT_VERSION: &str = "1.0.0";
/// The name by which most programs go.
const REF_NAME: &str = "org.opencontainers.image.ref.name";
/// The name by which containerd goes; whoever has it keeps only the tag in [`REF_NAME`].
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// When the registry was last asked what the name means.
const CHECKED_AT: &str = "dev.larder.checked-at";
/// Whether everybody may have the image.
const IS_PUBLIC: &str = "dev.larder.public";

/// The whole name of an image: registry, repository and, unless it was named by digest, tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ImageName {
    pub(super) registry: String,
    pub(super) repository: RepoName,
    pub(super) tag: Option<Tag>,
}

/// An image of a layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) media_type: MediaType,
    pub(super) digest: Digest,
    /// The manifest's length in bytes.
    pub(super) size: u64,
    pub(super) name: Option<ImageName>,
    /// In milliseconds since the epoch.
    pub(super) checked_at: Option<u64>,
    pub(super) is_public: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: u32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    media_type: Option<String>,
    manifests: Vec<Descriptor>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: String,
    size: u64,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    annotations: BTreeMap<String, String>,
}

impl FromStr for ImageName {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const MALFORMED: &str = "is not the whole name of an image, such as docker.io/library/alpine:3.20";
        let text = text.split_once('@').map_or(text, |(name, _)| name);
        let (host, path) = text.split_once('/').ok_or(MALFORMED)?;
        if !host.contains(['.', ':']) && host != "localhost" {
            return Err(MALFORMED);
        }
        let registry = canonical_host(host).map_err(|_| MALFORMED)?;
        let (path, tag) = match path.split_once(':') {
            Some((path, tag)) => (path, Some(tag.parse().map_err(|_| MALFORMED)?)),
            None => (path, None),
        };
        let repository = if registry == DOCKER_HUB && !path.contains('/') {
            format!("library/{path}").parse()
        } else {
            path.parse()
        };
        Ok(Self {
            registry,
            repository: repository.map_err(|_| MALFORMED)?,
            tag,
        })
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match &self.tag {
            Some(tag) => write!(f, ":{tag}"),
            None => Ok(()),
        }
    }
}

/// Whether this is an `oci-layout` of the version that we know.
pub(super) fn check_layout(text: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Layout {
        image_layout_version: String,
    }
    let layout: Layout = serde_json::from_slice(text).map_err(|error| format!("oci-layout: {error}"))?;
    match layout.image_layout_version.as_str() {
        LAYOUT_VERSION => Ok(()),
        other => Err(format!("oci-layout: version {other:?} is not {LAYOUT_VERSION}")),
    }
}

/// The images that an `index.json` names. The error says which part of it makes no sense.
pub(super) fn parse(text: &[u8]) -> Result<Vec<Image>, String> {
    let document: Document = serde_json::from_slice(text).map_err(|error| format!("index.json: {error}"))?;
    if document.schema_version != 2 {
        return Err("index.json: schemaVersion is not 2".to_owned());
    }
    let images = document.manifests.into_iter().enumerate();
    let images = images.map(|(at, descriptor)| {
        let wrong = |what: String| format!("index.json: manifests[{at}]: {what}");
        descriptor.parse().map_err(wrong)
    });
    images.collect()
}

impl Descriptor {
    fn parse(self) -> Result<Image, String> {
        let media_type: MediaType = self
            .media_type
            .parse()
            .map_err(|error| format!("mediaType: {error}"))?;
        if !media_type.is_manifest() {
            return Err(format!("{media_type} is no type of image manifests or indexes"));
        }
        let digest = self.digest.parse().map_err(|error| format!("digest: {error}"))?;
        let annotation = |key: &str| self.annotations.get(key);
        let name = annotation(CONTAINERD_NAME).or_else(|| annotation(REF_NAME));
        let name = name.map(|text| text.parse().map_err(|error| format!("{text:?} {error}")));
        let checked_at = annotation(CHECKED_AT).map(|text| {
            let time = text.parse::<Timestamp>().ok();
            let time = time.and_then(|time| u64::try_from(time.as_millisecond()).ok());
            time.ok_or_else(|| format!("{CHECKED_AT}: {text:?} is no time"))
        });
        Ok(Image {
            media_type,
            digest,
            size: self.size,
            name: name.transpose()?,
            checked_at: checked_at.transpose()?,
            is_public: annotation(IS_PUBLIC).is_some_and(|text| text == "true"),
        })
    }

    fn new(image: &Image) -> Self {
        let mut annotations = BTreeMap::new();
        if let Some(name) = &image.name {
            annotations.insert(REF_NAME.to_owned(), name.to_string());
            annotations.insert(CONTAINERD_NAME.to_owned(), name.to_string());
            annotations.insert(IS_PUBLIC.to_owned(), image.is_public.to_string());
        }
        let checked_at = image.checked_at.and_then(|time| i64::try_from(time).ok());
        if let Some(time) = checked_at.and_then(|time| Timestamp::from_millisecond(time).ok()) {
            annotations.insert(CHECKED_AT.to_owned(), time.to_string());
        }
        Self {
            media_type: image.media_type.to_string(),
            digest: image.digest.to_string(),
            size: image.size,
            annotations,
        }
    }
}

/// The `index.json` of these images.
pub(super) fn render(images: &[Image]) -> serde_json::Result<Vec<u8>> {
    serde_json::to_vec(&Document {
        schema_version: 2,
        media_type: Some(MediaType::OCI_INDEX.to_owned()),
        manifests: images.iter().map(Descriptor::new).collect(),
    })
}

impl Image {
    /// When the name was last checked, as far as this node may believe it: not in its own future. A layout that does
    /// not say so was checked by whoever imports it.
    pub(super) fn believed_checked_at(&self) -> u64 {
        let now = tags::now_ms();
        self.checked_at.unwrap_or(now).min(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;
    use proptest::prelude::*;

    fn name() -> impl Strategy<Value = ImageName> {
        let names = (
            "([a-z]{1,8}\\.[a-z]{2,5}(:[1-9][0-9]{1,3})?|localhost)",
            "[a-z0-9]{1,8}(/[a-z0-9]{1,8}(-[a-z0-9]{1,4})?){1,3}",
            prop::option::of("[a-zA-Z0-9_][a-zA-Z0-9._-]{0,20}"),
        );
        names.prop_map(|(registry, repository, tag)| ImageName {
            registry,
            repository: repository.parse().unwrap(),
            tag: tag.map(|tag| tag.parse().unwrap()),
        })
    }

    fn image() -> impl Strategy<Value = Image> {
        let times = prop::option::of(0..4_000_000_000_000_u64);
        let types = prop::sample::select(vec![
            MediaType::OCI_INDEX,
            MediaType::OCI_MANIFEST,
            MediaType::DOCKER_LIST,
            MediaType::DOCKER_MANIFEST,
        ]);
        let parts = (
            types,
            any::<Vec<u8>>(),
            any::<u64>(),
            prop::option::of(name()),
            times,
            any::<bool>(),
        );
        parts.prop_map(|(media_type, content, size, name, checked_at, is_public)| Image {
            media_type: media_type.parse().unwrap(),
            digest: Digest::of(Algorithm::Sha512, &content),
            size,
            is_public: is_public && name.is_some(),
            name,
            checked_at,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(images in prop::collection::vec(image(), 0..4)) {
            prop_assert_eq!(parse(&render(&images).unwrap()), Ok(images));
        }

        #[test]
        fn nothing_makes_it_panic(text: Vec<u8>, key: String, value: String, name: String) {
            let _ = parse(&text);
            let _ = name.parse::<ImageName>();
            let annotated = serde_json::json!({"schemaVersion": 2, "manifests": [{
                "mediaType": MediaType::OCI_INDEX, "size": 1,
                "digest": Digest::of(Algorithm::Sha256, &text).to_string(),
                "annotations": {key: value, REF_NAME: name},
            }]});
            let _ = parse(annotated.to_string().as_bytes());
        }
    }

    #[test]
    fn names_of_other_programs_are_understood() {
        let name = |text: &str| text.parse::<ImageName>().map(|name| name.to_string());
        assert_eq!(
            name("index.docker.io/alpine:3"),
            Ok("docker.io/library/alpine:3".into())
        );
        assert_eq!(name("127.0.0.1:5000/a/b:v1"), Ok("127.0.0.1:5000/a/b:v1".into()));
        assert_eq!(name("quay.io/a/b@sha256:00"), Ok("quay.io/a/b".into()));
        for text in [
            "3.20",
            "latest",
            "alpine:3",
            "library/alpine:3",
            "quay.io/",
            "quay.io/A:1",
            "q.io/a:b:c",
        ] {
            assert!(name(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_index_is_refused() {
        for (text, word) in [
            ("", "index.json"),
            ("[]", "index.json"),
            (r#"{"schemaVersion":1,"manifests":[]}"#, "schemaVersion"),
            (
                r#"{"schemaVersion":2,"manifests":[{"mediaType":"text/html","digest":"","size":1}]}"#,
                "manifests[0]: text/html",
            ),
        ] {
            let error = parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }
}
