//! Stand-in for the credential store until its branch is merged.
#![allow(missing_docs, clippy::type_complexity)]
use secrecy::SecretString;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

#[derive(Debug)]
pub enum Credential {
    Basic {
        username: String,
        password: SecretString,
    },
    IdentityToken {
        username: String,
        token: SecretString,
    },
    Bearer(SecretString),
}
#[derive(Clone, Debug)]
pub struct Loaded<T> {
    pub value: Arc<T>,
    pub mark: u64,
}
#[derive(Debug, Default)]
pub struct CredentialStore {
    pub credentials: Mutex<HashMap<String, (Arc<Credential>, u64)>>,
    pub bundles: Mutex<HashMap<String, (Arc<Vec<u8>>, u64)>>,
}
impl CredentialStore {
    pub fn credential(&self, secret_name: &str, _host: &str) -> Option<Loaded<Credential>> {
        let map = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        map.get(secret_name).map(|(value, mark)| Loaded {
            value: Arc::clone(value),
            mark: *mark,
        })
    }
    pub fn ca_bundle(&self, name: &str) -> Option<Loaded<Vec<u8>>> {
        let map = self.bundles.lock().unwrap_or_else(PoisonError::into_inner);
        map.get(name).map(|(value, mark)| Loaded {
            value: Arc::clone(value),
            mark: *mark,
        })
    }
}
