//! The line by which a file is known as Larder's, whoever reads it: another mirror, a later run, an administrator.
//!
//! It says whose the file is, what its directory was before, and what the content should be. Everything that is needed
//! to restore a node is therefore on the node itself, and survives every pod.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

const PREFIX: &str = "# larder: mirror=";
/// Longer than any UID of Kubernetes and any name of an object.
const OWNER_BYTES_MAX: usize = 300;

/// Who keeps a file: the UID of a mirror, or the name of a standalone configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Owner(String);

/// An owner must fit into one word of the marker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("metadata.uid is not the UID of an object")]
pub struct NotAnOwner;

impl FromStr for Owner {
    type Err = NotAnOwner;

    fn from_str(text: &str) -> Result<Self, NotAnOwner> {
        let is_word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_');
        if (1..=OWNER_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_word) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NotAnOwner)
        }
    }
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A point in time as file systems keep it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Mtime {
    /// Since the epoch.
    pub seconds: i64,
    /// Less than a second.
    pub nanoseconds: u32,
}

impl fmt::Display for Mtime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.seconds, self.nanoseconds)
    }
}

/// What the file's directory was before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Directory {
    /// It did not exist, so it goes with the file. The one above it was last modified then.
    Made(Mtime),
    /// It was there, last modified then.
    Found(Mtime),
    /// Somebody has changed the marker: what cannot be known is left as it is.
    Unknown,
}

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Marker {
    /// Who keeps it.
    pub owner: Owner,
    /// What its directory was.
    pub directory: Directory,
}

impl Marker {
    /// The whole file: the marker, then `body`.
    pub(super) fn sign(&self, body: &str) -> String {
        let Self { owner, directory } = self;
        let directory = match directory {
            Directory::Made(mtime) => format!("made:{mtime}"),
            Directory::Found(mtime) => format!("found:{mtime}"),
            Directory::Unknown => "unknown".to_owned(),
        };
        let claim = format!("{PREFIX}{owner} directory={directory}");
        let digest = Sha256::new().chain_update(&claim).chain_update(body).finalize();
        let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("{claim} sha256={hex}\n{body}")
    }

    /// The marker of a file, in whichever line it is, and whether the file is as it was signed. `None` when it has none.
    pub(super) fn find(text: &str) -> Option<(Self, bool)> {
        let line = text.lines().find_map(|line| line.strip_prefix(PREFIX))?;
        let mut words = line.split(' ');
        let owner = words.next()?.parse().ok()?;
        let directory = words.find_map(directory).unwrap_or(Directory::Unknown);
        let marker = Self { owner, directory };
        let is_intact = text
            .split_once('\n')
            .is_some_and(|(_, body)| marker.sign(body) == text);
        Some((marker, is_intact))
    }
}

fn directory(word: &str) -> Option<Directory> {
    let (what, mtime) = word.strip_prefix("directory=")?.split_once(':')?;
    let (seconds, nanoseconds) = mtime.split_once('.')?;
    let mtime = Mtime {
        seconds: seconds.parse().ok()?,
        nanoseconds: nanoseconds.parse().ok()?,
    };
    match what {
        "made" => Some(Directory::Made(mtime)),
        "found" => Some(Directory::Found(mtime)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn marker(directory: Directory) -> Marker {
        let owner = "0b6ff5a8-7d1c-4f0e-9d41-0f8d0c2b5f11".parse().unwrap();
        Marker { owner, directory }
    }

    #[test]
    fn a_changed_file_is_still_known_as_ours() {
        let mtime = Mtime {
            seconds: 7,
            nanoseconds: 0,
        };
        let ours = marker(Directory::Made(mtime));
        let text = ours.sign("server = \"https://quay.io\"\n");
        assert_eq!(Marker::find(&text), Some((ours.clone(), true)));
        for changed in [
            text.replace("quay.io", "evil.test"),
            format!("# mine now\n{text}"),
            text.replace("directory=made:7.0", "directory=yours"),
            text.trim_end().to_owned(),
        ] {
            let (found, is_intact) = Marker::find(&changed).unwrap();
            assert_eq!((found.owner, is_intact), (ours.owner.clone(), false), "{changed}");
        }
        assert_eq!(Marker::find("server = \"https://quay.io\"\n"), None);
        assert_eq!(Marker::find("# larder: mirror=a/b directory=made\n"), None);
    }

    proptest! {
        #[test]
        fn what_is_signed_is_found(seconds: i64, nanoseconds in 0..1_000_000_000_u32, body in "[a-z\n=\"]{0,80}") {
            let ours = marker(Directory::Found(Mtime { seconds, nanoseconds }));
            prop_assert_eq!(Marker::find(&ours.sign(&body)), Some((ours, true)));
        }

        #[test]
        fn no_text_upsets_the_reader(text in "(# larder: mirror=)?\\PC{0,80}(\n\\PC{0,80}){0,3}") {
            let _ = Marker::find(&text);
        }

        #[test]
        fn an_owner_is_one_word(text in "\\PC{0,40}") {
            if let Ok(owner) = text.parse::<Owner>() {
                prop_assert_eq!(owner.to_string().split_whitespace().count(), 1);
            }
        }
    }
}
