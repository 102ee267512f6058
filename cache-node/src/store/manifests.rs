//! Manifests: small content whose media type must be kept with it, because clients compare it exactly.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::sync::PoisonError;

use bytes::Bytes;

use super::{Error, Layout, Store, seal};
use crate::oci::{Digest, MediaType};

/// The largest manifest kept: the specification asks for at least 4 MiB.
pub const MANIFEST_BYTES_MAX: u64 = 8 << 20;

/// A verified manifest.
#[derive(Clone, Debug)]
pub struct Manifest {
    /// The digest of `body`.
    pub digest: Digest,
    /// The type that upstream gave it.
    pub media_type: MediaType,
    /// The exact bytes.
    pub body: Bytes,
}

/// Reads every recorded media type; a record that is unreadable or whose content is gone is removed.
pub(super) fn load(
    layout: &Layout,
    is_stored: impl Fn(&Digest) -> bool,
) -> Result<HashMap<Digest, MediaType>, Error> {
    let mut loaded = HashMap::new();
    for digest in layout.list_manifests()? {
        let path = layout.manifest(&digest);
        let media_type = fs::read_to_string(&path).ok().and_then(|text| text.parse().ok());
        match media_type.filter(|_| is_stored(&digest)) {
            Some(media_type) => {
                loaded.insert(digest, media_type);
            }
            None => fs::remove_file(&path).map_err(Error::io("remove", &path))?,
        }
    }
    Ok(loaded)
}

impl Store {
    /// The verified manifest `digest`, if the store has it. Blocks for a small read.
    pub fn manifest(&self, digest: &Digest) -> Option<Manifest> {
        let media_type = self
            .media_types
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(digest)?
            .clone();
        let blob = self.blob(digest)?;
        if blob.length > MANIFEST_BYTES_MAX {
            return None;
        }
        let mut body = vec![0; usize::try_from(blob.length).ok()?];
        match blob.file.read_exact_at(&mut body, 0) {
            Ok(()) => Some(Manifest {
                digest: *digest,
                media_type,
                body: body.into(),
            }),
            Err(error) => {
                tracing::error!(%digest, %error, "a stored manifest cannot be read");
                None
            }
        }
    }

    /// The media type and length of the verified manifest `digest`, without reading it.
    pub fn manifest_head(&self, digest: &Digest) -> Option<(MediaType, u64)> {
        let media_types = self.media_types.read().unwrap_or_else(PoisonError::into_inner);
        Some((media_types.get(digest)?.clone(), self.length(digest)?))
    }

    /// Keeps a manifest whose digest the caller has computed from these very bytes. Blocks.
    ///
    /// # Errors
    /// A file operation failed; nothing is listed.
    pub fn put_manifest(&self, manifest: &Manifest) -> Result<(), Error> {
        let Manifest {
            digest,
            media_type,
            body,
        } = manifest;
        let path = self.layout.blob(digest);
        if self.blob(digest).is_none() {
            let file = self.layout.write_atomically(&path, body)?;
            // Lost in a crash, the seal costs no more than another fetch.
            seal::set(&file, digest, body.len() as u64).map_err(Error::io("seal", &path))?;
            self.list(*digest, &file.metadata().map_err(Error::io("inspect", &path))?);
        }
        self.layout
            .write_atomically(&self.layout.manifest(digest), media_type.as_str().as_bytes())?;
        let mut media_types = self.media_types.write().unwrap_or_else(PoisonError::into_inner);
        media_types.insert(*digest, media_type.clone());
        Ok(())
    }
}
