//! Every operation by which the store changes files goes through here, so that a test can put a fault under it: a disk that
//! refuses, or one that forgets what was not synced.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, FallocateFlags, OFlags, Timespec, Timestamps, UTIME_OMIT, utimensat};
use rustix::io::Errno;

/// One change of the files in the cache directory. What is written to a file counts for the file, whatever its name.
#[derive(Clone, Copy, Debug)]
pub enum Operation<'a> {
    /// A file gets its first name.
    Create(&'a Path),
    /// A directory is made.
    CreateDirectory(&'a Path),
    /// Bytes are written at an offset.
    Write(&'a File, &'a [u8], u64),
    /// Bytes are written behind the last one.
    Append(&'a File, &'a [u8]),
    /// The file gets another length, in bytes.
    SetLength(&'a File, u64),
    /// So many bytes of room are reserved; the length stays.
    Allocate(&'a File, u64),
    /// The modification time is set.
    SetModified(&'a File, SystemTime),
    /// The access time is set.
    SetAccessed(&'a Path, SystemTime),
    /// The content reaches the disk, and with it all that the file system knows of the file but its names.
    Sync(&'a File),
    /// The content reaches the disk, and of the rest what is needed to read it.
    SyncData(&'a File),
    /// The names in a directory reach the disk.
    SyncDirectory(&'a Path),
    /// A file gets another name, in place of whatever had it.
    Rename(&'a Path, &'a Path),
    /// A name is taken away.
    Remove(&'a Path),
    /// A file is read.
    Read(&'a Path),
}

/// Stands between the store and the disk.
pub trait Witness: Send + Sync + fmt::Debug {
    /// Before the operation: an error takes its place.
    ///
    /// # Errors
    /// The one that the store shall meet.
    fn before(&self, operation: Operation<'_>) -> io::Result<()>;

    /// After it has succeeded.
    fn after(&self, operation: Operation<'_>);

    /// Which life of the machine this is.
    fn boot_id(&self) -> String;

    /// Whether syncs go to the real disk: who remembers what is durable need not wait for it.
    fn needs_real_syncs(&self) -> bool {
        true
    }
}

/// The disk, with or without somebody who looks on. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Disk {
    witness: Option<Arc<dyn Witness>>,
}

impl Disk {
    /// A disk on which `witness` sees every operation.
    pub fn witnessed(witness: Arc<dyn Witness>) -> Self {
        Self {
            witness: Some(witness),
        }
    }

    fn around<T>(&self, operation: Operation<'_>, perform: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        let Some(witness) = &self.witness else {
            return perform();
        };
        witness.before(operation)?;
        let result = perform()?;
        witness.after(operation);
        Ok(result)
    }

    fn sync_around(&self, operation: Operation<'_>, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let is_real = self
            .witness
            .as_ref()
            .is_none_or(|witness| witness.needs_real_syncs());
        self.around(operation, || if is_real { sync() } else { Ok(()) })
    }

    /// Names this life of the machine: what the kernel held in memory is lost when it changes.
    pub(super) fn boot_id(&self) -> String {
        static BOOT_ID: OnceLock<String> = OnceLock::new();
        if let Some(witness) = &self.witness {
            return witness.boot_id();
        }
        let boot_id = BOOT_ID.get_or_init(|| {
            let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
            let id = id.trim();
            // Without an id no `written` line is ever believed: a name that is new each time matches none.
            if id.is_empty() {
                format!("unknown-{:016x}", fastrand::u64(..))
            } else {
                id.to_owned()
            }
        });
        boot_id.clone()
    }

    /// Makes a file that must not be there yet, for writing and reading.
    pub(super) fn create_new(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true);
        self.around(Operation::Create(path), || options.open(path))
    }

    /// Opens a file for writing and reading, and makes it where it is missing.
    pub(super) fn open_or_create(&self, path: &Path) -> io::Result<File> {
        match OpenOptions::new().read(true).write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.create_new(path),
            opened => opened,
        }
    }

    /// Opens a file for reading, without changing when it was last read.
    pub(super) fn open(&self, path: &Path) -> io::Result<File> {
        self.around(Operation::Read(path), || {
            let mut options = OpenOptions::new();
            options.read(true);
            let quietly = options
                .clone()
                .custom_flags(OFlags::NOATIME.bits().cast_signed())
                .open(path);
            match quietly {
                // Only a file's owner may.
                Err(error) if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => options.open(path),
                opened => opened,
            }
        })
    }

    pub(super) fn write_at(&self, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.around(Operation::Write(file, bytes, offset), || {
            file.write_all_at(bytes, offset)
        })
    }

    /// `file` must have been opened for appending, or not have been written to elsewhere than at its end.
    pub(super) fn append(&self, mut file: &File, bytes: &[u8]) -> io::Result<()> {
        self.around(Operation::Append(file, bytes), || file.write_all(bytes))
    }

    pub(super) fn set_length(&self, file: &File, length: u64) -> io::Result<()> {
        self.around(Operation::SetLength(file, length), || file.set_len(length))
    }

    /// Makes `bytes` all that is in the file, which is made where it is missing. A crash may leave anything in it.
    pub(super) fn overwrite(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let file = self.open_or_create(path)?;
        self.set_length(&file, 0)?;
        self.write_at(&file, bytes, 0)
    }

    /// Takes everything out of a file and leaves its name. There may be no file.
    pub(super) fn empty(&self, path: &Path) -> io::Result<()> {
        match OpenOptions::new().write(true).open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            opened => self.set_length(&opened?, 0),
        }
    }

    /// Reserves room for `length` bytes. False on a file system that cannot: it fills as it is written.
    pub(super) fn allocate(&self, file: &File, length: u64) -> io::Result<bool> {
        let allocated = self.around(Operation::Allocate(file, length), || {
            let allocated = rustix::fs::fallocate(file, FallocateFlags::KEEP_SIZE, 0, length);
            allocated.map_err(io::Error::from)
        });
        match allocated {
            Ok(()) => Ok(true),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(false),
                _ => Err(error),
            },
        }
    }

    pub(super) fn set_modified(&self, file: &File, time: SystemTime) -> io::Result<()> {
        self.around(Operation::SetModified(file, time), || file.set_modified(time))
    }

    /// Sets the time of the last access, and of the rest only when it was changed.
    pub(super) fn set_accessed(&self, path: &Path, time: SystemTime) -> io::Result<()> {
        let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
                tv_nsec: since.subsec_nanos().into(),
            },
            last_modification: Timespec {
                tv_sec: 0,
                tv_nsec: UTIME_OMIT,
            },
        };
        self.around(Operation::SetAccessed(path, time), || {
            Ok(utimensat(CWD, path, &times, AtFlags::empty())?)
        })
    }

    pub(super) fn sync(&self, file: &File) -> io::Result<()> {
        self.sync_around(Operation::Sync(file), || file.sync_all())
    }

    pub(super) fn sync_data(&self, file: &File) -> io::Result<()> {
        self.sync_around(Operation::SyncData(file), || file.sync_data())
    }

    pub(super) fn sync_directory(&self, path: &Path) -> io::Result<()> {
        self.sync_around(Operation::SyncDirectory(path), || File::open(path)?.sync_all())
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.around(Operation::Rename(from, to), || fs::rename(from, to))
    }

    /// Takes a name away. There may be none.
    pub(super) fn remove(&self, path: &Path) -> io::Result<()> {
        self.around(Operation::Remove(path), || match fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        })
    }

    /// Makes a directory in one that is there. There may be one already.
    pub(super) fn create_directory(&self, path: &Path) -> io::Result<()> {
        match self.around(Operation::CreateDirectory(path), || fs::create_dir(path)) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
            made => made,
        }
    }
}
