//! Where things lie in the cache directory. Names come from digests alone, never from what a client wrote.

use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};

use super::{Disk, Error};
use crate::oci::{Algorithm, Digest};

/// The folders and files of a cache directory:
///
/// ```text
/// blobs/sha256/ab/<hex>            proved content
/// manifests/sha256/<hex>           the media type of a manifest whose content lies under blobs/
/// partials/sha256/<hex>.data       the bytes of an unfinished fill
/// partials/sha256/<hex>.journal    which of them are there
/// quarantine/<hex>                 content that was found to have changed, for a person to look at
/// tmp/                             files on their way to their name; emptied at start
/// tags.jsonl                       the tag ledger
/// rights.jsonl                     whose content it is
/// layout.json                      the layout's version, and which directory this is
/// scrub                            the digest that the scrub hashes next
/// lock                             locked by the process that uses the directory
/// ```
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
    disk: Disk,
}

impl Layout {
    pub(super) fn new(root: &Path, disk: Disk) -> Self {
        Self {
            root: root.to_owned(),
            disk,
        }
    }

    /// Makes the folders, but for those of blobs' first digits. All of them, those too, have their names for good afterwards,
    /// whoever made them: what lies in a folder that a power cut takes away is lost, however well it was synced.
    pub(super) fn make_folders(&self) -> Result<(), Error> {
        let mut folders: Vec<_> = ["tmp", "blobs", "manifests", "partials", "quarantine"]
            .map(|name| self.root.join(name))
            .into();
        for algorithm in Algorithm::ALL {
            folders.extend([
                self.blobs(algorithm),
                self.manifests(algorithm),
                self.partials(algorithm),
            ]);
        }
        for folder in folders {
            self.disk
                .create_directory(&folder)
                .map_err(Error::io("make", &folder))?;
        }
        let mut above = vec![self.root.clone()];
        above.extend(["blobs", "manifests", "partials"].map(|name| self.root.join(name)));
        above.extend(Algorithm::ALL.map(|algorithm| self.blobs(algorithm)));
        for folder in above {
            self.disk
                .sync_directory(&folder)
                .map_err(Error::io("sync", &folder))?;
        }
        Ok(())
    }

    /// Removes what an earlier process left on its way to its name.
    pub(super) fn empty_temporary(&self) -> Result<(), Error> {
        let folder = self.root.join("tmp");
        for (_, entry) in entries(&folder)? {
            let path = entry.path();
            self.disk.remove(&path).map_err(Error::io("remove", &path))?;
        }
        Ok(())
    }

    /// Whether there is a folder of blobs.
    pub(super) fn has_blobs(&self) -> bool {
        let folder = self.blobs(Algorithm::Sha256);
        fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_some())
    }

    /// How files are changed.
    pub(super) fn disk(&self) -> &Disk {
        &self.disk
    }

    fn blobs(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("blobs").join(algorithm.as_str())
    }

    fn manifests(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("manifests").join(algorithm.as_str())
    }

    fn partials(&self, algorithm: Algorithm) -> PathBuf {
        self.root.join("partials").join(algorithm.as_str())
    }

    /// The file of proved content.
    pub(super) fn blob(&self, digest: &Digest) -> PathBuf {
        let hex = digest.hex();
        self.blobs(digest.algorithm()).join(&hex[..2]).join(hex)
    }

    /// The file that holds a manifest's media type.
    pub(super) fn manifest(&self, digest: &Digest) -> PathBuf {
        self.manifests(digest.algorithm()).join(digest.hex())
    }

    /// The file of an unfinished fill's bytes.
    pub(super) fn partial_data(&self, digest: &Digest) -> PathBuf {
        self.partials(digest.algorithm())
            .join(format!("{}.data", digest.hex()))
    }

    /// The file that says which bytes of an unfinished fill are there.
    pub(super) fn partial_journal(&self, digest: &Digest) -> PathBuf {
        self.partials(digest.algorithm())
            .join(format!("{}.journal", digest.hex()))
    }

    /// The tag ledger's file.
    pub fn tag_ledger(&self) -> PathBuf {
        self.root.join("tags.jsonl")
    }

    /// The file of access rights.
    pub fn rights(&self) -> PathBuf {
        self.root.join("rights.jsonl")
    }

    /// Writes `content` under `path` so that a reader, and a crash, find either all of it or what was there before.
    ///
    /// # Errors
    /// A file operation failed; `path` is as it was, or as it is to be and may be lost in a power cut.
    pub fn write_atomically(&self, path: &Path, content: &[u8]) -> Result<File, Error> {
        self.write_and_finish(path, content, |_| Ok(()))
    }

    /// The same, with `finish` called before the file reaches the disk and gets its name.
    pub(super) fn write_and_finish(
        &self,
        path: &Path,
        content: &[u8],
        finish: impl FnOnce(&File) -> io::Result<()>,
    ) -> Result<File, Error> {
        let temporary = self.temporary();
        let written = (|| {
            let file = self.disk.create_new(&temporary)?;
            self.disk.append(&file, content)?;
            finish(&file)?;
            self.disk.sync(&file)?;
            self.move_durably(&temporary, path)?;
            Ok(file)
        })();
        written.map_err(|error| {
            let _ = self.disk.remove(&temporary);
            Error::io("write", path)(error)
        })
    }

    /// A name for a file on its way to its own.
    pub(super) fn temporary(&self) -> PathBuf {
        // What an earlier process left may not have been removable.
        let name = format!("{:016x}", fastrand::u64(..));
        self.root.join("tmp").join(name)
    }

    /// Renames `from` to `to`, whose folder is made when it is the first of its kind, so that it survives a power cut.
    pub(super) fn move_durably(&self, from: &Path, to: &Path) -> io::Result<()> {
        let Some(folder) = to.parent() else {
            return self.disk.rename(from, to);
        };
        match self.disk.rename(from, to) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.disk.create_directory(folder)?;
                if let Some(above) = folder.parent() {
                    self.disk.sync_directory(above)?;
                }
                self.disk.rename(from, to)?;
            }
            renamed => renamed?,
        }
        self.disk.sync_directory(folder)
    }

    /// The cache directory.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Writes and syncs this many bytes, and removes them.
    pub(super) fn try_write(&self, bytes: usize) -> Result<(), Error> {
        let path = self.root.join("tmp").join("check");
        self.write_atomically(&path, &vec![0; bytes])?;
        self.disk.remove(&path).map_err(Error::io("remove", &path))
    }

    /// Every proved blob with what the file system says of it. What cannot be looked at is left out.
    pub(super) fn list_blobs(&self) -> Result<Vec<(Digest, Metadata)>, Error> {
        let mut found = Vec::new();
        for algorithm in Algorithm::ALL {
            for (_, shard) in entries(&self.blobs(algorithm))? {
                let Ok(files) = entries(&shard.path()) else {
                    tracing::warn!(path = %shard.path().display(), "no folder of blobs, or unreadable; left alone");
                    continue;
                };
                for (name, entry) in files {
                    let digest = Digest::from_hex(algorithm, &name).ok();
                    match digest.zip(entry.metadata().ok().filter(Metadata::is_file)) {
                        Some(blob) => found.push(blob),
                        None => tracing::warn!(path = %entry.path().display(), "not a blob; left alone"),
                    }
                }
            }
        }
        Ok(found)
    }

    /// The digests that have a media type on record.
    pub(super) fn list_manifests(&self) -> Result<Vec<Digest>, Error> {
        let mut found = Vec::new();
        for algorithm in Algorithm::ALL {
            let names = entries(&self.manifests(algorithm))?;
            found.extend(
                names
                    .iter()
                    .filter_map(|(name, _)| Digest::from_hex(algorithm, name).ok()),
            );
        }
        Ok(found)
    }

    /// The digests of unfinished fills that can be continued, with what the file system says of their data. Removes what
    /// nobody can use: files of blobs that are `complete`, and data without its journal or the other way round.
    pub(super) fn list_partials(
        &self,
        is_complete: impl Fn(&Digest) -> bool,
    ) -> Result<Vec<(Digest, Metadata)>, Error> {
        let mut found = Vec::new();
        for algorithm in Algorithm::ALL {
            for (name, entry) in entries(&self.partials(algorithm))? {
                let hex = name.split('.').next().unwrap_or_default();
                let usable = Digest::from_hex(algorithm, hex).ok().filter(|digest| {
                    !is_complete(digest)
                        && is_file(&self.partial_data(digest))
                        && is_file(&self.partial_journal(digest))
                });
                let path = entry.path();
                match (usable, entry.metadata()) {
                    (Some(digest), Ok(metadata)) if path == self.partial_data(&digest) => {
                        found.push((digest, metadata));
                    }
                    (Some(_), _) => {}
                    (None, _) => self.disk.remove(&path).map_err(Error::io("remove", &path))?,
                }
            }
        }
        Ok(found)
    }

    /// Where the scrub is in its round.
    pub(super) fn scrub_position(&self) -> PathBuf {
        self.root.join("scrub")
    }

    /// What the file system says of the files that lie beside content.
    pub(super) fn list_ledgers(&self) -> Result<Vec<Metadata>, Error> {
        let files = entries(&self.root)?.into_iter();
        Ok(files
            .filter_map(|(_, entry)| entry.metadata().ok())
            .filter(Metadata::is_file)
            .collect())
    }

    /// Where content goes that was found to have changed.
    pub(super) fn quarantine(&self, digest: &Digest) -> PathBuf {
        self.root.join("quarantine").join(digest.hex())
    }

    /// Everything in quarantine with what the file system says of it.
    pub(super) fn list_quarantine(&self) -> Result<Vec<(PathBuf, Metadata)>, Error> {
        let listed = entries(&self.root.join("quarantine"))?;
        let files = listed.into_iter();
        Ok(files
            .filter_map(|(_, entry)| Some((entry.path(), entry.metadata().ok()?)))
            .collect())
    }
}

fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}

/// What is in a folder; nothing where there is none.
fn entries(folder: &Path) -> Result<Vec<(String, fs::DirEntry)>, Error> {
    let listed = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        listed => listed,
    };
    let listed = listed.and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry)))
            .collect()
    });
    listed.map_err(Error::io("list", folder))
}
