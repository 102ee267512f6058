//! Content digests, and the hashers that prove them.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256, Sha512};

/// A digest algorithm registered by the OCI image specification that registries really use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// `sha256`: 32 bytes.
    Sha256,
    /// `sha512`: 64 bytes.
    Sha512,
}

impl Algorithm {
    /// Every algorithm, for walking the store's folders.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// The name used in front of the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == name)
    }
}

/// A content digest, `sha256:<64 hex>` or `sha512:<128 hex>` (image-spec, descriptor.md).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Digest {
    /// The value of a SHA-256.
    Sha256([u8; 32]),
    /// The value of a SHA-512.
    Sha512([u8; 64]),
}

/// Why a string is not a digest that we can verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseDigestError {
    /// There is no colon between algorithm and value.
    #[error("a digest is <algorithm>:<hex>")]
    NoAlgorithm,
    /// The algorithm is none that we can verify.
    #[error("the digest algorithm is neither sha256 nor sha512")]
    UnknownAlgorithm,
    /// The value has another length than the algorithm's, or is not lower-case hex.
    #[error("the digest's value is not lower-case hex of the algorithm's length")]
    InvalidValue,
}

impl Digest {
    /// The digest of `content` under `algorithm`.
    pub fn of(algorithm: Algorithm, content: &[u8]) -> Self {
        let mut hasher = DigestHasher::new(algorithm);
        hasher.update(content);
        hasher.finish()
    }

    /// The algorithm in front of the colon.
    pub fn algorithm(&self) -> Algorithm {
        match self {
            Self::Sha256(_) => Algorithm::Sha256,
            Self::Sha512(_) => Algorithm::Sha512,
        }
    }

    /// The lower-case hex after the colon: safe as a file name.
    pub fn hex(&self) -> String {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        self.bytes()
            .iter()
            .flat_map(|byte| [HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]])
            .map(char::from)
            .collect()
    }

    /// The digest of `algorithm` whose value is `hex`.
    ///
    /// # Errors
    /// [`ParseDigestError::InvalidValue`] unless `hex` is lower-case hex of the algorithm's length.
    pub fn from_hex(algorithm: Algorithm, hex: &str) -> Result<Self, ParseDigestError> {
        fn decode<const N: usize>(hex: &str) -> Option<[u8; N]> {
            let nibble = |c: u8| match c {
                b'0'..=b'9' => Some(c - b'0'),
                b'a'..=b'f' => Some(c - b'a' + 10),
                _ => None,
            };
            let (pairs, rest) = hex.as_bytes().as_chunks::<2>();
            if pairs.len() != N || !rest.is_empty() {
                return None;
            }
            let mut bytes = [0; N];
            for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
                *byte = nibble(*high)? << 4 | nibble(*low)?;
            }
            Some(bytes)
        }
        match algorithm {
            Algorithm::Sha256 => decode(hex).map(Self::Sha256),
            Algorithm::Sha512 => decode(hex).map(Self::Sha512),
        }
        .ok_or(ParseDigestError::InvalidValue)
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Self::Sha256(bytes) => bytes,
            Self::Sha512(bytes) => bytes,
        }
    }
}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (algorithm, hex) = text.split_once(':').ok_or(ParseDigestError::NoAlgorithm)?;
        let algorithm = Algorithm::from_name(algorithm).ok_or(ParseDigestError::UnknownAlgorithm)?;
        Self::from_hex(algorithm, hex)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm().as_str(), self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Hashes content piece by piece under the algorithm of the digest that it shall have.
#[derive(Clone)]
pub enum DigestHasher {
    /// A running SHA-256.
    Sha256(Sha256),
    /// A running SHA-512.
    Sha512(Sha512),
}

impl DigestHasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Self {
        match algorithm {
            Algorithm::Sha256 => Self::Sha256(Sha256::new()),
            Algorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Adds the next bytes of the content.
    pub fn update(&mut self, bytes: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(bytes),
            Self::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of everything seen.
    pub fn finish(self) -> Digest {
        match self {
            Self::Sha256(hasher) => Digest::Sha256(hasher.finalize().into()),
            Self::Sha512(hasher) => Digest::Sha512(hasher.finalize().into()),
        }
    }
}

impl fmt::Debug for DigestHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DigestHasher")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn the_digest_of_nothing_is_the_known_one() {
        assert_eq!(Digest::of(Algorithm::Sha256, b"").to_string(), EMPTY);
    }

    #[test]
    fn refuses_what_is_not_a_digest() {
        for (text, error) in [
            ("", ParseDigestError::NoAlgorithm),
            (":", ParseDigestError::UnknownAlgorithm),
            ("md5:00", ParseDigestError::UnknownAlgorithm),
            ("sha256:", ParseDigestError::InvalidValue),
            ("sha256:baddigeststring", ParseDigestError::InvalidValue),
            (
                &EMPTY.to_uppercase().replace("SHA", "sha"),
                ParseDigestError::InvalidValue,
            ),
            (&format!("{EMPTY}0"), ParseDigestError::InvalidValue),
            (&EMPTY.replace("sha256", "sha512"), ParseDigestError::InvalidValue),
        ] {
            assert_eq!(text.parse::<Digest>(), Err(error), "{text}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_are_inverse(content: Vec<u8>) {
            for algorithm in Algorithm::ALL {
                let digest = Digest::of(algorithm, &content);
                prop_assert_eq!(digest.to_string().parse(), Ok(digest));
            }
        }

        #[test]
        fn parsing_never_panics_and_is_exact(text: String) {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }
}
