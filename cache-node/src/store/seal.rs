//! The mark of a proved file that outlives the process: its modification time.
//!
//! The index is rebuilt from the directory, where a file that was truncated or overwritten while no process watched
//! looks like any other. So a proved file gets a modification time that follows from its digest and its length and
//! lies decades back: whoever writes to the file gives it another one.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, UNIX_EPOCH};

use super::Disk;
use crate::oci::Digest;

/// Seals lie within so many bits of seconds since the epoch: before 2004, where no clock stands that writes files.
/// Whole seconds, because some file systems keep no finer times.
const SECONDS_BITS: u32 = 30;
/// Spreads a length over all bits (the golden ratio of 2^64).
const LENGTH_FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
/// So many hex digits of a digest make a `u64`.
const HEX_DIGITS: usize = 16;

/// Seals the file of `length` bytes that has been proved to have `digest`.
pub(super) fn set(disk: &Disk, file: &File, digest: &Digest, length: u64) -> io::Result<()> {
    disk.set_modified(file, UNIX_EPOCH + Duration::from_secs(seconds(digest, length)))
}

/// Whether the file still is as it was when it was sealed for `digest`.
pub(super) fn holds(metadata: &Metadata, digest: &Digest) -> bool {
    u64::try_from(metadata.mtime()).is_ok_and(|found| found == seconds(digest, metadata.len()))
}

fn seconds(digest: &Digest, length: u64) -> u64 {
    let hex = digest.hex();
    let start = u64::from_str_radix(&hex[..HEX_DIGITS], 16).unwrap_or_default();
    (start ^ length.wrapping_mul(LENGTH_FACTOR)) >> (u64::BITS - SECONDS_BITS)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::oci::Algorithm;

    #[test]
    fn a_seal_breaks_with_any_change() {
        let mut file = tempfile::tempfile().unwrap();
        let content = b"content";
        let digest = Digest::of(Algorithm::Sha256, content);
        file.write_all(content).unwrap();
        assert!(!holds(&file.metadata().unwrap(), &digest), "not sealed yet");
        set(&Disk::default(), &file, &digest, 7).unwrap();
        assert!(holds(&file.metadata().unwrap(), &digest));
        let other = Digest::of(Algorithm::Sha256, b"other");
        assert!(!holds(&file.metadata().unwrap(), &other));
        // A torn file system may keep the time and lose the end.
        file.set_len(6).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(seconds(&digest, 7)))
            .unwrap();
        assert!(!holds(&file.metadata().unwrap(), &digest), "truncated");
        set(&Disk::default(), &file, &digest, 6).unwrap();
        file.write_all(b"!").unwrap();
        assert!(!holds(&file.metadata().unwrap(), &digest), "written to");
    }
}
