//! The file of an unfinished fill: preallocated, written at any offset, and never believed further than its
//! journal.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;

use super::journal::{self, Journal};
use super::layout::move_durably;
use super::{Error, Layout, RangeSet, seal};
use crate::oci::Digest;

/// How much may be written before it is recorded: what a killed process fetches again, per segment, at the most.
const RECORD_BYTES: u64 = 1 << 20;

/// An unfinished fill's file and journal. All methods block.
#[derive(Debug)]
pub struct Partial {
    digest: Digest,
    file: Arc<File>,
    data_path: PathBuf,
    journal_path: PathBuf,
    journal: Mutex<OpenJournal>,
    found: (Option<u64>, RangeSet),
}

#[derive(Debug)]
struct OpenJournal {
    file: File,
    /// Written, but not yet recorded.
    unrecorded: RangeSet,
}

impl Partial {
    pub(super) fn open(layout: &Layout, digest: &Digest) -> Result<Self, Error> {
        let (data_path, journal_path) = (layout.partial_data(digest), layout.partial_journal(digest));
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(&data_path).map_err(Error::io("open", &data_path))?;
        let text = fs::read(&journal_path).unwrap_or_default();
        let found = Journal::parse(&String::from_utf8_lossy(&text), boot_id()).unwrap_or_default();
        let found = make_durable(found, &file);
        if found.synced.total() == 0 {
            file.set_len(0).map_err(Error::io("empty", &data_path))?;
        }
        if let Err(error) = layout.write_atomically(&journal_path, found.render(boot_id()).as_bytes()) {
            if found.synced.total() == 0 {
                let _ = fs::remove_file(&data_path);
            }
            return Err(error);
        }
        let appended = OpenOptions::new().append(true).open(&journal_path);
        let appended = appended.map_err(Error::io("open", &journal_path))?;
        Ok(Self {
            digest: *digest,
            file: Arc::new(file),
            data_path,
            journal_path,
            journal: Mutex::new(OpenJournal {
                file: appended,
                unrecorded: RangeSet::default(),
            }),
            found: (found.length, found.synced),
        })
    }

    /// The digest that the finished file shall have.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The file, for readers: it stays readable under whatever name it gets.
    pub fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// What an earlier fill left: the blob's length in bytes if it was known, and the ranges that are there.
    pub fn found(&self) -> (Option<u64>, RangeSet) {
        self.found.clone()
    }

    /// Records the blob's length in bytes and reserves the space for it.
    ///
    /// # Errors
    /// The disk is too full, or the journal cannot be written.
    pub fn set_length(&self, length: u64) -> Result<(), Error> {
        if length > 0 {
            let reserved =
                rustix::fs::fallocate(&*self.file, rustix::fs::FallocateFlags::KEEP_SIZE, 0, length);
            match reserved {
                // A file system without preallocation fills as it is written.
                Ok(()) | Err(rustix::io::Errno::OPNOTSUPP | rustix::io::Errno::NOSYS) => {}
                Err(errno) => {
                    // Some file systems keep what they could reserve: a file's own length gives it back.
                    let _ = self
                        .file
                        .metadata()
                        .and_then(|found| self.file.set_len(found.len()));
                    return Err(Error::io("reserve space for", &self.data_path)(errno.into()));
                }
            }
        }
        self.append(&journal::length_line(length))
    }

    /// Writes `chunks` one behind the other from `offset` on.
    ///
    /// # Errors
    /// The disk is full or failing.
    pub fn write(&self, offset: u64, chunks: &[Bytes]) -> Result<(), Error> {
        let mut end = offset;
        for chunk in chunks {
            self.file
                .write_all_at(chunk, end)
                .map_err(Error::io("write", &self.data_path))?;
            end += chunk.len() as u64;
        }
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.unrecorded.insert(offset..end);
        if journal.unrecorded.total() >= RECORD_BYTES {
            journal.record().map_err(Error::io("write", &self.journal_path))?;
        }
        Ok(())
    }

    /// Records everything written so far, so that it outlives this process.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn record(&self) -> Result<(), Error> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.record().map_err(Error::io("write", &self.journal_path))
    }

    /// Brings what was written to the disk, then records that `present`, the ranges written before this call, are
    /// there.
    ///
    /// # Errors
    /// The disk is failing.
    pub fn sync(&self, present: &RangeSet) -> Result<(), Error> {
        self.file
            .sync_data()
            .map_err(Error::io("sync", &self.data_path))?;
        let lines: String = present
            .iter()
            .map(|range| journal::range_line("synced", &range))
            .collect();
        self.append(&lines)
    }

    /// Gives the proved file its final name.
    pub(super) fn commit(&self, layout: &Layout) -> Result<Metadata, Error> {
        let path = layout.blob(&self.digest);
        let renamed = (|| {
            seal::set(&self.file, &self.digest, self.file.metadata()?.len())?;
            self.file.sync_all()?;
            // Looked at before others find it under its name and can change it.
            let metadata = self.file.metadata()?;
            move_durably(&self.data_path, &path)?;
            Ok(metadata)
        })();
        let metadata = renamed.map_err(Error::io("keep", &path))?;
        let _ = fs::remove_file(&self.journal_path);
        Ok(metadata)
    }

    /// Removes everything, because it is not what it should be.
    ///
    /// # Errors
    /// A file could not be removed.
    pub fn discard(&self) -> Result<(), Error> {
        // The journal goes first: data without it is never believed.
        for path in [&self.journal_path, &self.data_path] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(Error::io("remove", path)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn append(&self, lines: &str) -> Result<(), Error> {
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal
            .file
            .write_all(lines.as_bytes())
            .map_err(Error::io("write", &self.journal_path))
    }
}

impl OpenJournal {
    fn record(&mut self) -> io::Result<()> {
        let lines: String = self
            .unrecorded
            .iter()
            .map(|range| journal::range_line("written", &range))
            .collect();
        self.file.write_all(lines.as_bytes())?;
        self.unrecorded = RangeSet::default();
        Ok(())
    }
}

/// What of a found journal may be built on: all of it once a sync has brought it to disk, else what had been
/// synced before; never more than the file is long.
fn make_durable(found: Journal, file: &File) -> Journal {
    let Journal {
        length,
        mut synced,
        written,
    } = found;
    if written.total() > 0 && file.sync_data().is_ok() {
        synced.extend(written.iter());
    }
    let file_length = file.metadata().map_or(0, |metadata| metadata.len());
    let mut present = RangeSet::default();
    present.extend(
        synced
            .iter()
            .map(|range| within(&range, length.unwrap_or(u64::MAX).min(file_length))),
    );
    Journal {
        length,
        synced: present,
        written: RangeSet::default(),
    }
}

fn within(range: &Range<u64>, end: u64) -> Range<u64> {
    range.start.min(end)..range.end.min(end)
}

/// Names this life of the machine: what the kernel held in memory is lost when it changes.
fn boot_id() -> &'static str {
    static BOOT_ID: OnceLock<String> = OnceLock::new();
    BOOT_ID.get_or_init(|| {
        let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let id = id.trim();
        // Without an id no `written` line is ever believed: a name that is new each time matches none.
        if id.is_empty() {
            format!("unknown-{:016x}", fastrand::u64(..))
        } else {
            id.to_owned()
        }
    })
}
