//! Finds the files of containerd's configuration, through a read-only mount of its directory.

use std::collections::{BTreeSet, VecDeque};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Component, Path, PathBuf};

use globset::GlobBuilder;
use rustix::fs::{Dir, Mode, OFlags, ResolveFlags, openat2};

use super::{Malformed, Parsed, Verdict, judge, parse};

/// Where containerd begins.
const MAIN: &str = "config.toml";
/// The most files that are read; imports may go round in circles.
const FILES_MAX: usize = 64;
/// The largest file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The most names in a directory that is searched for a pattern.
const ENTRIES_MAX: usize = 4096;

/// The directory of containerd's configuration.
#[derive(Clone, Debug)]
pub struct Files {
    /// Where it is mounted here.
    pub mount: PathBuf,
    /// Where it is on the node.
    pub directory: PathBuf,
}

/// Why the configuration cannot be told. Names a file, never its content.
#[derive(Debug, thiserror::Error)]
pub enum Unreadable {
    /// A file cannot be opened or read.
    #[error("cannot read {path}: {source}")]
    File {
        /// On the node.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file has no sense.
    #[error("cannot understand {path}: {source}")]
    Malformed {
        /// On the node.
        path: PathBuf,
        /// Why.
        source: Malformed,
    },
    /// A file is outside the directory that we are shown.
    #[error("{0} is imported and lies outside spec.node.containerd.configDir")]
    Outside(PathBuf),
    /// There is no end of files.
    #[error("more than {FILES_MAX} files are imported")]
    TooMany,
}

impl Files {
    /// Whether containerd reads `hosts.toml` files in `certs_dir`, a directory on the node.
    ///
    /// # Errors
    /// The configuration cannot be read, or not understood.
    pub fn judge(&self, certs_dir: &str) -> Result<Verdict, Unreadable> {
        Ok(judge(&self.load()?, certs_dir))
    }

    fn load(&self) -> Result<Vec<Parsed>, Unreadable> {
        let failed = |path: &Path| {
            let path = path.to_owned();
            move |source| Unreadable::File { path, source }
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.mount, flags, Mode::empty())
            .map_err(|error| failed(&self.directory)(error.into()))?;
        let mut pending = VecDeque::from([self.directory.join(MAIN)]);
        let mut loaded = BTreeSet::new();
        let mut files = Vec::new();
        while let Some(path) = pending.pop_front() {
            if !loaded.insert(path.clone()) {
                continue;
            }
            if loaded.len() > FILES_MAX {
                return Err(Unreadable::TooMany);
            }
            let text = match self.read(&root, &path)? {
                Ok(text) => text,
                // containerd starts without its file, but not without one that is imported.
                Err(error) if error.kind() == io::ErrorKind::NotFound && files.is_empty() => break,
                Err(error) => return Err(failed(&path)(error)),
            };
            let parsed = parse(&text).map_err(|source| Unreadable::Malformed {
                path: path.clone(),
                source,
            })?;
            for import in &parsed.imports {
                pending.extend(self.resolve(&root, &path, import)?);
            }
            files.push(parsed);
        }
        Ok(files)
    }

    /// The path of a file on the node, below the directory.
    fn below<'a>(&self, path: &'a Path) -> Result<&'a Path, Unreadable> {
        path.strip_prefix(&self.directory)
            .map_err(|_| Unreadable::Outside(path.to_owned()))
    }

    fn read(&self, root: &OwnedFd, path: &Path) -> Result<io::Result<String>, Unreadable> {
        let below = self.below(path)?;
        let read = || {
            let mut text = String::new();
            // A pipe would keep us waiting for its other end.
            let file = File::from(open(root, below, OFlags::RDONLY | OFlags::NONBLOCK)?);
            file.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
            Ok(text)
        };
        Ok(read())
    }

    /// The files that an import means: as it is, or for a pattern those that match, sorted.
    fn resolve(&self, root: &OwnedFd, parent: &Path, import: &str) -> Result<Vec<PathBuf>, Unreadable> {
        let path = clean(&parent.parent().unwrap_or(parent).join(import));
        if !import.contains('*') {
            return Ok(vec![path]);
        }
        let pattern = path.to_string_lossy();
        let outside = || Unreadable::Outside(path.clone());
        let glob = GlobBuilder::new(&pattern)
            .literal_separator(true)
            .build()
            .map_err(|_| outside())?
            .compile_matcher();
        let Some(directory) = path
            .parent()
            .filter(|parent| !parent.to_string_lossy().contains('*'))
        else {
            return Err(outside());
        };
        let below = self.below(directory)?;
        let names = match list(root, below) {
            // A pattern that matches nothing is fine.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            names => names.map_err(|source| Unreadable::File {
                path: directory.to_owned(),
                source,
            })?,
        };
        let paths = names.into_iter().map(|name| directory.join(name));
        Ok(paths.filter(|path| glob.is_match(path)).collect())
    }
}

fn open(root: &OwnedFd, below: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    let below = if below.as_os_str().is_empty() {
        Path::new(".")
    } else {
        below
    };
    // Links within the directory count for containerd too; those that lead out mean something else here.
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    Ok(openat2(
        root,
        below,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )?)
}

fn list(root: &OwnedFd, below: &Path) -> io::Result<Vec<String>> {
    let dir = open(root, below, OFlags::RDONLY | OFlags::DIRECTORY)?;
    let mut names = Vec::new();
    for entry in Dir::read_from(dir)?.take(ENTRIES_MAX) {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

/// Without `.` and `..`, as containerd writes paths before it opens them.
fn clean(path: &Path) -> PathBuf {
    path.components().fold(PathBuf::new(), |mut clean, part| {
        match part {
            Component::ParentDir => {
                clean.pop();
            }
            Component::CurDir => {}
            part => clean.push(part),
        }
        clean
    })
}
