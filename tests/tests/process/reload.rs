//! A changed configuration: noticed by itself, in force without cutting a pull, and never half of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use super::*;

/// Replaces the file in one step.
fn rename_over(path: &Path, config: &MirrorConfig) {
    let new = path.with_extension("new");
    fs::write(&new, config.to_yaml()).unwrap();
    fs::rename(new, path).unwrap();
}

/// What kubelet does: a new folder, to which `..data` is swapped.
fn swap_data(path: &Path, version: &str, config: &MirrorConfig) {
    let dir = path.parent().unwrap();
    fs::create_dir(dir.join(version)).unwrap();
    fs::write(dir.join(version).join("mirror.yaml"), config.to_yaml()).unwrap();
    let old = fs::read_link(dir.join("..data")).ok();
    symlink(version, dir.join("..data_tmp")).unwrap();
    fs::rename(dir.join("..data_tmp"), dir.join("..data")).unwrap();
    if let Some(old) = old {
        fs::remove_dir_all(dir.join(old)).unwrap();
    }
}

async fn until_status(node: &InProcessNode, ns: &str, expected: u16) {
    until(&format!("{ns} is {expected}"), async || {
        status(&node.url(), ns).await == expected
    })
    .await;
}

/// Written in place, renamed, and swapped by symlink: each adds a registry and removes another.
#[tokio::test]
async fn every_way_of_changing_the_file_is_noticed() {
    let up = registry_with_image().await;
    let only = |host: &str| MirrorConfig::new().registry(host, up.url());
    let node = attentive_node(&only("first.test")).await;
    let path = node.config_path();
    until_status(&node, "first.test", 200).await;
    assert_eq!(status(&node.url(), "second.test").await, 404);

    fs::write(&path, only("second.test").to_yaml()).unwrap();
    until_status(&node, "second.test", 200).await;
    assert_eq!(
        status(&node.url(), "first.test").await,
        404,
        "what is removed is never contacted again"
    );

    rename_over(&path, &only("third.test"));
    until_status(&node, "third.test", 200).await;

    swap_data(&path, "..one", &only("fourth.test"));
    symlink("..data/mirror.yaml", path.with_extension("link")).unwrap();
    fs::rename(path.with_extension("link"), &path).unwrap();
    until_status(&node, "fourth.test", 200).await;
    swap_data(&path, "..two", &only("fifth.test"));
    until_status(&node, "fifth.test", 200).await;
    assert_eq!(status(&node.url(), "fourth.test").await, 404);
}

/// A pull that is under way ends well, even when its registry is removed meanwhile.
#[tokio::test]
async fn a_reload_cuts_no_pull() {
    let up = registry_with_image().await;
    let content = random(4 << 20);
    let digest = up.add_blob("acme/app", content.clone());
    let node = attentive_node(&MirrorConfig::new().registry("first.test", up.url())).await;
    up.script(
        on_any_blob(),
        Action::pause_after(2 << 20, Duration::from_secs(1)),
    );
    let url = format!("{}/v2/acme/app/blobs/{digest}?ns=first.test", node.url());
    let pull = tokio::spawn(Call::get(&url).send());
    up.wait_for_count(on_any_blob(), 1, SOON).await;
    rename_over(
        &node.config_path(),
        &MirrorConfig::new().registry("second.test", up.url()),
    );
    until_status(&node, "second.test", 200).await;
    assert_eq!(status(&node.url(), "first.test").await, 404);
    let whole = pull.await.unwrap();
    assert_eq!((whole.status, whole.end), (200, End::Complete));
    assert!(whole.body == content);
    assert_eq!(up.count(on_any_blob()), 1);
}

/// A bad or missing file changes nothing but the metric, which is mended with the file.
#[tokio::test]
async fn a_bad_file_keeps_the_old_configuration() {
    let up = registry_with_image().await;
    let good = MirrorConfig::new().registry("up.test", up.url());
    let node = attentive_node(&good).await;
    let path = node.config_path();
    let metrics = async || {
        Call::get(&format!("{}/metrics", node.admin_url()))
            .send()
            .await
            .text()
    };
    assert!(
        metrics()
            .await
            .contains("\nlarder_config_last_reload_successful 1\n")
    );
    for bad in [
        "kind: Nonsense",
        "{",
        "",
        &good.to_yaml().replace("up.test", "a b"),
    ] {
        fs::write(&path, bad).unwrap();
        until("the refusal is counted", async || {
            metrics()
                .await
                .contains("\nlarder_config_last_reload_successful 0\n")
        })
        .await;
        assert_eq!(status(&node.url(), "up.test").await, 200, "{bad}");
        rename_over(&path, &good);
        until("the file is mended", async || {
            metrics()
                .await
                .contains("\nlarder_config_last_reload_successful 1\n")
        })
        .await;
    }
    assert!(
        metrics()
            .await
            .contains("larder_config_reloads_total{result=\"failure\"} 4\n")
    );
    fs::remove_file(&path).unwrap();
    until("the loss is counted", async || {
        metrics()
            .await
            .contains("larder_config_reloads_total{result=\"failure\"} 5\n")
    })
    .await;
    assert_eq!(status(&node.url(), "up.test").await, 200);
}

/// The real process at its real pace: a change is in force within 10 s, and a bad file is said in the log with the
/// path of its field.
#[tokio::test]
async fn the_process_notices_within_ten_seconds_and_says_what_is_wrong() {
    let up = registry_with_image().await;
    let good = MirrorConfig::new().registry("up.test", up.url());
    let node = NodeProcess::start(&good).await;
    node.write_config_text(&good.to_yaml().replace("up.test", "a b"));
    until("the log says it", async || {
        let output = node.output();
        let mut lines = output.lines();
        lines.any(|line| {
            line.contains("\"ERROR\"")
                && line.contains("the old one stays in force")
                && line.contains("spec.registries[0].host")
        })
    })
    .await;
    assert_eq!(status(&node.url(), "up.test").await, 200);
    let begun = std::time::Instant::now();
    node.write_config(&good.registry("more.test", up.url()));
    until("the new registry", async || {
        status(&node.url(), "more.test").await == 200
    })
    .await;
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert!(node.output().contains("configuration reloaded"));
}

/// Credentials that change are used without a restart.
#[tokio::test]
async fn a_rotated_password_is_used() {
    let up = FakeRegistry::builder()
        .auth(Auth::basic(&[("robot", "new")]))
        .start()
        .await;
    ImageBuilder::new().build().push_to(&up, "acme/app", "v1");
    let endpoint = Endpoint::new(up.url())
        .credential("robot", &["**"])
        .trust_realm("127.0.0.1");
    let node = attentive_node(&MirrorConfig::new().with(Registry::new("up.test").endpoint(endpoint))).await;
    secrets::write_basic(&node.credentials_dir(), "robot", "robot", "old");
    assert_ne!(status(&node.url(), "up.test").await, 200);
    secrets::write_basic(&node.credentials_dir(), "robot", "robot", "new");
    until_status(&node, "up.test", 200).await;
}
