//! The files of one Secret or ConfigMap.

use std::io::{ErrorKind, Read as _};
use std::path::Path;

use secrecy::{ExposeSecret as _, SecretSlice, SecretString};

use super::{CA_KEY, Error, KEYS};

/// Kubernetes keeps Secrets and ConfigMaps below this size.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// The keys that are understood, as they were read; a key that is not there is absent.
#[derive(Debug)]
pub(super) struct Files(Vec<(&'static str, Result<SecretSlice<u8>, ErrorKind>)>);

impl Files {
    /// What is known after a failure that concerns every key.
    pub(super) fn unreadable(kind: ErrorKind) -> Self {
        Self(KEYS.map(|key| (key, Err(kind))).into())
    }

    /// The content of `key` of the Secret or ConfigMap `name`, if there is such a key.
    pub(super) fn get(&self, name: &str, key: &'static str) -> Result<Option<&SecretSlice<u8>>, Error> {
        match self.0.iter().find(|(own, _)| *own == key) {
            None => Ok(None),
            Some((_, Ok(content))) => Ok(Some(content)),
            Some((_, Err(kind))) => Err(Error::Unreadable {
                name: name.to_owned(),
                key,
                kind: *kind,
            }),
        }
    }
}

impl PartialEq for Files {
    fn eq(&self, other: &Self) -> bool {
        self.0.len() == other.0.len()
            && self
                .0
                .iter()
                .zip(&other.0)
                .all(|((key, content), (other_key, other_content))| {
                    key == other_key
                        && match (content, other_content) {
                            (Ok(content), Ok(other)) => content.expose_secret() == other.expose_secret(),
                            (Err(kind), Err(other)) => kind == other,
                            _ => false,
                        }
                })
    }
}

/// Reads the file at `path` as the key with certificate authorities.
pub(super) fn read_ca_file(path: &Path) -> Files {
    Files(match read_file(path) {
        Ok(content) => vec![(CA_KEY, Ok(content.into()))],
        Err(error) if error.kind() == ErrorKind::NotFound => Vec::new(),
        Err(error) => vec![(CA_KEY, Err(error.kind()))],
    })
}

/// Reads all keys in `dir`. Links are followed: kubelet makes every key one.
pub(super) fn read_files(dir: &Path) -> Files {
    let mut files = Vec::new();
    for key in KEYS {
        match read_file(&dir.join(key)) {
            Ok(content) => files.push((key, Ok(content.into()))),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => files.push((key, Err(error.kind()))),
        }
    }
    Files(files)
}

fn read_file(path: &Path) -> std::io::Result<Vec<u8>> {
    // Opening a pipe would wait for its other end.
    let metadata = std::fs::metadata(path)?;
    if !metadata.is_file() {
        return Err(ErrorKind::InvalidInput.into());
    }
    // Growing a buffer would leave copies of a secret behind in freed memory.
    let mut content =
        Vec::with_capacity(usize::try_from(metadata.len().min(FILE_BYTES_MAX)).unwrap_or(0) + 1);
    std::fs::File::open(path)?
        .take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut content)?;
    if content.len() as u64 > FILE_BYTES_MAX {
        return Err(ErrorKind::FileTooLarge.into());
    }
    Ok(content)
}

/// A file's content as a value: without the one newline that editors and `echo` add.
pub(super) fn value(content: &[u8]) -> Result<SecretString, &'static str> {
    let text = std::str::from_utf8(content).map_err(|_| "it is not UTF-8")?;
    let text = text
        .strip_suffix('\n')
        .map_or(text, |line| line.strip_suffix('\r').unwrap_or(line));
    if text.is_empty() {
        Err("it is empty")
    } else {
        Ok(text.into())
    }
}
