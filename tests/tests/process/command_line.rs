//! What the program can be told, and what it says when that is wrong.

use std::fs;

use super::*;

/// Documents with one mistake each, and the field that the message must name.
const MISTAKES: [(&str, &str); 12] = [
    ("registries: []", "spec.registries: "),
    (
        "registries: [{host: quay.io, colour: red}]",
        "spec.registries[0].colour: unknown field",
    ),
    (
        "registries: [{host: quay.io}, {host: quay.io}]",
        "spec.registries[1].host: ",
    ),
    (
        "registries: [{host: docker.io}, {host: index.docker.io}]",
        "spec.registries[1].host: ",
    ),
    ("registries: [{host: 'a b'}]", "spec.registries[0].host: "),
    (
        "registries: [{host: a.test, endpoints: [{url: 'ftp://a.test'}]}]",
        "spec.registries[0].endpoints[0].url: ",
    ),
    (
        "registries: [{host: quay.io, tags: {ttl: soon}}]",
        "spec.registries[0].tags.ttl: ",
    ),
    (
        "registries: [{host: quay.io, tags: {ttl: 5}}]",
        "spec.registries[0].tags.ttl: ",
    ),
    (
        "registries: [{host: quay.io, tags: {immutable: ['[a']}}]",
        "spec.registries[0].tags.immutable[0]: ",
    ),
    (
        "registries: [{host: quay.io}]\n  cache: {verifyWholeUpTo: much}",
        "spec.cache.verifyWholeUpTo: ",
    ),
    (
        "registries: [{host: quay.io}]\n  defaultRegistry: gcr.io",
        "spec.defaultRegistry: ",
    ),
    (
        "registries: [{host: quay.io, lookAhead: All}]",
        "spec.registries[0].lookAhead: ",
    ),
];

fn document(spec: &str) -> String {
    format!(
        "apiVersion: larder.dev/v1alpha1\nkind: RegistryMirror\nmetadata: {{name: test}}\nspec:\n  {spec}\n"
    )
}

/// `check` of this text: exit code, standard output, standard error.
async fn check(text: &str) -> (i32, String, String) {
    let dir = tempfile();
    let path = dir.join("mirror.yaml");
    fs::write(&path, text).unwrap();
    let checked = run(&["check", "--config", path.to_str().unwrap()]).await;
    fs::remove_dir_all(dir).unwrap();
    checked
}

fn tempfile() -> std::path::PathBuf {
    let dir = std::env::temp_dir().join(format!("larder-process-{:016x}", fastrand::u64(..)));
    fs::create_dir(&dir).unwrap();
    dir
}

#[tokio::test]
async fn check_prints_the_effective_configuration() {
    let (code, effective, errors) =
        check(&document("registries: [{host: quay.io}, {host: docker.io}]")).await;
    assert_eq!((code, errors.as_str()), (0, ""));
    for expected in [
        "https://quay.io",
        "https://registry-1.docker.io",
        "kind: RegistryMirror",
        "ttl:",
    ] {
        assert!(effective.contains(expected), "{expected}\n{effective}");
    }
    assert_eq!(
        check(&effective).await,
        (0, effective, String::new()),
        "it is a configuration itself"
    );
}

#[tokio::test]
async fn check_names_the_field_of_every_mistake() {
    for (spec, expected) in MISTAKES {
        let (code, out, errors) = check(&document(spec)).await;
        assert_eq!((code, out.as_str()), (2, ""), "{spec}");
        assert_eq!(errors.lines().count(), 1, "{errors}");
        assert!(errors.starts_with(expected), "{expected}\n{errors}");
    }
    let (code, _, errors) = check("kind: [").await;
    assert!(code == 2 && errors.starts_with("not valid YAML: "), "{errors}");
    let (code, _, errors) = run(&["check", "--config", "/nonexistent/mirror.yaml"]).await;
    assert!(
        code == 2 && errors.contains("/nonexistent/mirror.yaml"),
        "{errors}"
    );
}

#[tokio::test]
async fn check_names_all_mistakes_at_once() {
    let text = document(
        "registries:\n  - {host: quay.io, tags: {ttl: soon}, colour: red}\n  - {host: 'a b'}\n  \
         - {host: c.test, endpoints: [{url: nowhere}]}\n  defaultRegistry: gcr.io",
    )
    .replace("v1alpha1", "v9");
    let (code, _, errors) = check(&text).await;
    assert_eq!(code, 2);
    for field in [
        "apiVersion: ",
        "spec.registries[0].colour: ",
        "spec.registries[0].tags.ttl: ",
        "spec.registries[1].host: ",
        "spec.registries[2].endpoints[0].url: ",
        "spec.defaultRegistry: ",
    ] {
        assert!(
            errors.lines().any(|line| line.starts_with(field)),
            "{field}\n{errors}"
        );
    }
    assert_eq!(errors.lines().count(), 6, "{errors}");
}

#[tokio::test]
async fn version_is_that_of_the_package() {
    let expected = concat!("cache-node ", env!("CARGO_PKG_VERSION"), "\n").to_owned();
    for arguments in [["version"], ["--version"]] {
        assert_eq!(run(&arguments).await, (0, expected.clone(), String::new()));
    }
}

#[tokio::test]
async fn wrong_usage_is_2() {
    for arguments in [
        &[][..],
        &["bake"],
        &["serve", "--colour", "red"],
        &["serve", "--listen", "5117"],
        &["check"],
        &["version", "extra"],
    ] {
        let (code, out, errors) = run(arguments).await;
        assert_eq!((code, out.as_str()), (2, ""), "{arguments:?}");
        assert!(!errors.is_empty());
    }
    let (code, _, errors) = said(
        cache_node(&["serve"])
            .env("RUST_LOG", "a=b=c")
            .output()
            .await
            .unwrap(),
    );
    assert!(code == 2 && errors.contains("RUST_LOG"), "{errors}");
}

/// A bad configuration starts nothing: no port is opened and no file is made, and every mistake is said.
#[tokio::test]
async fn serve_refuses_a_bad_configuration_and_starts_nothing() {
    let dir = tempfile();
    let (config, cache) = (dir.join("mirror.yaml"), dir.join("cache"));
    fs::write(
        &config,
        document("registries: [{host: 'a b'}, {host: c.test, colour: red}]"),
    )
    .unwrap();
    let listen = free("127.0.0.1");
    let mut serve = cache_node(&["serve", "--listen", &listen, "--admin", &free("127.0.0.1")]);
    serve.arg("--config").arg(&config).arg("--cache-dir").arg(&cache);
    let (code, _, errors) = said(serve.output().await.unwrap());
    assert_eq!(code, 2);
    for field in ["spec.registries[0].host: ", "spec.registries[1].colour: "] {
        assert!(
            errors.lines().any(|line| line.starts_with(field)),
            "{field}\n{errors}"
        );
    }
    assert!(!errors.contains("serving"), "{errors}");
    assert!(std::net::TcpStream::connect(&listen).is_err());
    assert!(!cache.try_exists().unwrap());
    fs::remove_dir_all(dir).unwrap();
}

/// Every flag by its environment variable, and the flag wins.
#[tokio::test]
async fn every_flag_is_an_environment_variable() {
    let up = registry_with_image().await;
    let dir = tempfile();
    let config = dir.join("mirror.yaml");
    let endpoint = Endpoint::new(up.url()).ca("corp");
    let document = MirrorConfig::new().with(Registry::new("up.test").endpoint(endpoint));
    fs::write(&config, document.to_yaml()).unwrap();
    secrets::write_ca(
        &dir.join("credentials"),
        "corp",
        &CertificateAuthority::new().pem(),
    );
    let [listen, admin, metrics] = ["127.0.0.1"; 3].map(free);
    let mut command = cache_node(&["serve", "--listen", &listen]);
    command
        .env("LARDER_CONFIG", &config)
        .env("LARDER_LISTEN", "192.0.2.1:1")
        .env("LARDER_ADMIN", &admin)
        .env("LARDER_METRICS", &metrics)
        .env("LARDER_CACHE_DIR", dir.join("cache"))
        .env("LARDER_CREDENTIALS_DIR", dir.join("credentials"));
    let mut child = spawn(&mut command);
    until_ready(&admin).await;
    assert_eq!(status(&format!("http://{listen}"), "up.test").await, 200);
    assert_eq!(
        Call::get(&format!("http://{metrics}/conditions"))
            .send()
            .await
            .status,
        200
    );
    assert!(dir.join("cache/tags.jsonl").try_exists().unwrap());
    child.kill().await.unwrap();
    fs::remove_dir_all(dir).unwrap();
}
