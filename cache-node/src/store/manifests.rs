//! Manifests: small content whose media type must be kept with it, because clients compare it exactly.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;

use super::admission::Reservation;
use super::condemned::Finding;
use super::{Error, Layout, Shared, Store, seal};
use crate::oci::{Digest, MediaType, descriptors};

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

/// The media type on record for a manifest.
pub(super) fn media_type(layout: &Layout, digest: &Digest) -> Option<MediaType> {
    fs::read_to_string(layout.manifest(digest)).ok()?.parse().ok()
}

impl Store {
    /// The verified manifest `digest`, if the store has it; a use of it. Blocks for a small read.
    pub fn manifest(&self, digest: &Digest) -> Option<Manifest> {
        self.read_manifest(digest, true)
    }

    /// The same, for who wants to know what is in it: no use of it.
    pub fn peek_manifest(&self, digest: &Digest) -> Option<Manifest> {
        self.read_manifest(digest, false)
    }

    fn read_manifest(&self, digest: &Digest, is_use: bool) -> Option<Manifest> {
        let (media_type, _) = self.manifest_head(digest)?;
        let blob = self.open_listed(digest, is_use)?;
        if blob.length > MANIFEST_BYTES_MAX {
            return None;
        }
        let mut body = vec![0; usize::try_from(blob.length).ok()?];
        if let Err(error) = blob.file.read_exact_at(&mut body, 0) {
            tracing::error!(%digest, %error, "a stored manifest cannot be read");
            self.condemn(digest, &blob.lease, Finding::Unreadable);
            return None;
        }
        self.shared.learn(digest, &body);
        Some(Manifest {
            digest: *digest,
            media_type,
            body: body.into(),
        })
    }

    /// The media type and length of the verified manifest `digest`, without reading it.
    pub fn manifest_head(&self, digest: &Digest) -> Option<(MediaType, u64)> {
        let index = self.shared.index();
        let entry = index.get(digest)?;
        Some((entry.media_type.clone()?, entry.fingerprint.length))
    }

    /// Keeps a manifest whose digest the caller has computed from these very bytes. Blocks.
    ///
    /// # Errors
    /// [`Error::NoRoom`], or a file operation failed; nothing is listed.
    pub fn put_manifest(&self, manifest: &Manifest) -> Result<(), Error> {
        let Manifest {
            digest,
            media_type,
            body,
        } = manifest;
        let shared = &self.shared;
        let length = body.len() as u64;
        // The record of its type is a file too.
        let record_bytes = shared.room().space.block_bytes;
        let reservation = Reservation::new(Arc::clone(shared), length + record_bytes)?;
        shared.wait_for_name(digest);
        let is_listed = self.blob(digest).is_some();
        let layout = &shared.layout;
        if !is_listed {
            let path = layout.blob(digest);
            // Sealed before it has its name: else a process that ends in between leaves what looks changed.
            let file = layout
                .write_and_finish(&path, body, |file| seal::set(layout.disk(), file, digest, length))?;
            let metadata = file.metadata().map_err(Error::io("inspect", &path))?;
            layout.write_atomically(&layout.manifest(digest), media_type.as_str().as_bytes())?;
            shared.list(*digest, &metadata, Some(media_type.clone()));
        } else {
            layout.write_atomically(&layout.manifest(digest), media_type.as_str().as_bytes())?;
            shared
                .index()
                .set_media_type(digest, media_type.clone(), record_bytes);
        }
        drop(reservation);
        shared.learn(digest, body);
        Ok(())
    }

    /// The manifests that are listed, in no order.
    pub fn manifests(&self) -> Vec<Digest> {
        let index = self.shared.index();
        let manifests = index.iter().filter(|(_, entry)| entry.media_type.is_some());
        manifests.map(|(digest, _)| *digest).collect()
    }
}

impl Shared {
    /// Notes what a manifest names.
    fn learn(&self, digest: &Digest, body: &[u8]) -> Arc<[Digest]> {
        let named = descriptors(body);
        let config = named.iter().find(|descriptor| descriptor.is_config);
        let config = config.map(|descriptor| descriptor.digest);
        let children: Arc<[Digest]> = named.iter().map(|descriptor| descriptor.digest).collect();
        self.index().learn(digest, Arc::clone(&children), config);
        children
    }

    /// What a stored manifest names.
    pub(super) fn read_children(&self, digest: &Digest) -> Option<Arc<[Digest]>> {
        let body = fs::read(self.layout.blob(digest)).ok()?;
        Some(self.learn(digest, &body))
    }
}
