//! The only code that touches the runtime's `certs.d`. Nothing outside it is ever reached: every path is resolved beneath
//! the opened directory, through no symbolic link, and every change names one entry of an opened directory.
//!
//! Each change takes effect in one step (a rename), and what it needs besides lies under names that containerd does not
//! read (it reads `hosts.toml`, `*.crt`, `*.cert` and `*.key`). So a crash leaves the old or the new file, and
//! [`CertsDir::open`] clears up behind it. A lock on the directory keeps the mirrors of one node apart.
//!
//! An original is exchanged with ours and so lies aside, never copied: when it comes back it is the same file.

mod disk;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use super::foreign::{Found, Hosts, Place};
use super::marker::{Directory, Marker, Mtime, Owner};
use disk::{Disk, Entry};

/// What the runtime reads in the directory of a registry.
const HOSTS: &str = "hosts.toml";
/// A file of ours that is being written: nobody's until it is renamed.
const NEW: &str = ".larder-new";
/// What was at [`HOSTS`] before ours. With our marker: ours, that has not got there.
const ORIGINAL: &str = ".larder-original";
/// Before the name of a directory that is being made or removed, with a file of ours in it.
const HIDDEN: &str = ".larder-dir-";
/// The largest `hosts.toml` that is looked at.
const FILE_BYTES_MAX: usize = 256 << 10;

/// The opened and locked directory.
#[derive(Debug)]
pub(super) struct CertsDir {
    root: OwnedFd,
    disk: Disk,
}

impl CertsDir {
    /// Opens the directory, waits until no other mirror is at it, and finishes what a crash has left.
    ///
    /// # Errors
    /// It is not there, or not ours to change.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Self::with(path, Disk::default())
    }

    fn with(path: &Path, disk: Disk) -> io::Result<Self> {
        let root = disk::root(path)?;
        flock(&root, FlockOperation::LockExclusive)?;
        let this = Self { root, disk };
        this.recover()?;
        Ok(this)
    }

    /// The names of all directories in it.
    ///
    /// # Errors
    /// It cannot be read.
    pub(super) fn names(&self) -> io::Result<Vec<String>> {
        let mut names = disk::list(&self.root)?;
        names.retain(|name| {
            is_visible(name) && matches!(disk::open_dir(&self.root, name), Ok(Entry::There(_)))
        });
        Ok(names)
    }

    /// What is in the directory `name`.
    ///
    /// # Errors
    /// It cannot be told.
    pub(super) fn look(&self, name: &str) -> io::Result<Place> {
        if !is_visible(name) {
            return Ok(Place::Opaque("its name is none of a registry's"));
        }
        let dir = match disk::open_dir(&self.root, name)? {
            Entry::There(dir) => dir,
            Entry::Absent => return Ok(Place::Absent),
            Entry::Opaque(why) => return Ok(Place::Opaque(why)),
        };
        let entries = disk::list(&dir)?;
        let certificates = entries.iter().filter(|name| {
            let ends_with = |ending| name.ends_with(ending);
            ends_with(".crt") || ends_with(".cert") || ends_with(".key")
        });
        Ok(Place::Directory(Found {
            hosts: read(&dir, HOSTS)?,
            original: read(&dir, ORIGINAL)?,
            certificates: certificates.cloned().collect(),
            mtime: disk::mtime(&dir)?,
        }))
    }

    /// Writes `body` as `hosts.toml` of the directory `name`, signed by `owner`. What [`CertsDir::look`] has just found
    /// there lies aside from then on. Returns whether there was anything to change.
    ///
    /// # Errors
    /// Nothing has changed then, or only what [`CertsDir::open`] puts right.
    pub(super) fn write(&self, name: &str, place: &Place, owner: &Owner, body: &str) -> io::Result<bool> {
        let sign = |directory| {
            let owner = owner.clone();
            Marker { owner, directory }.sign(body)
        };
        if !is_visible(name) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let found = match place {
            Place::Absent => {
                let directory = Directory::Made(self.mtime_before_us()?);
                return self.make(name, &sign(directory)).map(|()| true);
            }
            Place::Directory(found) => found,
            Place::Opaque(why) => return Err(io::Error::other(*why)),
        };
        let dir = self.dir(name)?;
        match &found.hosts {
            Hosts::Marked { marker, text, .. } => {
                let new = sign(marker.directory);
                if new == *text {
                    return Ok(false);
                }
                self.disk.create(&dir, NEW, &new)?;
                self.disk.rename(&dir, NEW, HOSTS)?;
            }
            Hosts::Absent => {
                self.disk
                    .create(&dir, NEW, &sign(Directory::Found(found.mtime)))?;
                self.disk.rename_to_nothing(&dir, NEW, &dir, HOSTS)?;
            }
            Hosts::Foreign(_) | Hosts::Opaque(_) => {
                self.disk
                    .create(&dir, NEW, &sign(Directory::Found(found.mtime)))?;
                self.disk.rename(&dir, NEW, ORIGINAL)?;
                self.disk.exchange(&dir, ORIGINAL, HOSTS)?;
            }
        }
        self.disk.sync(&dir)?;
        Ok(true)
    }

    /// Takes back our file from the directory `name`, and restores what was there before.
    ///
    /// # Errors
    /// It is still there, or only what [`CertsDir::open`] puts right is missing.
    pub(super) fn withdraw(&self, name: &str, found: &Found, directory: Directory) -> io::Result<()> {
        let dir = self.dir(name)?;
        match (directory, &found.original) {
            (_, Hosts::Foreign(_) | Hosts::Opaque(_)) => self.disk.rename(&dir, ORIGINAL, HOSTS)?,
            (Directory::Made(before), _) if disk::list(&dir)? == [HOSTS] => {
                self.remove(name)?;
                self.disk.set_mtime(&self.root, before)?;
                return self.disk.sync(&self.root);
            }
            _ => self.disk.unlink(&dir, HOSTS)?,
        }
        if let Directory::Found(mtime) = directory {
            self.disk.set_mtime(&dir, mtime)?;
        }
        self.disk.sync(&dir)
    }

    /// A directory appears with its file, or not at all: an empty one would hide the default directory.
    fn make(&self, name: &str, text: &str) -> io::Result<()> {
        let hidden = hidden(name);
        self.disk.make_dir(&self.root, &hidden)?;
        let dir = self.dir(&hidden)?;
        self.disk.create(&dir, NEW, text)?;
        self.disk.rename(&dir, NEW, HOSTS)?;
        self.disk.sync(&dir)?;
        self.disk
            .rename_to_nothing(&self.root, &hidden, &self.root, name)?;
        self.disk.sync(&self.root)
    }

    /// The reverse of [`Self::make`].
    fn remove(&self, name: &str) -> io::Result<()> {
        let hidden = hidden(name);
        self.disk
            .rename_to_nothing(&self.root, name, &self.root, &hidden)?;
        self.remove_hidden(&hidden)
    }

    fn remove_hidden(&self, hidden: &str) -> io::Result<()> {
        let dir = self.dir(hidden)?;
        if is_in(&dir, NEW)? {
            self.disk.unlink(&dir, NEW)?;
        }
        if let Hosts::Marked { .. } = read(&dir, HOSTS)? {
            self.disk.unlink(&dir, HOSTS)?;
        }
        match self.disk.remove_dir(&self.root, hidden) {
            // Somebody has just put something there: it stays, where they put it.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                let name = hidden.trim_start_matches(HIDDEN);
                self.disk.rename_to_nothing(&self.root, hidden, &self.root, name)
            }
            removed => removed,
        }
    }

    /// When the directory was last modified, before there was any of ours.
    fn mtime_before_us(&self) -> io::Result<Mtime> {
        let mut before = disk::mtime(&self.root)?;
        for name in self.names()? {
            if let Place::Directory(found) = self.look(&name)?
                && let Hosts::Marked { marker, .. } = found.hosts
                && let Directory::Made(mtime) = marker.directory
            {
                before = before.min(mtime);
            }
        }
        Ok(before)
    }

    /// Afterwards there are an original and a file of ours, or neither, and nothing else of ours.
    fn recover(&self) -> io::Result<()> {
        for name in disk::list(&self.root)? {
            if name.starts_with(HIDDEN) {
                self.remove_hidden(&name)?;
            } else if let Ok(Entry::There(dir)) = disk::open_dir(&self.root, &name) {
                self.recover_dir(&dir)?;
            }
        }
        Ok(())
    }

    fn recover_dir(&self, dir: &OwnedFd) -> io::Result<()> {
        if is_in(dir, NEW)? {
            self.discard(dir, NEW)?;
        }
        match (read(dir, ORIGINAL)?, read(dir, HOSTS)?) {
            (Hosts::Absent, _) => Ok(()),
            // Ours never got to its place.
            (Hosts::Marked { .. }, _) => self.discard(dir, ORIGINAL),
            (_, Hosts::Marked { .. }) => Ok(()),
            // Somebody has removed ours: what was before it counts again.
            (_, Hosts::Absent) => self.disk.rename(dir, ORIGINAL, HOSTS),
            // Somebody has replaced ours: that is what was meant to be there.
            (_, Hosts::Foreign(_) | Hosts::Opaque(_)) => self.disk.unlink(dir, ORIGINAL),
        }
    }

    /// Removes a file that never got to its place, and what it did to the directory's time, if it says that.
    fn discard(&self, dir: &OwnedFd, name: &str) -> io::Result<()> {
        let file = read(dir, name)?;
        self.disk.unlink(dir, name)?;
        if let Hosts::Marked { marker, .. } = file
            && let Directory::Found(mtime) = marker.directory
        {
            self.disk.set_mtime(dir, mtime)?;
        }
        Ok(())
    }

    fn dir(&self, name: &str) -> io::Result<OwnedFd> {
        match disk::open_dir(&self.root, name)? {
            Entry::There(dir) => Ok(dir),
            Entry::Absent => Err(io::ErrorKind::NotFound.into()),
            Entry::Opaque(why) => Err(io::Error::other(why)),
        }
    }
}

fn hidden(name: &str) -> String {
    format!("{HIDDEN}{name}")
}

/// Whether an entry can be the directory of a registry: no host begins with a dot.
fn is_visible(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0'])
}

fn is_in(dir: &OwnedFd, name: &str) -> io::Result<bool> {
    Ok(disk::list(dir)?.iter().any(|entry| entry == name))
}

fn read(dir: &OwnedFd, name: &str) -> io::Result<Hosts> {
    let text = match disk::read(dir, name, FILE_BYTES_MAX)? {
        Entry::There(bytes) => String::from_utf8(bytes),
        Entry::Absent => return Ok(Hosts::Absent),
        Entry::Opaque(why) => return Ok(Hosts::Opaque(why)),
    };
    let Ok(text) = text else {
        return Ok(Hosts::Opaque("hosts.toml is not text"));
    };
    Ok(match Marker::find(&text) {
        Some((marker, is_intact)) => Hosts::Marked {
            marker,
            is_intact,
            text,
        },
        None => Hosts::Foreign(text),
    })
}

#[cfg(test)]
mod tests;
