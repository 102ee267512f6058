//! The commands that do one thing, and wrong usage of the one that stays.

use std::os::unix::fs::{chown, symlink};

use super::*;

/// Runs the program to its end; returns its exit code and what it said.
async fn run(arguments: &[&str]) -> (i32, String) {
    let output = tokio::process::Command::new(larder_tests::program::cache_node())
        .env_clear()
        .args(arguments)
        .output()
        .await
        .unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

#[tokio::test]
async fn the_probe_follows_what_is_done() {
    let host = Host::new();
    let state = host.state.path().to_str().unwrap().to_owned();
    let probe = async || run(&["probe", "--state-dir", &state]).await;
    assert_eq!(probe().await.0, 1);
    let cache = FakeCache::start(host.state.path());
    let keeper = host.keep(&mirror(&["quay.io"]), &cache.url());
    keeper.until_settled().await;
    assert_eq!(probe().await, (0, String::new()));
    cache.set(Mood::Hung);
    keeper.until_conditions(&["CacheUnhealthy"]).await;
    assert_eq!(probe().await, (1, "not settled: CacheUnhealthy\n".to_owned()));
}

#[tokio::test]
async fn prepare_gives_the_directory_away_and_follows_no_link() {
    assert!(rustix::process::geteuid().is_root(), "giving away needs root");
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let path = dir.path().to_str().unwrap().to_owned();
    fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
    fs::write(dir.path().join("blobs/sha256/one"), "x").unwrap();
    fs::write(dir.path().join("blobs/sha256/two"), "x").unwrap();
    fs::write(outside.path().join("secret"), "x").unwrap();
    symlink(outside.path(), dir.path().join("blobs/link")).unwrap();
    // As a crash in the middle leaves it: what is above is given away last.
    chown(dir.path().join("blobs/sha256/one"), Some(65532), Some(65532)).unwrap();
    for _ in 0..2 {
        assert_eq!(run(&["prepare", "--cache-dir", &path]).await, (0, String::new()));
        for entry in snapshot(dir.path()) {
            assert_eq!((entry.1.1, entry.1.2), (65532, 65532), "{:?}", entry.0);
        }
        for entry in snapshot(outside.path()) {
            assert_eq!(entry.1.1, 0, "{:?}", entry.0);
        }
    }
    assert_eq!(run(&["purge", "--cache-dir", &path]).await, (0, String::new()));
    assert!(!dir.path().try_exists().unwrap());
    assert!(outside.path().join("secret").is_file());
    assert_eq!(run(&["prepare", "--cache-dir", "/nonexistent/store"]).await.0, 1);
}

#[tokio::test]
async fn wrong_usage_is_2() {
    let host = Host::new();
    let document = host.state.path().join("mirror.yaml");
    fs::write(&document, mirror(&["quay.io"]).to_yaml()).unwrap();
    let config = document.to_str().unwrap();
    for cache in [
        "http://10.0.0.1:5117",
        "https://127.0.0.1:5117",
        "http://127.0.0.1",
        "http://127.0.0.1:0",
        "x",
    ] {
        let (code, said) = run(&["node-config", "--config", config, "--cache", cache]).await;
        assert_eq!(code, 2, "{cache}: {said}");
        assert!(said.contains("write a loopback address"), "{said}");
    }
    fs::write(&document, "kind: Nonsense").unwrap();
    let (code, said) = run(&["node-config", "--config", config]).await;
    assert_eq!(code, 2, "{said}");
}
