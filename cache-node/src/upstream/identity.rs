//! With which credential a request is made, and how that is written.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use reqwest::header::HeaderValue;
use secrecy::ExposeSecret;
use sha2::{Digest as _, Sha256};

use super::{CredentialKey, Salt, token};
use crate::config::Registry;
use crate::credentials::{Credential, CredentialStore};

/// The user name that stands for "the password is an identity token", after Docker's convention.
const IDENTITY_TOKEN_USER: &str = "<token>";

/// With what somebody is asked: a credential as it is now, or none.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    key: CredentialKey,
    mark: u64,
    credential: Option<Arc<Credential>>,
}

impl Identity {
    pub(super) const ANONYMOUS: Self = Self {
        key: CredentialKey::Anonymous,
        mark: 0,
        credential: None,
    };

    /// The credential of the first rule that matches `repo` (as the endpoint names it). A Secret that is missing or
    /// unreadable is no credential: what is public can be had without it.
    pub(super) async fn select(registry: &Registry, credentials: &CredentialStore, repo: &str) -> Self {
        let endpoint = &registry.endpoint;
        let rule = endpoint
            .credentials
            .iter()
            .find(|rule| rule.repositories.is_match(repo));
        let Some(rule) = rule else {
            return Self::ANONYMOUS;
        };
        Self::of_secret(registry, credentials, &rule.secret_name)
            .await
            .unwrap_or(Self::ANONYMOUS)
    }

    /// The credential for the registry's endpoint in a Secret, if there is one that can be read.
    pub(super) async fn of_secret(
        registry: &Registry,
        credentials: &CredentialStore,
        secret_name: &str,
    ) -> Option<Self> {
        let credential = credentials.get(secret_name, &registry.endpoint.host()).await;
        let credential = credential.unwrap_or_else(|error| {
            tracing::debug!(registry = registry.host, %error, "going on without credential");
            None
        })?;
        Some(Self {
            key: CredentialKey::Secret(secret_name.into()),
            mark: credentials.generation(secret_name),
            credential: Some(Arc::new(credential)),
        })
    }

    pub(super) fn key(&self) -> &CredentialKey {
        &self.key
    }

    /// Which state of the Secret this is.
    pub(super) fn mark(&self) -> u64 {
        self.mark
    }

    pub(super) fn credential(&self) -> Option<&Credential> {
        self.credential.as_deref()
    }

    /// What tells this credential from another one under the same name, also after a restart. Too short to be more than
    /// that: many credentials have the same.
    pub(super) fn fingerprint(&self, salt: &Salt) -> Option<u32> {
        let (kind, parts) = match self.credential()? {
            Credential::Basic { username, password } => (b'u', [Some(username), Some(password)]),
            Credential::IdentityToken { username, token } => (b'i', [username.as_ref(), Some(token)]),
            Credential::Bearer(token) => (b'b', [None, Some(token)]),
        };
        let mut hasher = Sha256::new();
        hasher.update(salt.as_bytes());
        hasher.update([kind]);
        for part in parts {
            let part = part.map_or("", ExposeSecret::expose_secret);
            // The length keeps `ab` and `c` apart from `a` and `bc`.
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
        let [first, second, third, fourth, ..] = <[u8; 32]>::from(hasher.finalize());
        Some(u32::from_le_bytes([first, second, third, fourth]))
    }
}

/// `Basic …`, where the credential has a password or can stand in for one.
pub(super) fn basic(credential: &Credential) -> Option<HeaderValue> {
    let (username, password) = match credential {
        Credential::Basic { username, password } => (username.expose_secret(), password),
        Credential::IdentityToken { username, token } => {
            let username = username.as_ref().map(ExposeSecret::expose_secret);
            (username.unwrap_or(IDENTITY_TOKEN_USER), token)
        }
        Credential::Bearer(_) => return None,
    };
    let encoded = STANDARD.encode(format!("{username}:{}", password.expose_secret()));
    let mut header = HeaderValue::try_from(format!("Basic {encoded}")).ok()?;
    header.set_sensitive(true);
    Some(header)
}

/// What the credential is sent as where no token is wanted.
pub(super) fn direct(credential: &Credential) -> Option<HeaderValue> {
    match credential {
        Credential::Bearer(secret) => token::bearer(secret.expose_secret()),
        credential => basic(credential),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(credential: Credential, salt: &Salt) -> Option<u32> {
        let identity = Identity {
            key: CredentialKey::Secret("s".into()),
            mark: 1,
            credential: Some(Arc::new(credential)),
        };
        identity.fingerprint(salt)
    }

    fn basic(username: &str, password: &str) -> Credential {
        Credential::Basic {
            username: username.into(),
            password: password.into(),
        }
    }

    #[test]
    fn only_the_same_credential_under_the_same_salt_has_the_same_fingerprint() {
        let salt: Salt = "00112233445566778899aabbccddeeff".parse().unwrap();
        let other: Salt = "ff112233445566778899aabbccddeeff".parse().unwrap();
        let identity_token = |username: Option<&str>| Credential::IdentityToken {
            username: username.map(Into::into),
            token: "c".into(),
        };
        let all = [
            fingerprint(basic("ab", "c"), &salt),
            fingerprint(basic("ab", "c"), &other),
            fingerprint(basic("a", "bc"), &salt),
            fingerprint(basic("", "c"), &salt),
            fingerprint(identity_token(None), &salt),
            fingerprint(identity_token(Some("ab")), &salt),
            fingerprint(Credential::Bearer("c".into()), &salt),
        ];
        let different: std::collections::HashSet<_> = all.iter().flatten().collect();
        assert_eq!(different.len(), all.len());
        assert_eq!(fingerprint(basic("ab", "c"), &salt), all[0]);
        assert_eq!(Identity::ANONYMOUS.fingerprint(&salt), None);
    }
}
