//! Media types as clients compare them: without parameters, and exactly.

use std::fmt;
use std::str::FromStr;

/// A media type without parameters: some clients compare `Content-Type` exactly, so `; charset=` breaks them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MediaType(Box<str>);

/// The string is no `type/subtype` of printable ASCII.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a media type")]
pub struct ParseMediaTypeError;

const MEDIA_TYPE_BYTES_MAX: usize = 255;

impl MediaType {
    /// `application/vnd.oci.image.index.v1+json`
    pub const OCI_INDEX: &'static str = "application/vnd.oci.image.index.v1+json";
    /// `application/vnd.oci.image.manifest.v1+json`
    pub const OCI_MANIFEST: &'static str = "application/vnd.oci.image.manifest.v1+json";
    /// `application/vnd.docker.distribution.manifest.list.v2+json`
    pub const DOCKER_LIST: &'static str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// `application/vnd.docker.distribution.manifest.v2+json`
    pub const DOCKER_MANIFEST: &'static str = "application/vnd.docker.distribution.manifest.v2+json";
    /// `application/vnd.docker.distribution.manifest.v1+prettyjws`: schema 1, never to become a tag's meaning.
    pub const DOCKER_SCHEMA1_SIGNED: &'static str =
        "application/vnd.docker.distribution.manifest.v1+prettyjws";
    /// `application/vnd.docker.distribution.manifest.v1+json`: schema 1 without signatures.
    pub const DOCKER_SCHEMA1: &'static str = "application/vnd.docker.distribution.manifest.v1+json";

    /// The type of an image index, and of a list of referrers.
    pub fn oci_index() -> Self {
        Self(Self::OCI_INDEX.into())
    }

    /// The type as a string.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this names an image manifest or an index that present-day clients accept.
    pub fn is_manifest(&self) -> bool {
        [
            Self::OCI_INDEX,
            Self::OCI_MANIFEST,
            Self::DOCKER_LIST,
            Self::DOCKER_MANIFEST,
        ]
        .contains(&self.as_str())
    }

    /// Whether this is one of Docker's first schema's types.
    pub fn is_schema1(&self) -> bool {
        [Self::DOCKER_SCHEMA1, Self::DOCKER_SCHEMA1_SIGNED].contains(&self.as_str())
    }
}

impl FromStr for MediaType {
    type Err = ParseMediaTypeError;

    /// Parameters are cut off, the rest is lower-cased (RFC 9110, 8.3.1: types are case-insensitive).
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let essence = text.split(';').next().unwrap_or_default().trim();
        let is_token = |part: &str| {
            !part.is_empty()
                && part
                    .bytes()
                    .all(|c| c.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&c))
        };
        match essence.split_once('/') {
            Some((kind, subtype))
                if is_token(kind) && is_token(subtype) && essence.len() <= MEDIA_TYPE_BYTES_MAX =>
            {
                Ok(Self(essence.to_ascii_lowercase().into()))
            }
            _ => Err(ParseMediaTypeError),
        }
    }
}

impl fmt::Display for MediaType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_and_case_are_dropped() {
        let parsed = "Application/vnd.OCI.image.index.v1+json; charset=utf-8".parse::<MediaType>();
        assert_eq!(parsed.as_ref().map(MediaType::as_str), Ok(MediaType::OCI_INDEX));
        for text in ["", "json", "/", "a/", "a/b c", "a/b\r\nX: y"] {
            assert_eq!(text.parse::<MediaType>(), Err(ParseMediaTypeError), "{text:?}");
        }
    }
}
