//! Proof that whoever listens on the runtime's port is the cache of this pod: any local process could take a free port
//! and answer tags. `serve` keeps a random key where only its pod reads it; `node-config` asks for an HMAC under it.

use std::fs::OpenOptions;
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use rustix::rand::{GetRandomFlags, getrandom};
use sha2::Sha256;

/// The path of the challenge on the runtime's port, asked with `?challenge=CHALLENGE`.
pub const IDENTITY_PATH: &str = "/larder/identity";
/// The length of every challenge: 32 random bytes in URL-safe base64 without padding.
pub const CHALLENGE_BYTES: usize = 43;
/// The key's file in the directory that the pod's containers share.
const KEY_FILE: &str = "identity.key";
/// The block of SHA-256, the longest key that HMAC takes as it is.
const KEY_BYTES: usize = 64;
/// For the group that the pod's containers share.
const KEY_MODE: u32 = 0o640;

/// The key of one pod's cache.
pub struct IdentityKey([u8; KEY_BYTES]);

impl IdentityKey {
    /// Makes a new key and keeps it in `directory`, in the place of an older one.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn create(directory: &Path) -> io::Result<Self> {
        let key = random()?;
        let temporary = directory.join(".identity.key");
        match std::fs::remove_file(&temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(KEY_MODE)
            .open(&temporary)?;
        file.write_all(&key)?;
        std::fs::rename(&temporary, directory.join(KEY_FILE))?;
        Ok(Self(key))
    }

    /// Reads the key that `directory` keeps.
    ///
    /// # Errors
    /// There is none, or it cannot be read.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let mut key = [0; KEY_BYTES];
        std::fs::File::open(directory.join(KEY_FILE))?.read_exact(&mut key)?;
        Ok(Self(key))
    }

    /// The answer to `challenge`: its HMAC-SHA256 (RFC 2104), encoded as the challenge is.
    pub fn answer(&self, challenge: &str) -> String {
        URL_SAFE_NO_PAD.encode(self.mac(challenge).finalize().into_bytes())
    }

    /// Whether `answer` is this key's to `challenge`, compared in constant time.
    pub fn is_answer(&self, challenge: &str, answer: &str) -> bool {
        URL_SAFE_NO_PAD
            .decode(answer)
            .is_ok_and(|answer| self.mac(challenge).verify_slice(&answer).is_ok())
    }

    fn mac(&self, challenge: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new(&self.0.into());
        mac.update(challenge.as_bytes());
        mac
    }
}

/// A challenge that was never asked before.
///
/// # Errors
/// The system has no randomness.
pub fn new_challenge() -> io::Result<String> {
    Ok(URL_SAFE_NO_PAD.encode(random::<32>()?))
}

/// Whether a client's text is a challenge that is worth an answer.
pub fn is_challenge(text: &str) -> bool {
    text.len() == CHALLENGE_BYTES
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

/// Asks the kernel and no file: an image need not have `/dev`. Up to 256 bytes come at once (getrandom(2)).
pub(crate) fn random<const BYTES: usize>() -> io::Result<[u8; BYTES]> {
    let mut bytes = [0; BYTES];
    let count = getrandom(&mut bytes, GetRandomFlags::empty())?;
    if count == BYTES {
        Ok(bytes)
    } else {
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_key_and_challenge_give_the_answer() {
        let directory = tempfile::tempdir().unwrap();
        let key = IdentityKey::create(directory.path()).unwrap();
        let challenge = new_challenge().unwrap();
        assert!(is_challenge(&challenge));
        let answer = IdentityKey::read(directory.path()).unwrap().answer(&challenge);
        assert!(key.is_answer(&challenge, &answer));
        assert!(!key.is_answer(&new_challenge().unwrap(), &answer));
        let other = IdentityKey::create(directory.path()).unwrap();
        assert!(!other.is_answer(&challenge, &answer));
        assert!(!key.is_answer(&challenge, "") && !key.is_answer(&challenge, "!"));
    }
}
