//! A fill's bytes when the disk does not take them: a bounded piece of the blob in memory that moves along with its
//! readers. It is an anonymous file, so that writing, reading and hashing are the same as on disk.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::{FallocateFlags, MemfdFlags, fallocate, memfd_create};

/// How much of one blob is held at the most.
pub(super) const WINDOW_BYTES: u64 = 4 << 20;

#[derive(Debug)]
pub(super) struct Window {
    file: Arc<File>,
}

impl Window {
    pub(super) fn new() -> io::Result<Self> {
        let file = memfd_create("larder-window", MemfdFlags::CLOEXEC)?;
        Ok(Self {
            file: Arc::new(file.into()),
        })
    }

    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// Writes `chunks` one behind the other from `offset` on. Takes no longer than copying them.
    pub(super) fn write(&self, offset: u64, chunks: &[Bytes]) -> io::Result<()> {
        let mut end = offset;
        for chunk in chunks {
            self.file.write_all_at(chunk, end)?;
            end += chunk.len() as u64;
        }
        Ok(())
    }

    /// Gives back the memory of what everybody has had.
    pub(super) fn drop_bytes(&self, range: Range<u64>) {
        if range.is_empty() {
            return;
        }
        let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        if let Err(error) = fallocate(&*self.file, flags, range.start, range.end - range.start) {
            tracing::debug!(%error, "cannot give memory back before the fill ends");
        }
    }
}
