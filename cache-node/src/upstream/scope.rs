//! What a successful request proves something for: access rights are per registry, repository and credential.

use std::fmt;
use std::io;
use std::str::FromStr;
use std::sync::Arc;

use crate::identity::random;
use crate::oci::RepoName;

/// With what rights something is asked for: the name of the credential.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CredentialKey {
    /// Without a credential.
    Anonymous,
    /// With the credential in the Secret of this name.
    Secret(Arc<str>),
}

/// A repository of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Repository {
    /// The configured registry's host.
    pub registry: Arc<str>,
    /// The repository, as upstream names it.
    pub name: RepoName,
}

impl fmt::Display for Repository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.name)
    }
}

/// On whose behalf something is asked: the key of access rights and of single-flights.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Scope {
    /// What is asked of.
    pub repository: Repository,
    /// With which credential.
    pub credential: CredentialKey,
    /// Tells the credential's content from what it was before and will be after a change. Survives restarts. None without
    /// a credential.
    pub fingerprint: Option<u32>,
}

impl Scope {
    /// Whether whatever it is answered can be had by anybody.
    pub fn is_anonymous(&self) -> bool {
        self.credential == CredentialKey::Anonymous
    }
}

/// What is hashed with a credential for its fingerprint, so that the fingerprint can be compared with none from elsewhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Salt([u8; Self::BYTES]);

impl Salt {
    const BYTES: usize = 16;

    /// A random one.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn random() -> io::Result<Self> {
        random().map(Self)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Salt")
    }
}

/// As hexadecimal digits, for the file that it is kept in.
impl fmt::Display for Salt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl FromStr for Salt {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        u128::from_str_radix(text, 16).map(|salt| Self(salt.to_be_bytes()))
    }
}
