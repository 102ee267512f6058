//! Digests and test content, so that every test names and makes bytes the same way.

use std::io::{self, Write};

use bytes::Bytes;
use sha2::{Digest as _, Sha256, Sha512};

/// The digest of `bytes` as OCI writes it: `sha256:` and 64 hex digits.
pub fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// The digest of `bytes` as OCI writes it: `sha512:` and 128 hex digits.
pub fn sha512(bytes: &[u8]) -> String {
    format!("sha512:{}", hex(&Sha512::digest(bytes)))
}

/// Lower-case hex of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to a string cannot fail");
            text
        })
}

/// A sha256 computed piece by piece, for bodies that are too large to keep.
#[derive(Default)]
pub struct Sha256Stream(Sha256);

impl Sha256Stream {
    /// Hashes the next piece.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest (`sha256:…`) of all pieces.
    pub fn finish(self) -> String {
        format!("sha256:{}", hex(&self.0.finalize()))
    }
}

/// What is written is hashed.
impl Write for Sha256Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `len` incompressible bytes, different at every call.
pub fn random(len: usize) -> Bytes {
    seeded(fastrand::u64(..), len)
}

/// `len` incompressible bytes, the same for the same `seed`.
pub fn seeded(seed: u64, len: usize) -> Bytes {
    let mut bytes = vec![0; len];
    fastrand::Rng::with_seed(seed).fill(&mut bytes);
    bytes.into()
}
