//! Verified content on the node's own disk.
//!
//! Content-addressed files: written under a temporary name, hashed, length-checked, synced, renamed. What lies
//! under `blobs/` has been proved; the index is rebuilt from the directory at start, so there is no database to
//! corrupt. Serving does not hash again: the length, modification time and inode that the index remembers are
//! compared at every open, and a seal tells at start what was changed while no process watched.

mod journal;
mod layout;
mod manifests;
mod partial;
mod range_set;
mod read;
mod seal;
mod trouble;

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use crate::oci::{Digest, MediaType};

pub use layout::Layout;
pub use manifests::{MANIFEST_BYTES_MAX, Manifest};
pub use partial::Partial;
pub use range_set::RangeSet;
pub use read::{CHUNK_BYTES_MAX, read_chunk};

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file operation failed.
    #[error("cannot {action} {path}")]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { action, path, source }
    }
}

/// An open verified blob.
#[derive(Clone, Debug)]
pub struct Blob {
    /// The open file: stays readable when the blob is removed meanwhile.
    pub file: Arc<File>,
    /// The blob's length in bytes.
    pub length: u64,
}

/// What a file looked like when it was proved or found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fingerprint {
    length: u64,
    mtime_ns: i128,
    inode: u64,
}

impl Fingerprint {
    fn of(metadata: &fs::Metadata) -> Self {
        let mtime_ns = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        Self {
            length: metadata.len(),
            mtime_ns,
            inode: metadata.ino(),
        }
    }
}

/// How much the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Verified blobs, manifests included.
    pub blobs: u64,
    /// Their lengths together, in bytes.
    pub bytes: u64,
}

/// All verified content of one cache directory.
#[derive(Debug)]
pub struct Store {
    layout: Layout,
    blobs: RwLock<HashMap<Digest, Fingerprint>>,
    media_types: RwLock<HashMap<Digest, MediaType>>,
    trouble: trouble::Trouble,
}

impl Store {
    /// Opens the cache directory, making it where it is missing, and lists what it holds. Blocks.
    ///
    /// # Errors
    /// The directory cannot be made, read or written.
    pub fn open(directory: &Path) -> Result<Self, Error> {
        let layout = Layout::prepare(directory)?;
        let mut blobs = HashMap::new();
        for (digest, metadata) in layout.list_blobs()? {
            if seal::holds(&metadata, &digest) {
                blobs.insert(digest, Fingerprint::of(&metadata));
            } else {
                tracing::error!(%digest, "a stored blob was changed while no process watched; dropped");
                let path = layout.blob(&digest);
                fs::remove_file(&path).map_err(Error::io("remove", &path))?;
            }
        }
        let media_types = manifests::load(&layout, |digest| blobs.contains_key(digest))?;
        let store = Self {
            layout,
            blobs: RwLock::new(blobs),
            media_types: RwLock::new(media_types),
            trouble: trouble::Trouble::default(),
        };
        store.layout.sweep_partials(|digest| store.contains(digest))?;
        Ok(store)
    }

    /// Whether a verified copy of `digest` is listed.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.blobs
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .contains_key(digest)
    }

    /// The length of the verified copy of `digest`, in bytes.
    pub fn length(&self, digest: &Digest) -> Option<u64> {
        self.blobs
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(digest)
            .map(|found| found.length)
    }

    /// Opens the verified copy of `digest`. A file that is gone, or is not the one that was proved, leaves the
    /// index and is removed: `None`, and the next request fetches it again.
    pub fn blob(&self, digest: &Digest) -> Option<Blob> {
        let expected = *self
            .blobs
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(digest)?;
        let path = self.layout.blob(digest);
        let opened = File::open(&path).and_then(|file| Ok((Fingerprint::of(&file.metadata()?), file)));
        match opened {
            Ok((found, file)) if found == expected => Some(Blob {
                file: Arc::new(file),
                length: found.length,
            }),
            Ok((found, _)) => {
                tracing::error!(%digest, ?expected, ?found, "a stored blob was changed by somebody else; dropped");
                self.forget(digest);
                let _ = fs::remove_file(&path);
                None
            }
            Err(error) => {
                if error.kind() == io::ErrorKind::NotFound {
                    self.forget(digest);
                }
                tracing::error!(%digest, %error, "a stored blob cannot be opened");
                None
            }
        }
    }

    /// Opens the partial file of `digest`, with whatever an earlier fill provably left in it. Blocks.
    ///
    /// # Errors
    /// The file cannot be made or read.
    pub fn partial(&self, digest: &Digest) -> Result<Partial, Error> {
        Partial::open(&self.layout, digest)
    }

    /// Moves a partial file whose digest has been proved under its final name and lists it. Blocks.
    ///
    /// # Errors
    /// The file could not be synced or renamed; its data stays as a partial.
    pub fn commit(&self, partial: &Partial) -> Result<(), Error> {
        let metadata = partial.commit(&self.layout)?;
        self.list(*partial.digest(), &metadata);
        Ok(())
    }

    /// How much the store holds.
    pub fn totals(&self) -> Totals {
        let blobs = self.blobs.read().unwrap_or_else(PoisonError::into_inner);
        Totals {
            blobs: blobs.len() as u64,
            bytes: blobs.values().map(|found| found.length).sum(),
        }
    }

    /// The folder layout, for neighbours that keep a file beside the blobs.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    fn list(&self, digest: Digest, metadata: &fs::Metadata) {
        let mut blobs = self.blobs.write().unwrap_or_else(PoisonError::into_inner);
        blobs.insert(digest, Fingerprint::of(metadata));
    }

    fn forget(&self, digest: &Digest) {
        self.blobs
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(digest);
        self.media_types
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(digest);
    }
}

#[cfg(test)]
mod tests;
