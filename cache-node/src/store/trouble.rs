//! Whether the disk takes content. While it does not, nobody tries it with content: pulls go on without it, and one small
//! write now and then finds out when it is back.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::{Error, Shared, Space, Store, allocated_bytes, marker};

/// What a check writes and syncs.
pub(super) const CHECK_BYTES: usize = 64 << 10;
/// A disk with less room than this is still full, whatever a small write says.
const ROOM_BYTES_MIN: u64 = 16 << 20;

/// The state of the disk as the last write found it.
#[derive(Debug, Default)]
pub(super) struct Trouble(Mutex<Option<Standing>>);

#[derive(Clone, Copy, Debug)]
struct Standing {
    /// The room that was wanted in vain, in bytes.
    wanted: u64,
}

impl Error {
    /// Whether the disk is to blame: full, over quota, read-only, failing or gone, or out of descriptors.
    pub fn is_disk_trouble(&self) -> bool {
        match self {
            Self::Io { source, .. } => is_disk_trouble(source),
            Self::Locked { .. } | Self::NewerLayout { .. } | Self::NoRoom { .. } => false,
        }
    }
}

pub(super) fn is_disk_trouble(error: &io::Error) -> bool {
    let errnos = [
        Errno::NOSPC,
        Errno::DQUOT,
        Errno::ROFS,
        Errno::IO,
        Errno::MFILE,
        Errno::NFILE,
        // The directory itself is gone: what lies in it is made by us, and opened to be written.
        Errno::NOENT,
        Errno::STALE,
        Errno::NODEV,
        Errno::NXIO,
        Errno::NOTCONN,
    ];
    errnos
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl Trouble {
    /// Notes that a write failed for which `wanted` bytes of room were needed; true if the disk is to blame. Said once in the
    /// log until the disk is back.
    pub(super) fn note(&self, error: &Error, wanted: u64) -> bool {
        if !error.is_disk_trouble() {
            return false;
        }
        let mut standing = self.standing();
        if standing.is_none() {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "the disk takes no content; pulls go on without it"
            );
        }
        let wanted = standing.map_or(wanted, |standing| standing.wanted.max(wanted));
        *standing = Some(Standing { wanted });
        true
    }

    /// With nothing in the place of what the disk refuses, which is noted.
    ///
    /// # Errors
    /// The one that is not the disk's fault.
    pub(super) fn tolerate<T: Default>(&self, result: Result<T, Error>) -> Result<T, Error> {
        match result {
            Err(error) if self.note(&error, 0) => Ok(T::default()),
            result => result,
        }
    }

    fn standing(&self) -> MutexGuard<'_, Option<Standing>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Whether content is worth a try on the disk.
    pub fn takes_content(&self) -> bool {
        self.shared.trouble.standing().is_none()
    }

    /// Why content is not kept, although the store has given away what it could; `None` while it is kept.
    pub fn hindrance(&self) -> Option<&'static str> {
        if !self.takes_content() {
            Some("the disk takes no content")
        } else if self.shared.is_pressed.load(Ordering::Relaxed) {
            Some("others leave no room for content on the disk")
        } else {
            None
        }
    }

    /// Notes that the store did not take content for which `wanted` bytes of room were needed; true if pulls are to go on
    /// without it.
    pub fn note_failure(&self, error: &Error, wanted: u64) -> bool {
        matches!(error, Error::NoRoom { .. }) || self.shared.trouble.note(error, wanted)
    }

    /// Looks after the room: gives back what others need of the disk, finds out whether a disk that was in trouble takes
    /// content again, and whether the directory is still there. Blocks.
    pub fn maintain(&self) {
        let shared = &self.shared;
        if !shared.is_still_there() {
            let gone = io::Error::from_raw_os_error(Errno::NOENT.raw_os_error());
            shared
                .trouble
                .note(&Error::io("find", shared.layout.root())(gone), 0);
            return;
        }
        shared.recover();
        shared.count_overhead();
        // For what is there something can always be done, if not enough.
        let _ = shared.make_room(None, |_| {});
        let (budget, space) = shared.look();
        let is_pressed = budget.is_pressed(&space);
        if is_pressed && !shared.is_pressed.swap(is_pressed, Ordering::Relaxed) {
            tracing::warn!(
                available_bytes = space.available_bytes,
                min_free_bytes = budget.min_free_bytes,
                available_inodes = space.available_inodes,
                min_free_inodes = budget.min_free_inodes,
                "others fill the disk: content is not kept until they leave more of it, or cache.minFree is less"
            );
        }
        shared.is_pressed.store(is_pressed, Ordering::Relaxed);
    }
}

impl Shared {
    /// Whether the directory at the path is the one that was opened.
    pub(super) fn is_still_there(&self) -> bool {
        let marker = self.marker.lock().unwrap_or_else(PoisonError::into_inner);
        match marker.as_ref() {
            Some(marker) => marker::is_there(&self.layout, marker),
            None => true,
        }
    }

    fn recover(&self) {
        let Some(Standing { wanted }) = *self.trouble.standing() else {
            return;
        };
        if !self.has_room(wanted.max(ROOM_BYTES_MIN)) {
            return;
        }
        let recovered = self
            .layout
            .make_folders()
            .and_then(|()| self.layout.try_write(CHECK_BYTES));
        if recovered.is_err() {
            return;
        }
        let mut marker = self.marker.lock().unwrap_or_else(PoisonError::into_inner);
        if marker.is_none() {
            *marker = marker::adopt(&self.layout).ok().flatten();
        }
        *self.trouble.standing() = None;
        tracing::info!("the disk takes content again");
    }

    fn has_room(&self, bytes: u64) -> bool {
        Space::of(self.layout.root()).is_ok_and(|space| space.available_bytes >= bytes)
    }

    /// What the ledgers and the quarantine take.
    fn count_overhead(&self) {
        let quarantined = self.layout.list_quarantine().unwrap_or_default();
        let ledgers = self.layout.list_ledgers().unwrap_or_default();
        let bytes = quarantined.iter().map(|(_, metadata)| metadata).chain(&ledgers);
        self.index().overhead_bytes = bytes.map(allocated_bytes).sum();
    }
}
