//! Reading files for clients: from the page cache without leaving the runtime's thread, else on a thread that may
//! wait for the disk.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// What one read brings at the most: large enough to make system calls rare, small enough to stay in the CPU's
/// cache and to keep two hundred readers within some megabytes.
pub const CHUNK_BYTES_MAX: usize = 64 << 10;

/// Reads up to [`CHUNK_BYTES_MAX`] of the `wanted` bytes at `offset`. Never empty.
///
/// # Errors
/// The read failed, or `offset` lies at or behind the file's end ([`io::ErrorKind::UnexpectedEof`]).
pub async fn read_chunk(file: &Arc<File>, offset: u64, wanted: u64) -> io::Result<Bytes> {
    let size = usize::try_from(wanted).unwrap_or(usize::MAX).min(CHUNK_BYTES_MAX);
    let mut buffer = BytesMut::zeroed(size);
    let cached = preadv2(
        file,
        &mut [IoSliceMut::new(&mut buffer)],
        offset,
        ReadWriteFlags::NOWAIT,
    );
    let read = match cached {
        Ok(read) => read,
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS) => {
            let file = Arc::clone(file);
            let read = tokio::task::spawn_blocking(move || {
                let read = file.read_at(&mut buffer, offset)?;
                Ok::<_, io::Error>((buffer, read))
            });
            let read = read.await.map_err(io::Error::other)??;
            buffer = read.0;
            read.1
        }
        Err(errno) => return Err(errno.into()),
    };
    if read == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    buffer.truncate(read);
    Ok(buffer.freeze())
}
