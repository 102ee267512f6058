//! The cache directory before the first cache and after the last: given to the cache's user, and removed.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use larder_crds::names::CACHE_UID;
use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Uid, chownat, fstat, openat2, statat,
};
use rustix::process::{getegid, geteuid};

/// Deeper than any cache; each level holds a file open.
const DEPTH_MAX: usize = 64;
/// Of the directory, where it is made.
const DIRECTORY_MODE: u32 = 0o755;
/// How a directory inside is opened: never through a link, never another file system.
const INSIDE: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);
const BENEATH: ResolveFlags = ResolveFlags::BENEATH
    .union(ResolveFlags::NO_SYMLINKS)
    .union(ResolveFlags::NO_XDEV);

/// Makes the directory where it is missing, and gives it and all that is in it to the cache's user. A directory is given
/// away after its content, so that one that is the cache's already needs no look, and a crash in the middle is finished
/// the next time. Symbolic links are given away, never followed; what is mounted inside is left.
///
/// # Errors
/// It cannot be made, or something cannot be given away.
pub fn prepare(directory: &Path) -> io::Result<()> {
    match rustix::fs::mkdir(directory, Mode::from_raw_mode(DIRECTORY_MODE)) {
        Ok(()) | Err(rustix::io::Errno::EXIST) => {}
        Err(error) => return Err(error.into()),
    }
    let id = u32::try_from(CACHE_UID).map_err(io::Error::other)?;
    let (uid, gid) = (Uid::from_raw(id), Gid::from_raw(id));
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(directory, flags, Mode::empty());
    match root {
        Ok(root) if !is_owned(&fstat(&root)?, uid, gid) => {
            give_content(&root, uid, gid, DEPTH_MAX)?;
            Ok(chownat(&root, "", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?)
        }
        Ok(_) => Ok(()),
        // Without a capability root may not look into what it has given away.
        Err(rustix::io::Errno::ACCESS) if is_owned(&statat(CWD, directory, AtFlags::empty())?, uid, gid) => {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Gives away all that is in a directory, each directory after its content.
fn give_content(dir: &OwnedFd, uid: Uid, gid: Gid, depth: usize) -> io::Result<()> {
    each_entry(dir, depth, |name, stat, is_directory| {
        if is_owned(stat, uid, gid) {
            return Ok(());
        }
        if is_directory {
            match openat2(dir, name, INSIDE, Mode::empty(), BENEATH) {
                Ok(inner) => give_content(&inner, uid, gid, depth - 1)?,
                Err(rustix::io::Errno::XDEV) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(chownat(
            dir,
            name,
            Some(uid),
            Some(gid),
            AtFlags::SYMLINK_NOFOLLOW,
        )?)
    })
}

/// Takes all directories in a directory, each before those in it.
fn take_directories(dir: &OwnedFd, uid: Uid, gid: Gid, depth: usize) -> io::Result<()> {
    each_entry(dir, depth, |name, _, is_directory| {
        if !is_directory {
            return Ok(());
        }
        chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
        match openat2(dir, name, INSIDE, Mode::empty(), BENEATH) {
            Ok(inner) => take_directories(&inner, uid, gid, depth - 1),
            Err(rustix::io::Errno::XDEV) => Ok(()),
            Err(error) => Err(error.into()),
        }
    })
}

/// Visits what is in a directory that lies at most `depth` levels above the deepest one.
fn each_entry(
    dir: &OwnedFd,
    depth: usize,
    mut visit: impl FnMut(&CStr, &Stat, bool) -> io::Result<()>,
) -> io::Result<()> {
    if depth == 0 {
        return Err(io::Error::other("the cache directory is nested too deeply"));
    }
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if !matches!(name.to_bytes(), b"." | b"..") {
            let stat = statat(dir.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW)?;
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            visit(name, &stat, is_directory)?;
        }
    }
    Ok(())
}

fn is_owned(stat: &Stat, uid: Uid, gid: Gid) -> bool {
    stat.st_uid == uid.as_raw() && stat.st_gid == gid.as_raw()
}

/// Removes the directory with all that is in it, and leaves the one that it lies in as it was. There may be none.
///
/// # Errors
/// Something cannot be removed.
pub fn purge(directory: &Path) -> io::Result<()> {
    let (uid, gid) = (geteuid(), getegid());
    // Without a capability root may change only what is its own, so it first takes back what it gave away.
    match chownat(CWD, directory, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW) {
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        taken => taken?,
    }
    take_directories(
        &rustix::fs::open(directory, INSIDE, Mode::empty())?,
        uid,
        gid,
        DEPTH_MAX,
    )?;
    // Follows no symbolic link.
    std::fs::remove_dir_all(directory)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree() -> (tempfile::TempDir, tempfile::TempDir) {
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir_all(dir.path().join("blobs/sha256/ab")).unwrap();
        fs::write(dir.path().join("blobs/sha256/ab/abcd"), "x").unwrap();
        fs::write(outside.path().join("secret"), "x").unwrap();
        symlink(outside.path(), dir.path().join("blobs/link")).unwrap();
        (dir, outside)
    }

    #[test]
    fn purge_removes_it_and_stays_inside() {
        let (dir, outside) = tree();
        fs::write(dir.path().join("tags.jsonl"), "x").unwrap();
        purge(dir.path()).unwrap();
        assert!(!dir.path().try_exists().unwrap());
        assert!(outside.path().join("secret").is_file());
        // What is gone is gone, and a link is not what it leads to.
        purge(dir.path()).unwrap();
        symlink(outside.path(), dir.path()).unwrap();
        assert!(purge(dir.path()).is_err());
        assert!(outside.path().join("secret").is_file());
        fs::remove_file(dir.path()).unwrap();
    }
}
