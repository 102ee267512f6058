//! Secrets and certificate authorities, read from the directory where kubelet mounts them.
//!
//! Each Secret or ConfigMap is a directory with its keys as files. What was asked for once is read again when it
//! changes, so that a rotated credential needs no restart. Values never appear in errors, logs or `Debug`.

mod docker_config;
mod files;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::MissedTickBehavior;

use crate::config::{Settled, is_dns_subdomain};
use files::{Files, read_files};

const DOCKER_CONFIG_KEY: &str = ".dockerconfigjson";
const USERNAME_KEY: &str = "username";
const PASSWORD_KEY: &str = "password";
const TOKEN_KEY: &str = "token";
const CA_KEY: &str = "ca.crt";
/// The name under which `--ca-bundle` is kept: none that an object can have.
const CA_FILE: &str = "";
const KEYS: [&str; 5] = [DOCKER_CONFIG_KEY, USERNAME_KEY, PASSWORD_KEY, TOKEN_KEY, CA_KEY];

/// What proves to a registry who we are.
#[derive(Clone, Debug)]
pub enum Credential {
    /// A user and a password (RFC 7617).
    Basic {
        /// The user.
        username: SecretString,
        /// The password.
        password: SecretString,
    },
    /// An OAuth 2 refresh token for the registry's token server.
    IdentityToken {
        /// The user that the token belongs to, if it is known.
        username: Option<SecretString>,
        /// The refresh token.
        token: SecretString,
    },
    /// A token that the registry itself takes (RFC 6750): visible ASCII.
    Bearer(SecretString),
}

/// Why there is no credential or certificate. Names the Secret and the key, never a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No directory of credentials was given.
    #[error("{name} is needed, but no directory of credentials is configured")]
    NoDirectory {
        /// The Secret or ConfigMap.
        name: String,
    },
    /// The name is none that Kubernetes gives.
    #[error("{name:?} is not the name of a Secret or ConfigMap")]
    InvalidName {
        /// The Secret or ConfigMap.
        name: String,
    },
    /// It is not there, or has none of the keys that are understood.
    #[error(
        "secret {name} is missing or has none of the keys .dockerconfigjson, username with password, and token"
    )]
    Missing {
        /// The Secret.
        name: String,
    },
    /// It is there but cannot be read.
    #[error("cannot read key {key} of {name}: {kind}")]
    Unreadable {
        /// The Secret or ConfigMap.
        name: String,
        /// The key.
        key: &'static str,
        /// What the operating system says.
        kind: std::io::ErrorKind,
    },
    /// It was read but means nothing.
    #[error("key {key} of secret {name} is malformed: {reason}")]
    Malformed {
        /// The Secret.
        name: String,
        /// The key.
        key: &'static str,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// Reads Secrets and certificate authorities, and keeps them as they are on disk. Clones share their content.
#[derive(Clone, Debug)]
pub struct CredentialStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    dir: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    /// What was asked for. Names come from the configuration, which bounds their number.
    entries: Mutex<HashMap<String, Entry>>,
}

#[derive(Debug)]
struct Entry {
    files: Arc<Files>,
    settled: Settled<Arc<Files>>,
    generation: u64,
}

impl CredentialStore {
    /// A store over `dir`; without one every credential is an error. Reads nothing yet.
    pub fn new(dir: Option<PathBuf>) -> Self {
        Self {
            shared: Arc::new(Shared {
                dir,
                ca_file: None,
                entries: Mutex::default(),
            }),
        }
    }

    /// The same, still empty, with certificate authorities for every registry in `path`, a PEM file.
    #[must_use]
    pub fn with_ca_file(self, path: Option<PathBuf>) -> Self {
        Self {
            shared: Arc::new(Shared {
                dir: self.shared.dir.clone(),
                ca_file: path,
                entries: Mutex::default(),
            }),
        }
    }

    /// The credential in Secret `name` for the registry at `host` (`HOST` or `HOST:PORT`, such as
    /// [`Endpoint::host`](crate::config::Endpoint::host) says it). `None`: its `.dockerconfigjson` has no entry
    /// for that registry. The first call reads the disk, later ones memory.
    pub async fn get(&self, name: &str, host: &str) -> Result<Option<Credential>, Error> {
        let files = self.files(name).await?;
        let malformed = |key, reason| Error::Malformed {
            name: name.to_owned(),
            key,
            reason,
        };
        if let Some(json) = files.get(name, DOCKER_CONFIG_KEY)? {
            return docker_config::credential(json.expose_secret(), host)
                .map_err(|reason| malformed(DOCKER_CONFIG_KEY, reason));
        }
        let text = |key| {
            let Some(bytes) = files.get(name, key)? else {
                return Ok(None);
            };
            files::value(bytes.expose_secret())
                .map(Some)
                .map_err(|reason| malformed(key, reason))
        };
        match (text(USERNAME_KEY)?, text(PASSWORD_KEY)?) {
            (Some(username), Some(password)) => return Ok(Some(Credential::Basic { username, password })),
            (Some(_), None) => return Err(malformed(PASSWORD_KEY, "it is missing beside username")),
            (None, Some(_)) => return Err(malformed(USERNAME_KEY, "it is missing beside password")),
            (None, None) => {}
        }
        let Some(token) = text(TOKEN_KEY)? else {
            return Err(Error::Missing {
                name: name.to_owned(),
            });
        };
        bearer(token)
            .map(Some)
            .map_err(|reason| malformed(TOKEN_KEY, reason))
    }

    /// The PEM certificates under `ca.crt` of ConfigMap `name`. `None`: there is no such ConfigMap or key.
    pub async fn ca_bundle(&self, name: &str) -> Result<Option<Vec<u8>>, Error> {
        let files = self.files(name).await?;
        Ok(files.get(name, CA_KEY)?.map(|pem| pem.expose_secret().to_vec()))
    }

    /// Whether a file with certificate authorities for every registry was named.
    pub fn has_ca_file(&self) -> bool {
        self.shared.ca_file.is_some()
    }

    /// The content of the file with certificate authorities for every registry, if one was named; within it, as
    /// [`ca_bundle`](Self::ca_bundle).
    pub async fn ca_file(&self) -> Option<Result<Option<Vec<u8>>, Error>> {
        let path = self.shared.ca_file.clone()?;
        let files = self.entry(CA_FILE, move || files::read_ca_file(&path)).await;
        let pem = files.get("--ca-bundle", CA_KEY);
        Some(pem.map(|pem| pem.map(|pem| pem.expose_secret().to_vec())))
    }

    /// The [`generation`](Self::generation) of that file.
    pub fn ca_file_generation(&self) -> u64 {
        self.generation(CA_FILE)
    }

    /// Grows when the Secret or ConfigMap changes; what was derived from an older generation should be dropped.
    /// 0 until it is asked for.
    pub fn generation(&self, name: &str) -> u64 {
        self.entries().get(name).map_or(0, |entry| entry.generation)
    }

    /// Reads everything that was asked for again. A change counts once two successive calls have seen it, so
    /// that files that are just being written are not taken for the whole.
    pub async fn refresh(&self) {
        let names: Vec<String> = self.entries().keys().cloned().collect();
        let shared = Arc::clone(&self.shared);
        let read = tokio::task::spawn_blocking(move || {
            let read = |name: String| {
                let files = match (name.as_str(), &shared.ca_file, &shared.dir) {
                    (CA_FILE, Some(path), _) => files::read_ca_file(path),
                    (_, _, dir) => read_files(&dir.as_ref()?.join(&name)),
                };
                Some((files, name))
            };
            names.into_iter().filter_map(read).collect::<Vec<_>>()
        });
        for (files, name) in read.await.unwrap_or_default() {
            let mut entries = self.entries();
            let Some(entry) = entries.get_mut(&name) else {
                continue;
            };
            if let Some(changed) = entry.settled.observe(Arc::new(files)) {
                entry.files = Arc::clone(changed);
                entry.generation += 1;
                tracing::info!(name, generation = entry.generation, "credentials reloaded");
            }
        }
    }

    /// Calls [`refresh`](Self::refresh) every `interval`; never returns.
    pub async fn watch(&self, interval: Duration) {
        let mut ticks = tokio::time::interval(interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            self.refresh().await;
        }
    }

    async fn files(&self, name: &str) -> Result<Arc<Files>, Error> {
        // The configuration has checked it; this is where a bad name would leave the directory.
        if !is_dns_subdomain(name) {
            return Err(Error::InvalidName {
                name: name.to_owned(),
            });
        }
        let Some(dir) = &self.shared.dir else {
            return Err(Error::NoDirectory {
                name: name.to_owned(),
            });
        };
        let path = dir.join(name);
        Ok(self.entry(name, move || read_files(&path)).await)
    }

    /// What is kept under `name`; the first time, what `read` finds.
    async fn entry(&self, name: &str, read: impl FnOnce() -> Files + Send + 'static) -> Arc<Files> {
        if let Some(entry) = self.entries().get(name) {
            return Arc::clone(&entry.files);
        }
        let read = tokio::task::spawn_blocking(read).await;
        let files = Arc::new(read.unwrap_or_else(|_| Files::unreadable(std::io::ErrorKind::Interrupted)));
        let entry = Entry {
            files: Arc::clone(&files),
            settled: Settled::new(Some(Arc::clone(&files))),
            generation: 1,
        };
        Arc::clone(&self.entries().entry(name.to_owned()).or_insert(entry).files)
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<String, Entry>> {
        // No code panics while it holds the lock, and each step leaves the map whole.
        self.shared.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A token that can stand in a header.
fn bearer(token: SecretString) -> Result<Credential, &'static str> {
    let text = token.expose_secret();
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic()) {
        Ok(Credential::Bearer(token))
    } else {
        Err("a token is one word of visible ASCII characters")
    }
}

#[cfg(test)]
mod tests;
