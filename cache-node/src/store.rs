//! Verified content on the node's own disk.
//!
//! Content-addressed files: written under a temporary name, hashed, length-checked, synced, renamed. What lies
//! under `blobs/` has been proved; the index is rebuilt from the directory at start, so there is no database to
//! corrupt. Serving does not hash again: the length, modification time and inode that the index remembers are
//! compared at every open, a seal tells at start what was changed while no process watched, and a scrub proves the rest.
//!
//! The store is a guest on its disk: it keeps to its budget, and makes room before it takes content in.

mod access_times;
mod admission;
mod condemned;
mod disk;
#[doc(hidden)] // Public for the benchmark of the policies alone.
pub mod eviction;
mod headroom;
mod index;
mod intake;
mod journal;
mod layout;
mod lock;
mod manifests;
mod marker;
mod open;
mod partial;
mod range_set;
mod read;
mod removal;
mod room;
mod scrub;
mod seal;
mod trouble;

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::Notify;

use crate::oci::Digest;

pub use condemned::Finding;
pub use disk::{Disk, Operation, Witness};
pub use index::{Count, Kind, Lease, Protected};
pub use intake::IntakeError;
pub use layout::Layout;
pub use manifests::{MANIFEST_BYTES_MAX, Manifest};
pub use marker::LAYOUT;
pub use open::Options;
pub use partial::Partial;
pub use range_set::RangeSet;
pub use read::{CHUNK_BYTES_MAX, read_chunk};
pub use removal::{Removal, Tally};
pub use room::{Budget, Space};
pub use scrub::{Round, Verdict};

use index::{Entry, Index};

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
    /// Another process uses the directory.
    #[error("another process uses {path}: end it first, or give this one another directory")]
    Locked {
        /// The cache directory.
        path: String,
    },
    /// A newer version has written the directory.
    #[error(
        "{path} has layout {found}, which a newer version wrote; this one knows layouts up to {LAYOUT}: \
         upgrade, or empty the directory"
    )]
    NewerLayout {
        /// The cache directory.
        path: String,
        /// Its layout.
        found: u32,
    },
    /// The content does not fit into what the store may hold, beside what is needed.
    #[error("there is no room for {wanted} bytes")]
    NoRoom {
        /// How many more bytes were wanted.
        wanted: u64,
    },
}

impl Error {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::Io { action, path, source }
    }
}

/// An open verified blob. While it lives the store does not evict it.
#[derive(Clone, Debug)]
pub struct Blob {
    /// The open file: stays readable when the blob is removed meanwhile.
    pub file: Arc<File>,
    /// The blob's length in bytes.
    pub length: u64,
    /// Tells when the content turns out to be wrong.
    pub lease: Arc<Lease>,
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

/// One object of the store, for people and tools.
#[derive(Clone, Debug)]
pub struct Object {
    /// The digest of its content.
    pub digest: Digest,
    /// What it is.
    pub kind: Kind,
    /// Its length in bytes.
    pub length: u64,
    /// The room that it takes on disk, in bytes.
    pub stored_bytes: u64,
    /// When it was last asked for.
    pub last_used: SystemTime,
    /// Whether somebody reads it now.
    pub is_in_use: bool,
}

/// How much the store holds and may hold.
#[derive(Clone, Debug, Default, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Complete content.
    pub counts: std::collections::BTreeMap<Kind, Count>,
    /// Unfinished fills that nobody works on.
    pub partials: Count,
    /// What running fills may take, in bytes.
    pub reserved_bytes: u64,
    /// Everything that counts against the capacity, in bytes.
    pub used_bytes: u64,
    /// What the store may hold.
    pub budget: Budget,
    /// The file system, as it was last seen.
    pub space: Space,
}

/// All verified content of one cache directory. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

/// What the store shares with the partial files that it gave out.
#[derive(Debug)]
struct Shared {
    layout: Layout,
    index: Mutex<Index>,
    /// Whenever files have been removed.
    removed: Condvar,
    /// Whenever content has been listed.
    grown: Notify,
    room: Mutex<Room>,
    trouble: trouble::Trouble,
    /// Whether others leave no room on the disk.
    is_pressed: AtomicBool,
    tallies: removal::Tallies,
    _lock: lock::Lock,
    marker: Mutex<Option<marker::Marker>>,
}

/// What the store may hold, and what the file system said last.
#[derive(Clone, Debug)]
struct Room {
    limits: crate::config::CacheLimits,
    space: Space,
}

impl Store {
    /// Whether a verified copy of `digest` is listed.
    pub fn contains(&self, digest: &Digest) -> bool {
        self.shared.index().get(digest).is_some()
    }

    /// The length of the verified copy of `digest`, in bytes.
    pub fn length(&self, digest: &Digest) -> Option<u64> {
        self.shared
            .index()
            .get(digest)
            .map(|entry| entry.fingerprint.length)
    }

    /// Opens the verified copy of `digest`, which is a use of it. A file that is gone, or is not the one that was proved,
    /// leaves the index: `None`, and the next request fetches it again.
    pub fn blob(&self, digest: &Digest) -> Option<Blob> {
        self.open_listed(digest, true)
    }

    fn open_listed(&self, digest: &Digest, is_use: bool) -> Option<Blob> {
        let (expected, lease) = {
            let mut index = self.shared.index();
            if is_use {
                index.touch(digest, SystemTime::now());
            }
            let entry = index.get(digest)?;
            (entry.fingerprint, Arc::clone(&entry.lease))
        };
        if lease.is_condemned() {
            self.shared.quarantine(digest, &lease, Finding::Unreadable);
            return None;
        }
        let path = self.shared.layout.blob(digest);
        let opened = self.shared.layout.disk().open(&path);
        match opened.and_then(|file| Ok((Fingerprint::of(&file.metadata()?), file))) {
            Ok((found, file)) if found == expected => Some(Blob {
                file: Arc::new(file),
                length: found.length,
                lease,
            }),
            Ok((found, _)) => {
                tracing::error!(%digest, ?expected, ?found, "a stored blob was changed by somebody else; dropped");
                self.condemn(digest, &lease, Finding::Changed);
                None
            }
            Err(error) => {
                self.shared.cannot_open(digest, &lease, &error);
                None
            }
        }
    }

    /// Opens the partial file of `digest`, with whatever an earlier fill provably left in it, and reserves the room for
    /// `length` bytes if that is known. Blocks.
    ///
    /// # Errors
    /// [`Error::NoRoom`], or the file cannot be made or read.
    pub fn partial(&self, digest: &Digest, length: Option<u64>) -> Result<Partial, Error> {
        Partial::open(Arc::clone(&self.shared), digest, length)
    }

    /// Moves a partial file whose digest has been proved under its final name and lists it. Blocks.
    ///
    /// # Errors
    /// The file could not be synced or renamed; its data stays as a partial.
    pub fn commit(&self, partial: &Partial) -> Result<Arc<Lease>, Error> {
        partial.commit()
    }

    /// Everything that is listed, in no order.
    pub fn objects(&self) -> Vec<Object> {
        let index = self.shared.index();
        let objects = index.iter().map(|(digest, entry)| Object {
            digest: *digest,
            kind: entry.kind(),
            length: entry.fingerprint.length,
            stored_bytes: entry.stored_bytes,
            last_used: entry.last_used,
            is_in_use: entry.is_in_use(),
        });
        objects.collect()
    }

    /// How much the store holds and may hold.
    pub fn usage(&self) -> Usage {
        let Room { limits, space } = self.shared.room().clone();
        let index = self.shared.index();
        Usage {
            counts: index.counts().collect(),
            partials: Count {
                objects: index.partials.len() as u64,
                stored_bytes: index.idle_bytes(),
            },
            reserved_bytes: index.reserved().bytes,
            used_bytes: index.used_bytes(),
            budget: Budget::of(&limits, &space),
            space,
        }
    }

    /// Takes over a changed configuration.
    pub fn set_limits(&self, limits: crate::config::CacheLimits) {
        self.shared.room().limits = limits;
    }

    /// Takes over what is worth more than its use says.
    pub fn protect(&self, protected: Protected) {
        self.shared.index().protected = protected;
    }

    /// The folder layout, for neighbours that keep a file beside the blobs.
    pub fn layout(&self) -> &Layout {
        &self.shared.layout
    }
}

impl Shared {
    fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.room.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists proved content whose file has got its name.
    fn list(
        &self,
        digest: Digest,
        metadata: &fs::Metadata,
        media_type: Option<crate::oci::MediaType>,
    ) -> Arc<Lease> {
        let lease = Arc::<Lease>::default();
        let entry = Entry {
            fingerprint: Fingerprint::of(metadata),
            stored_bytes: self.stored_bytes(metadata, media_type.is_some()),
            media_type,
            is_config: false,
            last_used: SystemTime::now(),
            is_use_unrecorded: true,
            lease: Arc::clone(&lease),
        };
        self.index().insert(digest, entry);
        self.grown.notify_one();
        lease
    }

    /// What a file takes on disk, with the record of its media type if it is a manifest.
    fn stored_bytes(&self, metadata: &fs::Metadata, is_manifest: bool) -> u64 {
        let record = if is_manifest {
            self.room().space.block_bytes
        } else {
            0
        };
        allocated_bytes(metadata) + record
    }
}

/// What a file really takes on disk: a sparse one less than its length, a preallocated one more.
fn allocated_bytes(metadata: &fs::Metadata) -> u64 {
    /// `st_blocks` counts in these, whatever the file system's blocks are (stat(3type)).
    const STAT_BLOCK_BYTES: u64 = 512;
    metadata.blocks() * STAT_BLOCK_BYTES
}

#[cfg(test)]
mod tests;
