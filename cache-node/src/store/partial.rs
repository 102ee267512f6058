//! The file of an unfinished fill: preallocated, written at any offset, and never believed further than its
//! journal.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::ops::Range;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;

use super::admission::Reservation;
use super::index::IdlePartial;
use super::journal::{self, Journal};
use super::{Disk, Error, Layout, Lease, RangeSet, Shared, allocated_bytes, seal};
use crate::oci::Digest;

/// How much may be written before it is recorded: what a killed process fetches again, per segment, at the most.
const RECORD_BYTES: u64 = 1 << 20;
/// The longest line of a journal: two words of 20 digits, and what they are.
const RECORD_LINE_BYTES: u64 = 64;
/// How much more room is reserved at once for a blob whose length is unknown.
const RESERVE_STEP_BYTES: u64 = 16 << 20;

/// An unfinished fill's file and journal, and the room that is reserved for it. All methods block.
#[derive(Debug)]
pub struct Partial {
    shared: Arc<Shared>,
    digest: Digest,
    file: Arc<File>,
    data_path: PathBuf,
    journal_path: PathBuf,
    journal: Mutex<OpenJournal>,
    found: (Option<u64>, RangeSet),
    /// None once it has been kept, discarded or set aside.
    reservation: Mutex<Option<Reservation>>,
}

#[derive(Debug)]
struct OpenJournal {
    file: File,
    /// Written, but not yet recorded.
    unrecorded: RangeSet,
    /// Where what was written so far ends.
    written_end: u64,
}

impl Partial {
    pub(super) fn open(shared: Arc<Shared>, digest: &Digest, length: Option<u64>) -> Result<Self, Error> {
        shared.wait_for_name(digest);
        let (reservation, idle) = Reservation::of_idle(Arc::clone(&shared), digest);
        let opened = Self::reserve_and_open(&shared, digest, length, reservation);
        // What is left of it, which may be less than there was, is idle again.
        if opened.is_err() && fs::metadata(shared.layout.partial_data(digest)).is_ok() {
            let left = IdlePartial {
                stored_bytes: stored_bytes(&shared.layout, digest),
                since: idle.map_or_else(SystemTime::now, |idle| idle.since),
            };
            shared.index().partials.insert(*digest, left);
        }
        opened
    }

    fn reserve_and_open(
        shared: &Arc<Shared>,
        digest: &Digest,
        length: Option<u64>,
        reservation: Reservation,
    ) -> Result<Self, Error> {
        let wanted = with_journal(shared, length.unwrap_or(0));
        reservation.add(wanted.saturating_sub(reservation.bytes()))?;
        let (layout, disk) = (&shared.layout, shared.layout.disk());
        let (data_path, journal_path) = (layout.partial_data(digest), layout.partial_journal(digest));
        let file = disk
            .open_or_create(&data_path)
            .map_err(Error::io("open", &data_path))?;
        let text = fs::read(&journal_path).unwrap_or_default();
        let boot_id = disk.boot_id();
        let found = Journal::parse(&String::from_utf8_lossy(&text), &boot_id).unwrap_or_default();
        let found = make_durable(disk, found, &file);
        if found.synced.total() == 0 {
            disk.set_length(&file, 0)
                .map_err(Error::io("empty", &data_path))?;
        }
        if let Err(error) = layout.write_atomically(&journal_path, found.render(&boot_id).as_bytes()) {
            if found.synced.total() == 0 {
                let _ = disk.remove(&journal_path).and_then(|()| disk.remove(&data_path));
            }
            return Err(error);
        }
        let appended = OpenOptions::new().append(true).open(&journal_path);
        let appended = appended.map_err(Error::io("open", &journal_path))?;
        let written_end = found.synced.iter().last().map_or(0, |range| range.end);
        Ok(Self {
            shared: Arc::clone(shared),
            digest: *digest,
            file: Arc::new(file),
            data_path,
            journal_path,
            journal: Mutex::new(OpenJournal {
                file: appended,
                unrecorded: RangeSet::default(),
                written_end,
            }),
            found: (found.length, found.synced),
            reservation: Mutex::new(Some(reservation)),
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
    /// [`Error::NoRoom`], the disk is too full, or the journal cannot be written.
    pub fn set_length(&self, length: u64) -> Result<(), Error> {
        if let Some(reservation) = &*self.reservation() {
            reservation.grow_to(with_journal(&self.shared, length))?;
            if length > 0 {
                match self.disk().allocate(&self.file, length) {
                    Ok(true) => reservation.set_allocated(length),
                    Ok(false) => {}
                    Err(error) => {
                        // Some file systems keep what they could reserve: a file's own length gives it back.
                        let _ = self
                            .file
                            .metadata()
                            .and_then(|found| self.disk().set_length(&self.file, found.len()));
                        return Err(Error::io("reserve space for", &self.data_path)(error));
                    }
                }
            }
        }
        self.append(&journal::length_line(length))
    }

    /// Writes `chunks` one behind the other from `offset` on.
    ///
    /// # Errors
    /// [`Error::NoRoom`], or the disk is full or failing.
    pub fn write(&self, offset: u64, chunks: &[Bytes]) -> Result<(), Error> {
        let mut end = offset + chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        if let Some(reservation) = &*self.reservation()
            && end > reservation.bytes()
        {
            reservation.grow_to(end + RESERVE_STEP_BYTES)?;
        }
        end = offset;
        for chunk in chunks {
            self.disk()
                .write_at(&self.file, chunk, end)
                .map_err(Error::io("write", &self.data_path))?;
            end += chunk.len() as u64;
        }
        let mut journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        journal.unrecorded.insert(offset..end);
        journal.written_end = journal.written_end.max(end);
        if journal.unrecorded.total() >= RECORD_BYTES {
            journal
                .record(self.disk())
                .map_err(Error::io("write", &self.journal_path))?;
        }
        Ok(())
    }

    /// Records everything written so far, so that it outlives this process, and gives back the room for the rest.
    ///
    /// # Errors
    /// The journal cannot be written.
    pub fn set_aside(&self) -> Result<(), Error> {
        let recorded = self
            .journal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .record(self.disk());
        self.become_idle();
        recorded.map_err(Error::io("write", &self.journal_path))
    }

    /// What was written stays on the disk, and may be evicted.
    fn become_idle(&self) {
        let Some(reservation) = self.reservation().take() else {
            return;
        };
        let written_end = self
            .journal
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .written_end;
        // What was reserved behind it would only be a loss to others.
        if self.disk().set_length(&self.file, written_end).is_ok() && fs::metadata(&self.data_path).is_ok() {
            let idle = IdlePartial {
                stored_bytes: stored_bytes(&self.shared.layout, &self.digest),
                since: SystemTime::now(),
            };
            self.shared.index().partials.insert(self.digest, idle);
        }
        drop(reservation);
    }

    /// Brings what was written to the disk, then records that `present`, the ranges written before this call, are
    /// there.
    ///
    /// # Errors
    /// The disk is failing.
    pub fn sync(&self, present: &RangeSet) -> Result<(), Error> {
        self.disk()
            .sync_data(&self.file)
            .map_err(Error::io("sync", &self.data_path))?;
        self.shared.tallies.synced();
        let lines: String = present
            .iter()
            .map(|range| journal::range_line("synced", &range))
            .collect();
        self.append(&lines)
    }

    /// Gives the proved file its final name, and lists it.
    pub(super) fn commit(&self) -> Result<Arc<Lease>, Error> {
        self.shared.wait_for_name(&self.digest);
        let (layout, disk) = (&self.shared.layout, self.disk());
        let path = layout.blob(&self.digest);
        let renamed = (|| {
            seal::set(disk, &self.file, &self.digest, self.file.metadata()?.len())?;
            disk.sync(&self.file)?;
            // Looked at before others find it under its name and can change it.
            let metadata = self.file.metadata()?;
            layout.move_durably(&self.data_path, &path)?;
            Ok(metadata)
        })();
        let metadata = renamed.map_err(Error::io("keep", &path))?;
        self.shared.tallies.synced();
        let _ = disk.remove(&self.journal_path);
        let lease = self.shared.list(self.digest, &metadata, None);
        drop(self.reservation().take());
        Ok(lease)
    }

    /// Removes everything, because it is not what it should be.
    ///
    /// # Errors
    /// A file could not be removed.
    pub fn discard(&self) -> Result<(), Error> {
        // The journal goes first, and for good: data without it is never believed, and this must not come back.
        for path in [&self.journal_path, &self.data_path] {
            self.disk().remove(path).map_err(Error::io("remove", path))?;
        }
        drop(self.reservation().take());
        let folder = self.journal_path.parent().unwrap_or(&self.journal_path);
        self.disk()
            .sync_directory(folder)
            .map_err(Error::io("sync", folder))
    }

    fn disk(&self) -> &Disk {
        self.shared.layout.disk()
    }

    fn reservation(&self) -> MutexGuard<'_, Option<Reservation>> {
        self.reservation.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn append(&self, lines: &str) -> Result<(), Error> {
        let journal = self.journal.lock().unwrap_or_else(PoisonError::into_inner);
        self.disk()
            .append(&journal.file, lines.as_bytes())
            .map_err(Error::io("write", &self.journal_path))
    }
}

/// What a blob of so many bytes takes with its journal while it is filled.
fn with_journal(shared: &Shared, length: u64) -> u64 {
    let block_bytes = shared.room().space.block_bytes;
    let records_bytes = (length / RECORD_BYTES).saturating_mul(RECORD_LINE_BYTES);
    length.saturating_add(records_bytes).saturating_add(block_bytes)
}

/// What the files of an unfinished fill take on disk.
pub(super) fn stored_bytes(layout: &Layout, digest: &Digest) -> u64 {
    let files = [layout.partial_data(digest), layout.partial_journal(digest)];
    let found = files.iter().filter_map(|path| fs::metadata(path).ok());
    found.map(|metadata| allocated_bytes(&metadata)).sum()
}

impl Drop for Partial {
    /// Its task was lost: what was recorded can be continued.
    fn drop(&mut self) {
        self.become_idle();
    }
}

impl OpenJournal {
    fn record(&mut self, disk: &Disk) -> io::Result<()> {
        let lines: String = self
            .unrecorded
            .iter()
            .map(|range| journal::range_line("written", &range))
            .collect();
        disk.append(&self.file, lines.as_bytes())?;
        self.unrecorded = RangeSet::default();
        Ok(())
    }
}

/// What of a found journal may be built on: all of it once a sync has brought it to disk, else what had been
/// synced before; never more than the file is long.
fn make_durable(disk: &Disk, found: Journal, file: &File) -> Journal {
    let Journal {
        length,
        mut synced,
        written,
    } = found;
    if written.total() > 0 && disk.sync_data(file).is_ok() {
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
