//! Whether the disk takes content. While it does not, nobody tries it with content: pulls go on without it, and one small
//! write now and then finds out when it is back.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use super::{Error, Store};

/// What a check writes and syncs.
const CHECK_BYTES: usize = 64 << 10;
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
    /// Whether the disk is to blame: full, over quota, read-only, or failing.
    pub fn is_disk_trouble(&self) -> bool {
        let Self::Io { source, .. } = self;
        is_disk_trouble(source)
    }
}

fn is_disk_trouble(error: &io::Error) -> bool {
    let errnos = [Errno::NOSPC, Errno::DQUOT, Errno::ROFS, Errno::IO];
    errnos
        .iter()
        .any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

impl Store {
    /// Whether content is worth a try on the disk.
    pub fn takes_content(&self) -> bool {
        self.standing().is_none()
    }

    /// Notes that the disk failed a write for which `wanted` bytes of room were needed; true if the disk is to blame. Said
    /// once in the log until the disk is back.
    pub fn note_failure(&self, error: &Error, wanted: u64) -> bool {
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

    /// Finds out whether a disk that was in trouble takes content again. Blocks for a small write.
    pub fn check_disk(&self) {
        let Some(Standing { wanted }) = *self.standing() else {
            return;
        };
        if self.has_room(wanted.max(ROOM_BYTES_MIN)) && self.layout.try_write(CHECK_BYTES).is_ok() {
            *self.standing() = None;
            tracing::info!("the disk takes content again");
        }
    }

    fn has_room(&self, bytes: u64) -> bool {
        let room = rustix::fs::statvfs(self.layout.root());
        room.is_ok_and(|room| room.f_bavail.saturating_mul(room.f_frsize) >= bytes)
    }

    fn standing(&self) -> MutexGuard<'_, Option<Standing>> {
        self.trouble.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
