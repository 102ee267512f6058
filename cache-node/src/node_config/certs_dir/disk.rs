//! System calls beneath an opened directory, each change a function of its own, so that a test can stop the world after
//! any of them.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, Dir, FileType, Mode, OFlags, RenameFlags, ResolveFlags, Timespec, Timestamps, UTIME_OMIT,
    fchmod, fstat, fsync, futimens, mkdirat, openat2, renameat, renameat_with, unlinkat,
};
use rustix::io::Errno;

use crate::node_config::marker::Mtime;

/// Anybody may read what the runtime is told.
const FILE_MODE: Mode = Mode::from_raw_mode(0o644);
const DIRECTORY_MODE: Mode = Mode::from_raw_mode(0o755);
/// The most entries of a directory that are looked at.
const ENTRIES_MAX: usize = 4096;

/// What an entry turned out to be.
#[derive(Debug)]
pub(super) enum Entry<T> {
    /// What was asked for.
    There(T),
    /// Nothing.
    Absent,
    /// Something that is not looked into, and why.
    Opaque(&'static str),
}

/// Opens the directory that all else lies beneath.
pub(super) fn root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(path, flags, Mode::empty())?)
}

fn open_beneath(dir: impl AsFd, name: &str, flags: OFlags) -> io::Result<Entry<OwnedFd>> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    // A pipe would keep us waiting for its other end.
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    match openat2(dir, name, flags, Mode::empty(), resolve) {
        Ok(file) => Ok(Entry::There(file)),
        Err(Errno::NOENT) => Ok(Entry::Absent),
        Err(Errno::LOOP | Errno::XDEV) => Ok(Entry::Opaque("it is a symbolic link")),
        Err(Errno::NOTDIR) => Ok(Entry::Opaque("it is not a directory")),
        Err(Errno::ACCESS | Errno::PERM) => Ok(Entry::Opaque("it may not be read")),
        Err(Errno::NXIO) => Ok(Entry::Opaque("it is not a file")),
        Err(error) => Err(error.into()),
    }
}

/// Opens a directory.
pub(super) fn open_dir(dir: &OwnedFd, name: &str) -> io::Result<Entry<OwnedFd>> {
    open_beneath(dir, name, OFlags::RDONLY | OFlags::DIRECTORY)
}

/// The content of a file of at most `bytes_max`.
pub(super) fn read(dir: &OwnedFd, name: &str, bytes_max: usize) -> io::Result<Entry<Vec<u8>>> {
    let file = match open_beneath(dir, name, OFlags::RDONLY)? {
        Entry::There(file) => file,
        Entry::Absent => return Ok(Entry::Absent),
        Entry::Opaque(why) => return Ok(Entry::Opaque(why)),
    };
    if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
        return Ok(Entry::Opaque("it is not a file"));
    }
    let mut bytes = Vec::new();
    let limit = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    File::from(file)
        .take(limit.saturating_add(1))
        .read_to_end(&mut bytes)?;
    if bytes.len() > bytes_max {
        return Ok(Entry::Opaque("it is too large"));
    }
    Ok(Entry::There(bytes))
}

/// The names in a directory, sorted. What is not Unicode is no name of ours, nor of a registry.
pub(super) fn list(dir: &OwnedFd) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)? {
        let entry = entry?;
        if let Ok(name) = entry.file_name().to_str()
            && name != "."
            && name != ".."
        {
            if names.len() == ENTRIES_MAX {
                return Err(io::Error::other("the directory has too many entries"));
            }
            names.push(name.to_owned());
        }
    }
    names.sort_unstable();
    Ok(names)
}

/// When a directory was last modified.
pub(super) fn mtime(dir: &OwnedFd) -> io::Result<Mtime> {
    let stat = fstat(dir)?;
    Ok(Mtime {
        seconds: stat.st_mtime,
        nanoseconds: u32::try_from(stat.st_mtime_nsec).unwrap_or_default(),
    })
}

/// Everything that changes something.
#[derive(Debug, Default)]
pub(super) struct Disk {
    /// How many more steps there are before the power goes.
    #[cfg(test)]
    pub(super) steps_left: Option<std::sync::atomic::AtomicU32>,
}

impl Disk {
    #[cfg(not(test))]
    #[expect(clippy::unused_self, clippy::unnecessary_wraps, reason = "tests stop here")]
    fn step(&self) -> io::Result<()> {
        Ok(())
    }

    #[cfg(test)]
    fn step(&self) -> io::Result<()> {
        use std::sync::atomic::Ordering;
        let Some(left) = &self.steps_left else {
            return Ok(());
        };
        left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
            .map(drop)
            .map_err(|_| io::Error::other("the power is gone"))
    }

    /// Makes a file with this text, on disk when this returns.
    pub(super) fn create(&self, dir: &OwnedFd, name: &str, text: &str) -> io::Result<()> {
        self.step()?;
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let mut file = File::from(openat2(dir, name, flags, FILE_MODE, resolve)?);
        self.step()?;
        let (first, second) = text.as_bytes().split_at(text.len() / 2);
        file.write_all(first)?;
        self.step()?;
        file.write_all(second)?;
        // Whatever the umask has left of it.
        fchmod(&file, FILE_MODE)?;
        self.step()?;
        Ok(fsync(&file)?)
    }

    pub(super) fn make_dir(&self, dir: &OwnedFd, name: &str) -> io::Result<()> {
        self.step()?;
        mkdirat(dir, name, DIRECTORY_MODE)?;
        self.step()?;
        Ok(rustix::fs::chmodat(dir, name, DIRECTORY_MODE, AtFlags::empty())?)
    }

    pub(super) fn rename(&self, dir: &OwnedFd, from: &str, to: &str) -> io::Result<()> {
        self.step()?;
        Ok(renameat(dir, from, dir, to)?)
    }

    /// Fails when there is something at `to`.
    pub(super) fn rename_to_nothing(
        &self,
        from_dir: &OwnedFd,
        from: &str,
        to_dir: &OwnedFd,
        to: &str,
    ) -> io::Result<()> {
        self.step()?;
        Ok(renameat_with(from_dir, from, to_dir, to, RenameFlags::NOREPLACE)?)
    }

    pub(super) fn exchange(&self, dir: &OwnedFd, one: &str, other: &str) -> io::Result<()> {
        self.step()?;
        Ok(renameat_with(dir, one, dir, other, RenameFlags::EXCHANGE)?)
    }

    pub(super) fn unlink(&self, dir: &OwnedFd, name: &str) -> io::Result<()> {
        self.step()?;
        Ok(unlinkat(dir, name, AtFlags::empty())?)
    }

    pub(super) fn remove_dir(&self, dir: &OwnedFd, name: &str) -> io::Result<()> {
        self.step()?;
        Ok(unlinkat(dir, name, AtFlags::REMOVEDIR)?)
    }

    pub(super) fn set_mtime(&self, dir: &OwnedFd, mtime: Mtime) -> io::Result<()> {
        self.step()?;
        let time = |tv_sec, tv_nsec| Timespec { tv_sec, tv_nsec };
        let times = Timestamps {
            last_access: time(0, UTIME_OMIT),
            last_modification: time(mtime.seconds, mtime.nanoseconds.into()),
        };
        Ok(futimens(dir, &times)?)
    }

    pub(super) fn sync(&self, dir: &OwnedFd) -> io::Result<()> {
        self.step()?;
        Ok(fsync(dir)?)
    }
}
