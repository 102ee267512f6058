//! What the store holds, one object at a time, for the people who look after it.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::sync::PoisonError;
use std::time::{SystemTime, UNIX_EPOCH};

use super::layout::BLOCK_BYTES;
use super::{Blob, Error, Store};
use crate::oci::{Digest, DigestHasher, descriptors};

/// How much is read at once to be hashed.
const READ_BYTES: usize = 256 << 10;

/// What an object is, as far as stored manifests tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// A manifest or an index.
    Manifest,
    /// Named by a manifest, and no layer.
    Config,
    /// A file system layer.
    Layer,
    /// No stored manifest names it.
    Other,
}

/// One verified object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// What names it.
    pub digest: Digest,
    /// What it is.
    pub kind: Kind,
    /// Its length in bytes.
    pub length: u64,
    /// What it takes on the disk, in bytes.
    pub stored_bytes: u64,
    /// When it was last read or written.
    pub last_used: SystemTime,
    /// Whether somebody reads it now.
    pub is_in_use: bool,
}

/// Why an object is removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// To make room; it may come back.
    Evicted,
    /// Somebody wants it gone.
    Purged,
    /// It is not what its digest says.
    Condemned,
}

/// What hashing an object anew has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is what its digest says.
    Sound,
    /// It is something else, or cannot be read; it is not served any more.
    Condemned,
    /// It is not here.
    Absent,
}

/// What the cache directory takes, and what it may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// What content may take, in bytes; none: what the disk has.
    pub budget_bytes: Option<u64>,
    /// Unfinished fills.
    pub partials: u64,
    /// What they take on the disk, in bytes.
    pub partial_bytes: u64,
    /// What the file system has left for this process, in bytes.
    pub free_bytes: u64,
    /// How many more files the file system takes.
    pub free_inodes: u64,
    /// The version of the directory's layout.
    pub layout_version: u32,
}

impl Store {
    /// Every object, in no order. Blocks.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn objects(&self) -> Result<Vec<Object>, Error> {
        let kinds = self.kinds();
        let listed = self.layout.list_blobs()?;
        let here = listed.into_iter().filter(|(digest, _)| self.contains(digest));
        Ok(here
            .map(|(digest, metadata)| Object {
                digest,
                kind: kinds.get(&digest).copied().unwrap_or(Kind::Other),
                length: metadata.len(),
                stored_bytes: metadata.blocks() * BLOCK_BYTES,
                last_used: metadata.accessed().unwrap_or(UNIX_EPOCH),
                is_in_use: false,
            })
            .collect())
    }

    fn kinds(&self) -> HashMap<Digest, Kind> {
        let manifests: Vec<_> = {
            let media_types = self.media_types.read().unwrap_or_else(PoisonError::into_inner);
            media_types.keys().copied().collect()
        };
        let mut kinds = HashMap::new();
        for digest in manifests {
            kinds.insert(digest, Kind::Manifest);
            let Some(manifest) = self.manifest(&digest) else {
                continue;
            };
            for named in descriptors(&manifest.body) {
                if !named.is_manifest {
                    let kind = if named.is_layer { Kind::Layer } else { Kind::Config };
                    kinds.entry(named.digest).or_insert(kind);
                }
            }
        }
        kinds
    }

    /// Removes an object; whoever reads it reads on. False where there is none. Blocks.
    pub fn remove(&self, digest: &Digest, removal: Removal) -> bool {
        if !self.contains(digest) {
            return false;
        }
        self.forget(digest);
        tracing::info!(%digest, ?removal, "removed");
        let _ = fs::remove_file(self.layout.manifest(digest));
        fs::remove_file(self.layout.blob(digest)).is_ok()
    }

    /// Hashes an object anew, and removes it where it is not what its digest says. Blocks.
    pub fn verify(&self, digest: &Digest) -> Verdict {
        if !self.contains(digest) {
            return Verdict::Absent;
        }
        let is_sound = self.blob(digest).is_some_and(|blob| is_sound(&blob, digest));
        if is_sound {
            return Verdict::Sound;
        }
        self.remove(digest, Removal::Condemned);
        Verdict::Condemned
    }

    /// What is taken and what is left. Blocks for a look at the disk.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn usage(&self) -> Result<Usage, Error> {
        let root = self.layout.root();
        let room = rustix::fs::statvfs(root).map_err(|errno| Error::io("inspect", root)(errno.into()))?;
        let (partials, partial_bytes) = self.layout.count_partials()?;
        Ok(Usage {
            budget_bytes: None,
            partials,
            partial_bytes,
            free_bytes: room.f_bavail.saturating_mul(room.f_frsize),
            free_inodes: room.f_favail,
            layout_version: 1,
        })
    }
}

fn is_sound(blob: &Blob, digest: &Digest) -> bool {
    let mut hasher = DigestHasher::new(digest.algorithm());
    let mut buffer = vec![0; READ_BYTES];
    let mut offset = 0;
    while offset < blob.length {
        match blob.file.read_at(&mut buffer, offset) {
            Ok(0) | Err(_) => return false,
            Ok(read) => {
                hasher.update(&buffer[..read]);
                offset += read as u64;
            }
        }
    }
    hasher.finish() == *digest
}
