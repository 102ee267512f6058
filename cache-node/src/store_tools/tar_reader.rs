//! Tars from anywhere, read front to back: what could fill the memory, or is anything but a file or a directory, is
//! refused.

use std::io::{self, Read};

use tar::{EntryType, Header, PaxExtensions};

/// What a tar is made of (POSIX, `pax`).
const BLOCK_BYTES: usize = 512;
/// The longest name, or set of attributes, of one member.
const EXTENSION_BYTES_MAX: u64 = 64 << 10;
/// What may follow the end mark: tars are padded to a multiple of 10 KiB.
const TAIL_BYTES_MAX: u64 = 1 << 20;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// It is something else.
    #[error("it is no tar; if it is compressed, decompress it first")]
    NotATar,
    /// It has a header that is none.
    #[error("it is damaged: behind {after} there is no header of a member")]
    Damaged {
        /// The last member that was read.
        after: String,
    },
    /// It ends in the middle.
    #[error("it is truncated: it ends in or behind {after}, without its end mark")]
    Truncated {
        /// The last member that was read.
        after: String,
    },
    /// It has something that an archive of an image layout has not.
    #[error("{path}: {what}")]
    Member {
        /// The member's path.
        path: String,
        /// What is wrong with it.
        what: String,
    },
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
}

impl ArchiveError {
    pub(super) fn member(path: &str, what: impl Into<String>) -> Self {
        Self::Member {
            path: path.to_owned(),
            what: what.into(),
        }
    }
}

/// A file or a directory in a tar.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: String,
    /// Its length in bytes.
    pub(super) size: u64,
    pub(super) is_file: bool,
}

/// Reads one member after the other. As [`Read`] it gives the content of the member that came last.
pub(super) struct TarReader<R> {
    input: R,
    /// Of the last member's content.
    left: u64,
    /// Behind it, up to the next block.
    padding: u64,
    last: Option<String>,
}

/// What headers before a member's own say of it.
#[derive(Default)]
struct Extension {
    path: Option<Vec<u8>>,
    size: Option<u64>,
    is_sparse: bool,
}

impl<R: Read> TarReader<R> {
    pub(super) fn new(input: R) -> Self {
        Self {
            input,
            left: 0,
            padding: 0,
            last: None,
        }
    }

    /// The next member; none behind the end mark. What is left of the one before is skipped.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, ArchiveError> {
        let mut extension = Extension::default();
        loop {
            let rest = self.left + self.padding;
            (self.left, self.padding) = (0, 0);
            self.skip(rest)?;
            let block = self.block()?;
            if block.iter().all(|&byte| byte == 0) {
                let mut tail = (&mut self.input).take(TAIL_BYTES_MAX);
                io::copy(&mut tail, &mut io::sink()).map_err(ArchiveError::Read)?;
                return Ok(None);
            }
            let header = Header::from_byte_slice(&block);
            let size = header.entry_size().ok().filter(|_| has_checksum(header));
            let Some(size) = size else {
                return Err(match self.last.take() {
                    Some(after) => ArchiveError::Damaged { after },
                    None => ArchiveError::NotATar,
                });
            };
            match header.entry_type() {
                EntryType::XHeader => extension.read_pax(&self.extension(size)?)?,
                EntryType::GNULongName => {
                    let mut path = self.extension(size)?;
                    path.truncate(path.iter().position(|&byte| byte == 0).unwrap_or(path.len()));
                    extension.path = Some(path);
                }
                EntryType::XGlobalHeader | EntryType::GNULongLink => drop(self.extension(size)?),
                kind => return self.member(header, kind, size, extension).map(Some),
            }
        }
    }

    fn member(
        &mut self,
        header: &Header,
        kind: EntryType,
        size: u64,
        extension: Extension,
    ) -> Result<Entry, ArchiveError> {
        let path = extension.path.unwrap_or_else(|| header.path_bytes().into_owned());
        let path = String::from_utf8_lossy(&path).into_owned();
        let what = match kind {
            _ if extension.is_sparse => "it is a sparse file",
            EntryType::Regular | EntryType::Continuous | EntryType::Directory => "",
            EntryType::Symlink => "it is a symbolic link",
            EntryType::Link => "it is a hard link",
            EntryType::GNUSparse => "it is a sparse file",
            _ => "it is neither a file nor a directory",
        };
        if !what.is_empty() {
            return Err(ArchiveError::member(&path, what));
        }
        let is_file = kind != EntryType::Directory;
        self.left = if is_file {
            extension.size.unwrap_or(size)
        } else {
            0
        };
        self.padding = padding(self.left);
        self.last = Some(path.clone());
        Ok(Entry {
            path,
            size: self.left,
            is_file,
        })
    }

    fn truncated(&self) -> ArchiveError {
        let after = self.last.clone().unwrap_or_else(|| "its beginning".to_owned());
        ArchiveError::Truncated { after }
    }

    fn block(&mut self) -> Result<[u8; BLOCK_BYTES], ArchiveError> {
        let mut block = [0; BLOCK_BYTES];
        match self.input.read_exact(&mut block) {
            Ok(()) => Ok(block),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(self.truncated()),
            Err(error) => Err(ArchiveError::Read(error)),
        }
    }

    fn skip(&mut self, bytes: u64) -> Result<(), ArchiveError> {
        let skipped = io::copy(&mut (&mut self.input).take(bytes), &mut io::sink());
        match skipped.map_err(ArchiveError::Read)? {
            skipped if skipped == bytes => Ok(()),
            _ => Err(self.truncated()),
        }
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>, ArchiveError> {
        if size > EXTENSION_BYTES_MAX {
            let after = self.last.as_deref().unwrap_or("its beginning");
            let what =
                format!("the attributes of the member behind it are longer than {EXTENSION_BYTES_MAX} bytes");
            return Err(ArchiveError::member(after, what));
        }
        let mut content = Vec::new();
        (&mut self.input)
            .take(size)
            .read_to_end(&mut content)
            .map_err(ArchiveError::Read)?;
        if content.len() as u64 != size {
            return Err(self.truncated());
        }
        self.padding = padding(size);
        Ok(content)
    }
}

impl Extension {
    fn read_pax(&mut self, content: &[u8]) -> Result<(), ArchiveError> {
        for attribute in PaxExtensions::new(content) {
            let attribute = attribute.map_err(ArchiveError::Read)?;
            match attribute.key_bytes() {
                b"path" => self.path = Some(attribute.value_bytes().to_owned()),
                b"size" => self.size = attribute.value().ok().and_then(|size| size.parse().ok()),
                key => self.is_sparse |= key.starts_with(b"GNU.sparse."),
            }
        }
        Ok(())
    }
}

impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.input.read(&mut buffer[..wanted])?;
        self.left -= read as u64;
        Ok(read)
    }
}

fn padding(size: u64) -> u64 {
    let block = BLOCK_BYTES as u64;
    (block - size % block) % block
}

/// The sum of all bytes, those of the sum itself taken as spaces.
fn has_checksum(header: &Header) -> bool {
    const CHECKSUM: std::ops::Range<usize> = 148..156;
    let bytes = header.as_bytes().iter().enumerate();
    let sum = bytes.map(|(at, &byte)| u32::from(if CHECKSUM.contains(&at) { b' ' } else { byte }));
    header.cksum().is_ok_and(|found| found == sum.sum::<u32>())
}

#[cfg(test)]
mod tests;
