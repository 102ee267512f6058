//! Where things lie in the cache directory. Names come from digests alone, never from what a client wrote.

use std::fs::{self, File, Metadata};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use super::Error;
use crate::oci::{Algorithm, Digest};

/// The folders and files of a cache directory:
///
/// ```text
/// blobs/sha256/ab/<hex>            proved content
/// manifests/sha256/<hex>           the media type of a manifest whose content lies under blobs/
/// partials/sha256/<hex>.data       the bytes of an unfinished fill
/// partials/sha256/<hex>.journal    which of them are there
/// tmp/                             files on their way to their name; emptied at start
/// tags.jsonl                       the tag ledger
/// ```
#[derive(Clone, Debug)]
pub struct Layout {
    root: PathBuf,
}

/// Makes temporary names unique within the process; `tmp/` is emptied before a process starts using it.
static TEMPORARY: AtomicU64 = AtomicU64::new(0);

impl Layout {
    /// Makes the folders, but for those of blobs' first digits, and empties `tmp/`.
    pub(super) fn prepare(root: &Path) -> Result<Self, Error> {
        let layout = Self {
            root: root.to_owned(),
        };
        let temporary = layout.root.join("tmp");
        match fs::remove_dir_all(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Error::io("empty", &temporary)(error));
            }
            _ => {}
        }
        let mut folders = vec![temporary];
        for algorithm in Algorithm::ALL {
            folders.extend([
                layout.blobs(algorithm),
                layout.manifests(algorithm),
                layout.partials(algorithm),
            ]);
        }
        for folder in folders {
            fs::create_dir_all(&folder).map_err(Error::io("make", &folder))?;
        }
        Ok(layout)
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

    /// Writes `content` under `path` so that a reader, and a crash, find either all of it or what was there before.
    ///
    /// # Errors
    /// A file operation failed; `path` is as it was.
    pub fn write_atomically(&self, path: &Path, content: &[u8]) -> Result<File, Error> {
        let unique = TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let temporary = self.root.join("tmp").join(unique.to_string());
        let written = (|| {
            let mut file = File::create_new(&temporary)?;
            file.write_all(content)?;
            file.sync_all()?;
            move_durably(&temporary, path)?;
            Ok(file)
        })();
        written.map_err(|error| {
            let _ = fs::remove_file(&temporary);
            Error::io("write", path)(error)
        })
    }

    /// The cache directory.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// Writes and syncs this many bytes, and removes them.
    pub(super) fn try_write(&self, bytes: usize) -> Result<(), Error> {
        let path = self.root.join("tmp").join("check");
        self.write_atomically(&path, &vec![0; bytes])?;
        fs::remove_file(&path).map_err(Error::io("remove", &path))
    }

    /// Every proved blob with what the file system says of it.
    pub(super) fn list_blobs(&self) -> Result<Vec<(Digest, Metadata)>, Error> {
        let mut found = Vec::new();
        for algorithm in Algorithm::ALL {
            let folder = self.blobs(algorithm);
            for shard in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
                let shard = shard.map_err(Error::io("list", &folder))?.path();
                for (name, entry) in entries(&shard)? {
                    match Digest::from_hex(algorithm, &name) {
                        Ok(digest) => {
                            let metadata = entry.metadata().map_err(Error::io("inspect", &entry.path()))?;
                            found.push((digest, metadata));
                        }
                        Err(_) => tracing::warn!(path = %entry.path().display(), "not a blob; left alone"),
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

    /// Removes what earlier fills left and nobody can use: files of blobs that are `complete`, and data without
    /// its journal or the other way round.
    pub(super) fn sweep_partials(&self, complete: impl Fn(&Digest) -> bool) -> Result<(), Error> {
        for algorithm in Algorithm::ALL {
            for (name, entry) in entries(&self.partials(algorithm))? {
                let hex = name.split('.').next().unwrap_or_default();
                let usable = Digest::from_hex(algorithm, hex).is_ok_and(|digest| {
                    !complete(&digest)
                        && is_file(&self.partial_data(&digest))
                        && is_file(&self.partial_journal(&digest))
                });
                if !usable {
                    let path = entry.path();
                    fs::remove_file(&path).map_err(Error::io("remove", &path))?;
                }
            }
        }
        Ok(())
    }
}

fn is_file(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file())
}

fn entries(folder: &Path) -> Result<Vec<(String, fs::DirEntry)>, Error> {
    let listed = fs::read_dir(folder).and_then(|entries| {
        entries
            .map(|entry| entry.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry)))
            .collect()
    });
    listed.map_err(Error::io("list", folder))
}

/// Renames `from` to `to`, whose folder is made when it is the first of its kind, so that it survives a power cut.
pub(super) fn move_durably(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = to.parent() {
                fs::create_dir_all(folder)?;
                sync_folder_of(folder)?;
            }
            fs::rename(from, to)?;
        }
        renamed => renamed?,
    }
    sync_folder_of(to)
}

fn sync_folder_of(path: &Path) -> io::Result<()> {
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
