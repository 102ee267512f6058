//! Content that is not, or cannot be shown to be, what was proved once: nobody new gets it, who reads it ends short, and it
//! is set aside for a person to look at. The next request fetches it again.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustix::io::Errno;

use super::{Lease, Shared, Store, allocated_bytes, trouble};
use crate::oci::Digest;

/// The most files in quarantine; what was condemned longest ago goes first.
const QUARANTINE_FILES_MAX: usize = 8;
/// The most bytes in quarantine; a larger file is removed instead.
const QUARANTINE_BYTES_MAX: u64 = 1 << 30;
/// Of a small capacity it may have this part.
const QUARANTINE_SHARE_DIVISOR: u64 = 10;

/// How content was found not to be what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Its file has another length, modification time or inode than the one that was proved.
    Changed,
    /// Its bytes have another digest.
    Mismatch,
    /// The disk does not give its bytes back.
    Unreadable,
}

impl Finding {
    /// The value of the `finding` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Mismatch => "mismatch",
            Self::Unreadable => "unreadable",
        }
    }
}

impl Store {
    /// Takes a condemned object off the list and sets its file aside. Blocks.
    pub fn condemn(&self, digest: &Digest, lease: &Arc<Lease>, finding: Finding) {
        lease.condemn();
        self.shared.quarantine(digest, lease, finding);
    }
}

impl Shared {
    /// The object of `digest` whose lease is `lease` leaves the index, and its file the place where content lies.
    pub(super) fn quarantine(&self, digest: &Digest, lease: &Arc<Lease>, finding: Finding) {
        {
            let mut index = self.index();
            // Another one may have come in its place.
            if !index
                .get(digest)
                .is_some_and(|entry| Arc::ptr_eq(&entry.lease, lease))
            {
                return;
            }
            index.remove(digest);
            index.removing.insert(*digest, 0);
        }
        tracing::error!(%digest, finding = finding.as_str(),
            "stored content is not what was proved; it is set aside and fetched again when it is asked for");
        self.tallies.condemned(finding.as_str());
        let (from, to) = (self.layout.blob(digest), self.layout.quarantine(digest));
        let disk = self.layout.disk();
        let set_aside = disk
            .remove(&self.layout.manifest(digest))
            .and_then(|()| disk.rename(&from, &to));
        let removed = match set_aside {
            Err(error) if error.kind() != io::ErrorKind::NotFound => disk.remove(&from),
            _ => self.empty_quarantine(&to),
        };
        // A power cut must not bring it back: it would be believed.
        let removed = removed.and_then(|()| disk.sync_directory(from.parent().unwrap_or(&from)));
        if let Err(error) = removed {
            tracing::warn!(%digest, %error, "content that is listed no more cannot be removed");
        }
        self.free_name(digest);
    }

    /// Keeps the quarantine within its bounds, and `newest` in it if that is possible.
    fn empty_quarantine(&self, newest: &Path) -> io::Result<()> {
        let mut files = self.layout.list_quarantine().unwrap_or_default();
        files.sort_by_key(|(path, metadata)| (path != newest, std::cmp::Reverse(metadata.accessed().ok())));
        let (budget, _) = self.look();
        let bytes_max = QUARANTINE_BYTES_MAX.min(budget.capacity_bytes / QUARANTINE_SHARE_DIVISOR);
        let mut bytes = 0;
        for (kept, (path, metadata)) in files.iter().enumerate() {
            bytes += allocated_bytes(metadata);
            if kept >= QUARANTINE_FILES_MAX || bytes > bytes_max {
                self.layout.disk().remove(path)?;
            }
        }
        Ok(())
    }

    /// An object could not be opened: whose fault that is decides whether it stays listed.
    pub(super) fn cannot_open(&self, digest: &Digest, lease: &Arc<Lease>, error: &io::Error) {
        match error.kind() {
            io::ErrorKind::NotFound if self.is_still_there() => {
                tracing::error!(%digest, "the file of a stored blob is gone");
                self.index().remove(digest);
            }
            io::ErrorKind::NotFound => {}
            _ if error.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                lease.condemn();
                self.quarantine(digest, lease, Finding::Unreadable);
            }
            // Descriptors that have run out come back.
            _ => tracing::error!(%digest, %error, is_disk_trouble = trouble::is_disk_trouble(error),
                "a stored blob cannot be opened"),
        }
    }
}
