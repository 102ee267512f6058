//! One process per cache directory: two would each count only what is their own, and remove what the other needs.
//!
//! The lock is an advisory one on the open file `lock` (flock(2)). It belongs to the open file, not to the process, so that
//! a process can hand it to its successor together with the descriptor, and it ends with whoever holds it last.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::{Disk, Error, trouble};

/// The right to change a cache directory, for as long as it lives.
#[derive(Debug)]
pub(super) struct Lock {
    /// None where the disk does not even take an empty file: nobody else can write there either.
    _file: Option<File>,
}

/// Takes the lock of the directory `root`. Does not wait for another holder.
///
/// # Errors
/// [`Error::Locked`], or the file cannot be opened.
pub(super) fn take(disk: &Disk, root: &Path) -> Result<Lock, Error> {
    let path = root.join("lock");
    let file = match File::open(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => disk.open_or_create(&path),
        opened => opened,
    };
    let file = match file {
        Ok(file) => file,
        Err(error) if trouble::is_disk_trouble(&error) => return Ok(Lock { _file: None }),
        Err(error) => return Err(Error::io("open", &path)(error)),
    };
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Lock { _file: Some(file) }),
        Err(Errno::WOULDBLOCK) => Err(Error::Locked {
            path: root.display().to_string(),
        }),
        // A file system without locks: nothing can be said about others.
        Err(Errno::NOSYS | Errno::OPNOTSUPP | Errno::NOLCK) => Ok(Lock { _file: None }),
        Err(errno) => Err(Error::io("lock", &path)(errno.into())),
    }
}
