use std::fs;
use std::path::Path;

use base64::Engine as _;
use proptest::prelude::*;
use secrecy::ExposeSecret as _;

use super::*;

fn secret(dir: &Path, name: &str, files: &[(&str, &str)]) {
    fs::create_dir_all(dir.join(name)).unwrap();
    for (key, content) in files {
        fs::write(dir.join(name).join(key), content).unwrap();
    }
}

fn store(dir: &Path) -> CredentialStore {
    CredentialStore::new(Some(dir.to_owned()))
}

fn plain(credential: Option<Credential>) -> String {
    match credential {
        None => "none".to_owned(),
        Some(Credential::Basic { username, password }) => {
            format!("basic {} {}", username.expose_secret(), password.expose_secret())
        }
        Some(Credential::IdentityToken { username, token }) => {
            let username = username.map_or_else(|| "-".to_owned(), |u| u.expose_secret().to_owned());
            format!("identity {username} {}", token.expose_secret())
        }
        Some(Credential::Bearer(token)) => format!("bearer {}", token.expose_secret()),
    }
}

async fn docker_config(auths: &str, host: &str) -> Result<String, Error> {
    let dir = tempfile::tempdir().unwrap();
    secret(
        dir.path(),
        "s",
        &[(DOCKER_CONFIG_KEY, &format!("{{\"auths\":{auths}}}"))],
    );
    store(dir.path()).get("s", host).await.map(plain)
}

#[tokio::test]
async fn finds_the_entry_of_a_registry_under_every_spelling() {
    for (key, host) in [
        ("https://index.docker.io/v1/", "docker.io"),
        ("docker.io", "registry-1.docker.io"),
        ("https://index.docker.io/v1/", "registry-1.docker.io"),
        ("quay.io", "QUAY.io"),
        ("https://quay.io/v2/", "quay.io"),
        ("https://quay.io", "quay.io:443"),
        ("registry.test:5000", "registry.test:5000"),
        ("http://[::1]:5000/v2", "[::1]:5000"),
    ] {
        let auths = format!("{{\"other.test\":{{\"auth\":\"eDp5\"}},{key:?}:{{\"auth\":\"dTpw\"}}}}");
        assert_eq!(
            docker_config(&auths, host).await.as_deref(),
            Ok("basic u p"),
            "{key}"
        );
    }
    for (key, host) in [
        ("quay.io/acme", "quay.io"),
        ("quay.io", "quay.io:5000"),
        ("io", "quay.io"),
    ] {
        let auths = format!("{{{key:?}:{{\"auth\":\"dTpw\"}}}}");
        assert_eq!(docker_config(&auths, host).await.as_deref(), Ok("none"), "{key}");
    }
}

#[tokio::test]
async fn reads_every_form_of_an_entry() {
    for (entry, expected) in [
        (r#"{"auth":"dTpwOnE="}"#, "basic u p:q"),
        (r#"{"auth":"dTpwOnE"}"#, "basic u p:q"),
        (r#"{"username":"u","password":"p","email":"e"}"#, "basic u p"),
        (r#"{"identitytoken":"t"}"#, "identity - t"),
        (r#"{"auth":"dTo=","identitytoken":"t"}"#, "identity u t"),
        (r#"{"registrytoken":"t"}"#, "bearer t"),
    ] {
        let found = docker_config(&format!("{{\"quay.io\":{entry}}}"), "quay.io").await;
        assert_eq!(found.as_deref(), Ok(expected), "{entry}");
    }
}

#[tokio::test]
async fn says_what_is_malformed_without_repeating_it() {
    for entry in [
        r#"{"auth":"c2VjcmV0"}"#,
        r#"{"auth":"secret!"}"#,
        r#"{"username":"secret"}"#,
        "{}",
        "5",
        r#"{"registrytoken":"secret secret"}"#,
    ] {
        let error = docker_config(&format!("{{\"quay.io\":{entry}}}"), "quay.io")
            .await
            .unwrap_err();
        assert!(
            matches!(
                &error,
                Error::Malformed {
                    key: DOCKER_CONFIG_KEY,
                    ..
                }
            ),
            "{entry}: {error}"
        );
        assert!(!format!("{error} {error:?}").contains("secret!") && !error.to_string().contains("c2Vj"));
    }
}

#[tokio::test]
async fn reads_basic_auth_and_opaque_secrets() {
    let dir = tempfile::tempdir().unwrap();
    secret(
        dir.path(),
        "basic",
        &[("username", "u\n"), ("password", "p \r\n")],
    );
    secret(
        dir.path(),
        "key",
        &[("username", "_json_key"), ("password", "{\n  \"a\": 1\n}\n\n")],
    );
    secret(dir.path(), "token", &[("token", "abc\n")]);
    let store = store(dir.path());
    for (name, expected) in [
        ("basic", "basic u p "),
        ("key", "basic _json_key {\n  \"a\": 1\n}\n"),
        ("token", "bearer abc"),
    ] {
        assert_eq!(
            store.get(name, "quay.io").await.map(plain).as_deref(),
            Ok(expected)
        );
    }
    let shown = format!("{store:?} {:?}", store.get("token", "quay.io").await);
    assert!(!shown.contains("abc"), "{shown}");
}

#[tokio::test]
async fn tells_missing_unreadable_and_malformed_apart() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "empty", &[]);
    secret(dir.path(), "half", &[("username", "u")]);
    secret(dir.path(), "blank", &[("token", "\n")]);
    secret(dir.path(), "binary", &[]);
    fs::write(dir.path().join("binary/token"), [0xff]).unwrap();
    secret(dir.path(), "large", &[("token", &"x".repeat((1 << 20) + 1))]);
    fs::create_dir_all(dir.path().join("folder/token")).unwrap();
    let store = store(dir.path());
    let mut errors = Vec::new();
    for name in [
        "absent", "empty", "half", "blank", "binary", "large", "folder", "../etc",
    ] {
        errors.push(store.get(name, "quay.io").await.unwrap_err());
    }
    let name = |name: &str| name.to_owned();
    let malformed = |secret, key, reason| Error::Malformed {
        name: name(secret),
        key,
        reason,
    };
    let unreadable = |secret, kind| Error::Unreadable {
        name: name(secret),
        key: TOKEN_KEY,
        kind,
    };
    assert_eq!(
        errors,
        [
            Error::Missing { name: name("absent") },
            Error::Missing { name: name("empty") },
            malformed("half", PASSWORD_KEY, "it is missing beside username"),
            malformed("blank", TOKEN_KEY, "it is empty"),
            malformed("binary", TOKEN_KEY, "it is not UTF-8"),
            unreadable("large", std::io::ErrorKind::FileTooLarge),
            unreadable("folder", std::io::ErrorKind::InvalidInput),
            Error::InvalidName { name: name("../etc") },
        ]
    );
    let without = CredentialStore::new(None).get("absent", "quay.io").await;
    assert_eq!(
        without.map(plain),
        Err(Error::NoDirectory { name: name("absent") })
    );
}

#[tokio::test]
async fn notices_a_secret_that_changes_as_kubelet_does_it() {
    let dir = tempfile::tempdir().unwrap();
    let mount = dir.path().join("s");
    for version in ["v1", "v2"] {
        secret(&mount, version, &[("token", version)]);
    }
    let swap = |version: &str| {
        std::os::unix::fs::symlink(version, mount.join("..next")).unwrap();
        fs::rename(mount.join("..next"), mount.join("..data")).unwrap();
    };
    swap("v1");
    std::os::unix::fs::symlink("..data/token", mount.join("token")).unwrap();

    let store = store(dir.path());
    assert_eq!(store.generation("s"), 0);
    assert_eq!(
        store.get("s", "quay.io").await.map(plain).as_deref(),
        Ok("bearer v1")
    );
    assert_eq!(store.generation("s"), 1);
    swap("v2");
    store.refresh().await;
    assert_eq!(
        store.generation("s"),
        1,
        "one reading may be of a half-written file"
    );
    store.refresh().await;
    store.refresh().await;
    assert_eq!(store.generation("s"), 2);
    assert_eq!(
        store.get("s", "quay.io").await.map(plain).as_deref(),
        Ok("bearer v2")
    );
}

#[tokio::test(start_paused = true)]
async fn finds_a_secret_that_appears_later_and_forgets_one_that_goes() {
    let dir = tempfile::tempdir().unwrap();
    let store = store(dir.path());
    assert!(store.get("late", "quay.io").await.is_err());
    let watched = store.clone();
    let watch = tokio::spawn(async move { watched.watch(Duration::from_millis(1)).await });
    secret(dir.path(), "late", &[("token", "t")]);
    while store.generation("late") < 2 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(
        store.get("late", "quay.io").await.map(plain).as_deref(),
        Ok("bearer t")
    );
    fs::remove_dir_all(dir.path().join("late")).unwrap();
    while store.generation("late") < 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(store.get("late", "quay.io").await.is_err());
    watch.abort();
}

#[tokio::test]
async fn reads_certificate_authorities() {
    let dir = tempfile::tempdir().unwrap();
    secret(dir.path(), "corp-ca", &[("ca.crt", "PEM\n")]);
    let store = store(dir.path());
    assert_eq!(store.ca_bundle("corp-ca").await, Ok(Some(b"PEM\n".to_vec())));
    assert_eq!(store.ca_bundle("absent").await, Ok(None));
}

proptest! {
    #[test]
    fn never_panics_on_a_docker_config(json: String, auth: Vec<u8>, key: String, host: String) {
        let _ = docker_config::credential(json.as_bytes(), &host);
        let auth = base64::engine::general_purpose::STANDARD.encode(auth);
        let json = serde_json::json!({ "auths": { key: { "auth": auth } } }).to_string();
        let _ = docker_config::credential(json.as_bytes(), &host);
    }
}
