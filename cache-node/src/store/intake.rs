//! Content that comes from somewhere else than an upstream: hashed on its way to the disk, and listed only then.

use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use super::admission::Reservation;
use super::{Error, Store, seal};
use crate::oci::{Digest, DigestHasher};

/// How much is read, hashed and written at once.
const CHUNK_BYTES: usize = 256 << 10;

/// Why content was not taken in. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// It cannot be kept.
    #[error(transparent)]
    Store(#[from] Error),
    /// It cannot be read, or ends early.
    #[error("cannot read {digest}")]
    Read {
        /// What it is called.
        digest: String,
        /// The reader's answer.
        #[source]
        source: io::Error,
    },
    /// It is something else than its name says.
    #[error("{digest} is not what its name says: it has the digest {found}")]
    Mismatch {
        /// What it is called.
        digest: String,
        /// What it is.
        found: String,
    },
}

impl Store {
    /// Keeps the `length` bytes of `content` if they have this digest. Has its own file, so that a fill of the same
    /// content is not disturbed. Blocks.
    ///
    /// # Errors
    /// The content is not what it should be, or cannot be kept.
    pub fn take_in(&self, digest: &Digest, length: u64, content: &mut dyn Read) -> Result<(), IntakeError> {
        let reservation = Reservation::new(Arc::clone(&self.shared), length)?;
        let temporary = self.shared.layout.temporary();
        let taken = self.receive(&temporary, digest, length, content);
        if taken.is_err() {
            let _ = self.shared.layout.disk().remove(&temporary);
        }
        drop(reservation);
        taken
    }

    fn receive(
        &self,
        temporary: &Path,
        digest: &Digest,
        length: u64,
        content: &mut dyn Read,
    ) -> Result<(), IntakeError> {
        let disk = self.shared.layout.disk();
        let unreadable = |source| IntakeError::Read {
            digest: digest.to_string(),
            source,
        };
        let file = disk.create_new(temporary).map_err(Error::io("make", temporary))?;
        if length > 0 {
            disk.allocate(&file, length)
                .map_err(Error::io("reserve space for", temporary))?;
        }
        let mut hasher = DigestHasher::new(digest.algorithm());
        let mut buffer = vec![0; CHUNK_BYTES];
        let mut left = length;
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
            let read = content.read(&mut buffer[..wanted]).map_err(unreadable)?;
            if read == 0 {
                return Err(unreadable(io::ErrorKind::UnexpectedEof.into()));
            }
            hasher.update(&buffer[..read]);
            disk.append(&file, &buffer[..read])
                .map_err(Error::io("write", temporary))?;
            left -= read as u64;
        }
        let found = hasher.finish();
        if found != *digest {
            return Err(IntakeError::Mismatch {
                digest: digest.to_string(),
                found: found.to_string(),
            });
        }
        self.shared.wait_for_name(digest);
        let path = self.shared.layout.blob(digest);
        let kept = (|| {
            seal::set(disk, &file, digest, length)?;
            disk.sync(&file)?;
            let metadata = file.metadata()?;
            self.shared.layout.move_durably(temporary, &path)?;
            Ok(metadata)
        })();
        self.shared
            .list(*digest, &kept.map_err(Error::io("keep", &path))?, None);
        Ok(())
    }
}
