//! Whether what upstream sent as a manifest may be kept and passed on. Pure.

use crate::oci::{Algorithm, Digest, sniff_media_type};
use crate::store::{self, Manifest};
use crate::upstream;

/// Why an answer is no manifest that we pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Rejection {
    /// The bytes have another digest than was asked for, or than upstream itself says.
    #[error("the bytes do not have their digest")]
    Mismatch,
    /// The bytes are no manifest, or none within the size limit.
    #[error("the bytes are no manifest")]
    NoManifest,
    /// A tag whose only content is of Docker's first schema. Kept out of the ledger: another Accept, another answer.
    #[error("only a manifest of Docker's first schema")]
    Schema1,
}

/// Accepts an answer to a request for `wanted`, or for a tag when there is none.
pub(super) fn accept(wanted: Option<&Digest>, answer: upstream::Manifest) -> Result<Manifest, Rejection> {
    let upstream::Manifest {
        digest_header,
        media_type,
        body,
        ..
    } = answer;
    if body.is_empty() || body.len() as u64 > store::MANIFEST_BYTES_MAX {
        return Err(Rejection::NoManifest);
    }
    // A header of another algorithm than asked for is no contradiction: distribution names sha512 content by sha256.
    let claimed = wanted.copied().or(digest_header);
    let digest = Digest::of(
        claimed.map_or(Algorithm::Sha256, |digest| digest.algorithm()),
        &body,
    );
    if claimed.is_some_and(|claimed| claimed != digest) {
        return Err(Rejection::Mismatch);
    }
    let media_type = media_type
        .or_else(|| sniff_media_type(&body))
        .ok_or(Rejection::NoManifest)?;
    if wanted.is_none() && media_type.is_schema1() {
        return Err(Rejection::Schema1);
    }
    Ok(Manifest {
        digest,
        media_type,
        body,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::MediaType;
    use bytes::Bytes;

    const OCI: &[u8] = br#"{"schemaVersion":2,"config":{},"layers":[]}"#;

    fn answer(
        body: &'static [u8],
        media_type: Option<&str>,
        digest_header: Option<Digest>,
    ) -> upstream::Manifest {
        let media_type = media_type.map(|text| text.parse().unwrap());
        upstream::Manifest {
            digest_header,
            media_type,
            body: Bytes::from_static(body),
            warnings: Vec::new(),
        }
    }

    #[test]
    fn what_has_its_digest_is_accepted() {
        let digest = Digest::of(Algorithm::Sha256, OCI);
        let long = Digest::of(Algorithm::Sha512, OCI);
        for (wanted, header, named) in [
            (None, None, digest),
            (None, Some(long), long),
            (Some(digest), Some(long), digest),
            (Some(long), Some(digest), long),
        ] {
            let accepted = accept(wanted.as_ref(), answer(OCI, None, header)).unwrap();
            assert_eq!(
                (accepted.digest, accepted.media_type.as_str()),
                (named, MediaType::OCI_MANIFEST)
            );
        }
    }

    #[test]
    fn what_has_not_is_refused() {
        let other = Digest::of(Algorithm::Sha256, b"other");
        assert_eq!(
            accept(Some(&other), answer(OCI, None, None)).unwrap_err(),
            Rejection::Mismatch
        );
        assert_eq!(
            accept(None, answer(OCI, None, Some(other))).unwrap_err(),
            Rejection::Mismatch
        );
        assert_eq!(
            accept(None, answer(b"", Some(MediaType::OCI_INDEX), None)).unwrap_err(),
            Rejection::NoManifest
        );
        assert_eq!(
            accept(None, answer(b"<html>", None, None)).unwrap_err(),
            Rejection::NoManifest
        );
    }

    #[test]
    fn the_first_schema_never_becomes_a_tag() {
        let schema1 = || answer(br#"{"schemaVersion":1,"fsLayers":[]}"#, None, None);
        assert_eq!(accept(None, schema1()).unwrap_err(), Rejection::Schema1);
        let digest = Digest::of(Algorithm::Sha256, &schema1().body);
        assert!(accept(Some(&digest), schema1()).is_ok());
    }
}
