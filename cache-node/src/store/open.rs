//! Opening a cache directory: the lock, the layout, and the index, which is rebuilt from what lies there.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Condvar, Mutex};
use std::time::SystemTime;

use tokio::sync::Notify;

use super::index::{Entry, IdlePartial, Index};
use super::removal::Tallies;
use super::trouble::{self, Trouble};
use super::{
    Disk, Error, Fingerprint, Layout, Lease, Room, Shared, Space, Store, lock, manifests, marker, partial,
    seal,
};
use crate::config::{Amount, CacheLimits};
use crate::oci::{Digest, MediaType};

/// How a cache directory is opened.
#[derive(Clone, Debug)]
pub struct Options {
    /// What the store may hold.
    pub limits: CacheLimits,
    /// How files are changed.
    pub disk: Disk,
}

impl Default for Options {
    /// As much as the disk holds, and without a witness.
    fn default() -> Self {
        Self {
            limits: CacheLimits {
                capacity: Some(Amount::Percent(100)),
                min_free: Amount::Percent(0),
                pinned_max: Amount::Percent(50),
            },
            disk: Disk::default(),
        }
    }
}

impl Store {
    /// Opens the cache directory without limits of its own: see [`Store::open_with`].
    ///
    /// # Errors
    /// As [`Store::open_with`].
    pub fn open(directory: &Path) -> Result<Self, Error> {
        Self::open_with(directory, Options::default())
    }

    /// Opens the cache directory, making it where it is missing, and lists what it holds. A disk that is full or read-only
    /// is no error: what can be read is listed. Blocks.
    ///
    /// # Errors
    /// The directory cannot be made or read, [`Error::Locked`], or [`Error::NewerLayout`].
    pub fn open_with(directory: &Path, options: Options) -> Result<Self, Error> {
        let Options { limits, disk } = options;
        fs::create_dir_all(directory).map_err(Error::io("make", directory))?;
        let layout = Layout::new(directory, disk);
        let lock = lock::take(layout.disk(), directory)?;
        let trouble = Trouble::default();
        trouble.tolerate(layout.make_folders())?;
        trouble.tolerate(layout.empty_temporary())?;
        trouble.tolerate(layout.try_write(trouble::CHECK_BYTES))?;
        let marker = marker::adopt(&layout)?;
        let space = Space::of(directory).map_err(Error::io("ask the size of", directory))?;
        let shared = Shared {
            index: Mutex::default(),
            removed: Condvar::new(),
            grown: Notify::new(),
            room: Mutex::new(Room { limits, space }),
            trouble,
            is_pressed: AtomicBool::new(false),
            tallies: Tallies::default(),
            _lock: lock,
            marker: Mutex::new(marker),
            layout,
        };
        shared.load()?;
        Ok(Self {
            shared: Arc::new(shared),
        })
    }
}

impl Shared {
    fn load(&self) -> Result<(), Error> {
        let mut found: HashMap<Digest, fs::Metadata> = HashMap::new();
        for (digest, metadata) in self.trouble.tolerate(self.layout.list_blobs())? {
            if seal::holds(&metadata, &digest) {
                found.insert(digest, metadata);
                continue;
            }
            // An eviction that was cut short leaves an empty file.
            if metadata.len() > 0 {
                tracing::error!(%digest, "a stored blob was changed while no process watched; dropped");
            }
            self.tidy(&self.layout.blob(&digest))?;
        }
        let mut media_types = HashMap::new();
        for digest in self.trouble.tolerate(self.layout.list_manifests())? {
            match manifests::media_type(&self.layout, &digest).filter(|_| found.contains_key(&digest)) {
                Some(media_type) => drop(media_types.insert(digest, media_type)),
                None => self.tidy(&self.layout.manifest(&digest))?,
            }
        }
        let partials = self.layout.list_partials(|digest| found.contains_key(digest));
        let partials = self.trouble.tolerate(partials)?;
        let mut index = self.index();
        index.partials = partials.into_iter().map(|found| self.idle(found)).collect();
        self.restore(&mut index, found, media_types);
        Ok(())
    }

    /// From the object used longest ago to the one used last, so that the order of eviction outlives the process.
    fn restore(
        &self,
        index: &mut Index,
        found: HashMap<Digest, fs::Metadata>,
        mut media_types: HashMap<Digest, MediaType>,
    ) {
        let mut entries: Vec<_> = found
            .into_iter()
            .map(|(digest, metadata)| {
                let media_type = media_types.remove(&digest);
                let entry = Entry {
                    fingerprint: Fingerprint::of(&metadata),
                    stored_bytes: self.stored_bytes(&metadata, media_type.is_some()),
                    media_type,
                    is_config: false,
                    last_used: metadata.accessed().unwrap_or(SystemTime::UNIX_EPOCH),
                    is_use_unrecorded: false,
                    lease: Arc::<Lease>::default(),
                };
                (digest, entry)
            })
            .collect();
        entries.sort_unstable_by_key(|(_, entry)| entry.last_used);
        for (digest, entry) in entries {
            index.restore(digest, entry);
        }
    }

    fn idle(&self, (digest, metadata): (Digest, fs::Metadata)) -> (Digest, IdlePartial) {
        let partial = IdlePartial {
            stored_bytes: partial::stored_bytes(&self.layout, &digest),
            since: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
        };
        (digest, partial)
    }

    /// Removes what nobody needs. What the disk does not let us remove stays.
    fn tidy(&self, path: &Path) -> Result<(), Error> {
        let removed = self.layout.disk().remove(path);
        self.trouble.tolerate(removed.map_err(Error::io("remove", path)))
    }
}
