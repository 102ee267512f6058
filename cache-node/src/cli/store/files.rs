//! Where an import comes from and where an export goes: a stream, a file, or a directory, which a thread of its own
//! makes a tar of, or makes of a tar.

use std::fs::{self, File, OpenOptions};
use std::io::{self, PipeWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};

use super::STANDARD;
use crate::store_tools::{pack, unpack};

/// What runs beside the tools.
pub(super) type Work = JoinHandle<io::Result<()>>;

/// How the work beside the tools has ended.
pub(super) fn join(work: Work) -> io::Result<()> {
    let lost = |_| Err(io::Error::other("a thread was lost"));
    work.join().unwrap_or_else(lost)
}

/// Where an import comes from.
pub(super) struct Source {
    input: Box<dyn Read + Send>,
    packing: Option<Work>,
}

impl Source {
    pub(super) fn nothing() -> Self {
        Self {
            input: Box::new(io::empty()),
            packing: None,
        }
    }

    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if path == Path::new(STANDARD) {
            return Ok(Self {
                input: Box::new(io::stdin()),
                packing: None,
            });
        }
        if !fs::metadata(path)?.is_dir() {
            return Ok(Self {
                input: Box::new(File::open(path)?),
                packing: None,
            });
        }
        let ((reader, writer), path) = (io::pipe()?, path.to_owned());
        Ok(Self {
            input: Box::new(reader),
            packing: Some(thread::spawn(move || pack(&path, writer))),
        })
    }

    pub(super) fn into_parts(self) -> (Box<dyn Read + Send>, Option<Work>) {
        (self.input, self.packing)
    }
}

/// Where an export goes.
pub(super) enum Target<'a> {
    Nowhere,
    Stream(&'a mut dyn Write),
    /// What was in the file is lost with the first byte that comes.
    File {
        file: File,
        path: PathBuf,
        is_new: bool,
        is_written: bool,
    },
    Directory {
        pipe: PipeWriter,
        unpacking: Work,
    },
}

impl<'a> Target<'a> {
    pub(super) fn nowhere() -> Self {
        Self::Nowhere
    }

    pub(super) fn stream(stream: &'a mut dyn Write) -> Self {
        Self::Stream(stream)
    }

    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if !fs::metadata(path).is_ok_and(|metadata| metadata.is_dir()) {
            let (file, is_new) = match File::create_new(path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    (OpenOptions::new().write(true).open(path)?, false)
                }
                file => (file?, true),
            };
            return Ok(Self::File {
                file,
                path: path.to_owned(),
                is_new,
                is_written: false,
            });
        }
        let ((reader, pipe), path) = (io::pipe()?, path.to_owned());
        Ok(Self::Directory {
            pipe,
            unpacking: thread::spawn(move || unpack(reader, &path)),
        })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Stream(stream) => stream.write_all(bytes),
            Self::File { file, is_written, .. } => {
                if !*is_written {
                    // A device has no length, and needs none.
                    let _ = file.set_len(0);
                    *is_written = true;
                }
                file.write_all(bytes)
            }
            Self::Directory { pipe, .. } => pipe.write_all(bytes),
        }
    }

    /// Brings everything to where it should be.
    pub(super) fn close(self) -> io::Result<()> {
        match self {
            Self::Nowhere => Ok(()),
            Self::Stream(stream) => stream.flush(),
            Self::File {
                path,
                is_new: true,
                is_written: false,
                ..
            } => fs::remove_file(path),
            Self::File { file, .. } => match file.sync_all() {
                // A pipe or a device cannot be synced, and need not be.
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
                synced => synced,
            },
            Self::Directory { pipe, unpacking } => {
                drop(pipe);
                join(unpacking)
            }
        }
    }
}
