//! What a path in an OCI image layout stands for (image-spec, image-layout.md). Nothing is opened by such a path.

use std::path::PathBuf;

use crate::oci::{Algorithm, Digest};

/// The file that says that a directory is a layout.
pub(super) const LAYOUT_FILE: &str = "oci-layout";
/// The file that says what images there are.
pub(super) const INDEX_FILE: &str = "index.json";

/// A file of a layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Member {
    /// `oci-layout`
    Layout,
    /// `index.json`
    Index,
    /// `blobs/<algorithm>/<hex>`
    Blob(Digest),
    /// A file that a layout need not have, or a directory.
    Other,
}

impl Member {
    /// The error says what is wrong with the path.
    pub(super) fn parse(path: &str) -> Result<Self, &'static str> {
        let path = path.trim_start_matches("./").trim_end_matches('/');
        if path.starts_with('/') {
            return Err("its path is absolute");
        }
        let parts: Vec<_> = path.split('/').collect();
        if parts.contains(&"..") {
            return Err("its path leads out of the archive");
        }
        match parts[..] {
            [LAYOUT_FILE] => Ok(Self::Layout),
            [INDEX_FILE] => Ok(Self::Index),
            ["blobs", algorithm, hex] => {
                let algorithm = Algorithm::ALL
                    .into_iter()
                    .find(|known| known.as_str() == algorithm);
                let algorithm = algorithm.ok_or("its digest is neither sha256 nor sha512")?;
                let digest = Digest::from_hex(algorithm, hex);
                digest.map(Self::Blob).map_err(|_| "its name is not a digest")
            }
            _ => Ok(Self::Other),
        }
    }

    /// Where the file lies in a layout.
    pub(super) fn path(&self) -> Option<PathBuf> {
        match self {
            Self::Layout => Some(LAYOUT_FILE.into()),
            Self::Index => Some(INDEX_FILE.into()),
            Self::Blob(digest) => Some(PathBuf::from_iter([
                "blobs",
                digest.algorithm().as_str(),
                &digest.hex(),
            ])),
            Self::Other => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_leads_elsewhere_is_refused() {
        for path in [
            "/etc/passwd",
            "../index.json",
            "blobs/../index.json",
            "blobs/sha256/x",
            "blobs/md5/00",
        ] {
            assert!(Member::parse(path).is_err(), "{path}");
        }
        assert_eq!(Member::parse("./index.json"), Ok(Member::Index));
        assert_eq!(Member::parse("blobs/sha256/"), Ok(Member::Other));
        assert_eq!(Member::parse("manifest.json"), Ok(Member::Other));
    }

    proptest! {
        #[test]
        fn a_members_path_is_its_own(content: Vec<u8>, path: String) {
            for algorithm in Algorithm::ALL {
                let member = Member::Blob(Digest::of(algorithm, &content));
                let path = member.path().unwrap();
                prop_assert_eq!(Member::parse(path.to_str().unwrap()), Ok(member));
            }
            if let Ok(member) = Member::parse(&path) {
                prop_assert!(member.path().is_none_or(|path| path.is_relative()));
            }
        }
    }
}
