//! The `.dockerconfigjson` key of a Secret: credentials by registry, as `docker login` writes them.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::{Credential, bearer};
use crate::config::canonical_host;

const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);
/// The paths that clients have put behind a registry's host without meaning a repository.
const API_PATHS: [&str; 3] = ["", "v1", "v2"];

#[derive(Deserialize)]
struct DockerConfig {
    auths: BTreeMap<String, Auth>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

/// The credential for the registry at `host`, if there is an entry for it. Errors say what is wrong without
/// repeating any of it.
pub(super) fn credential(json: &[u8], host: &str) -> Result<Option<Credential>, &'static str> {
    let DockerConfig { auths } = serde_json::from_slice(json)
        .map_err(|_| "it is not a JSON object whose `auths` maps registries to credentials")?;
    let host = registry_host(host);
    // The plain name first: an entry that was written for a historic spelling may be as old as it.
    let entry = auths
        .iter()
        .filter(|(key, _)| host.is_some() && registry_host(key) == host)
        .min_by_key(|(key, _)| Some(key.as_str()) != host.as_deref());
    entry.map(|(_, auth)| from_entry(auth)).transpose()
}

/// The canonical host of `HOST`, `HOST:PORT`, `https://HOST/v1/` and the like; `None` if it means something else.
fn registry_host(key: &str) -> Option<String> {
    let rest = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))
        .unwrap_or(key);
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.strip_suffix(":443").unwrap_or(host);
    API_PATHS
        .contains(&path.trim_end_matches('/'))
        .then(|| canonical_host(host).ok())?
}

fn from_entry(entry: &Auth) -> Result<Credential, &'static str> {
    let Auth {
        auth,
        username,
        password,
        identitytoken,
        registrytoken,
    } = entry;
    if !registrytoken.is_empty() {
        return bearer(registrytoken.as_str().into());
    }
    let (username, password): (SecretString, SecretString) = if auth.is_empty() {
        (username.as_str().into(), password.as_str().into())
    } else {
        user_and_password(auth)?
    };
    let is_empty = |secret: &SecretString| secret.expose_secret().is_empty();
    if !identitytoken.is_empty() {
        let username = Some(username).filter(|username| !is_empty(username));
        return Ok(Credential::IdentityToken {
            username,
            token: identitytoken.as_str().into(),
        });
    }
    if is_empty(&username) || is_empty(&password) {
        return Err("the entry of the registry has neither auth, nor username and password, nor a token");
    }
    Ok(Credential::Basic { username, password })
}

fn user_and_password(auth: &str) -> Result<(SecretString, SecretString), &'static str> {
    const REASON: &str = "the entry's auth is not the base64 of user:password";
    let decoded = BASE64.decode(auth.trim()).map_err(|_| REASON)?;
    let text = SecretString::from(String::from_utf8(decoded).map_err(|_| REASON)?);
    let (username, password) = text.expose_secret().split_once(':').ok_or(REASON)?;
    // Some writers end the text with NUL bytes, as docker itself once did.
    Ok((username.into(), password.trim_end_matches('\0').into()))
}
