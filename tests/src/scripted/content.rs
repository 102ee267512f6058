//! Bytes to serve: held in memory or in a file, or computed from their offset so that gigabytes cost nothing.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, LazyLock, Mutex};

use bytes::Bytes;

use crate::digest::{Sha256Stream, sha256};

/// Something a host can serve.
#[derive(Clone, Debug)]
pub enum Content {
    /// Bytes in memory.
    Bytes(Bytes),
    /// Bytes computed when they are read.
    Virtual(VirtualBlob),
    /// Bytes of a file, read when they are asked for. The file must stay as it is.
    File {
        /// The open file, which may have no name any more.
        file: Arc<File>,
        /// Its length in bytes.
        len: u64,
    },
}

impl Content {
    /// The bytes of the file at `path`.
    ///
    /// # Errors
    /// Where the file cannot be opened.
    pub fn open(path: &Path) -> io::Result<Self> {
        Self::of_file(File::open(path)?)
    }

    /// The bytes of an open file.
    ///
    /// # Errors
    /// Where the file's length cannot be told.
    pub fn of_file(file: File) -> io::Result<Self> {
        let len = file.metadata()?.len();
        let file = Arc::new(file);
        Ok(Self::File { file, len })
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes.len() as u64,
            Self::Virtual(blob) => blob.len(),
            Self::File { len, .. } => *len,
        }
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `len` bytes from `offset`; both must lie inside the content.
    pub fn read(&self, offset: u64, len: usize) -> Bytes {
        match self {
            Self::Bytes(bytes) => {
                let start = usize::try_from(offset).expect("content in memory has an addressable length");
                bytes.slice(start..start + len)
            }
            Self::Virtual(blob) => blob.read(offset, len),
            Self::File { file, .. } => {
                let mut bytes = vec![0; len];
                file.read_exact_at(&mut bytes, offset)
                    .expect("the file stays as it is");
                bytes.into()
            }
        }
    }

    /// All of it, in memory.
    pub fn bytes(&self) -> Bytes {
        self.read(
            0,
            usize::try_from(self.len()).expect("content for memory has an addressable length"),
        )
    }

    /// Reads it from its start, a piece at a time.
    pub fn reader(&self) -> impl Read {
        Reader {
            content: self.clone(),
            offset: 0,
        }
    }

    /// The content's sha256 digest.
    pub fn digest(&self) -> String {
        match self {
            Self::Bytes(bytes) => sha256(bytes),
            Self::Virtual(blob) => blob.digest(),
            Self::File { .. } => {
                let mut hash = Sha256Stream::default();
                io::copy(&mut self.reader(), &mut hash).expect("the file stays as it is");
                hash.finish()
            }
        }
    }
}

struct Reader {
    content: Content,
    offset: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = (self.content.len() - self.offset).min(buffer.len() as u64) as usize;
        buffer[..len].copy_from_slice(&self.content.read(self.offset, len));
        self.offset += len as u64;
        Ok(len)
    }
}

impl<T: Into<Bytes>> From<T> for Content {
    fn from(bytes: T) -> Self {
        Self::Bytes(bytes.into())
    }
}

/// Pseudo-random content of any size, readable at any offset without memory for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct VirtualBlob {
    seed: u64,
    size: u64,
}

/// How much is generated at once while hashing.
const HASH_STEP_BYTES: u64 = 1 << 20;

static DIGESTS: LazyLock<Mutex<HashMap<VirtualBlob, String>>> = LazyLock::new(Mutex::default);

impl VirtualBlob {
    /// `size` bytes that depend on `seed` only.
    pub fn new(seed: u64, size: u64) -> Self {
        Self { seed, size }
    }

    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.size
    }

    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// `len` bytes from `offset`.
    pub fn read(&self, offset: u64, len: usize) -> Bytes {
        assert!(
            offset + len as u64 <= self.size,
            "read beyond the end of a virtual blob"
        );
        let lead = (offset % 8) as usize;
        let mut words = Vec::with_capacity(lead + len + 8);
        let mut index = offset / 8;
        while words.len() < lead + len {
            words.extend_from_slice(&word(self.seed, index).to_le_bytes());
            index += 1;
        }
        Bytes::from(words).slice(lead..lead + len)
    }

    /// The sha256 digest; computed once per process for the same seed and size.
    pub fn digest(&self) -> String {
        if let Some(known) = DIGESTS.lock().unwrap().get(self) {
            return known.clone();
        }
        let mut hash = Sha256Stream::default();
        for start in (0..self.size).step_by(HASH_STEP_BYTES as usize) {
            hash.update(&self.read(start, HASH_STEP_BYTES.min(self.size - start) as usize));
        }
        let digest = hash.finish();
        DIGESTS.lock().unwrap().insert(*self, digest.clone());
        digest
    }
}

/// The `index`-th output of the SplitMix64 generator, which can be entered anywhere.
fn word(seed: u64, index: u64) -> u64 {
    let mut z = seed.wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
