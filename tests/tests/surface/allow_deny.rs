//! `repositories.allow` and `deny`: what the configuration does not let through is not there, whether it is kept or not,
//! and upstream hears nothing of it.

use std::fs;
use std::time::Duration;

use cache_node::app::Limits;
use larder_tests::prelude::*;
use serde_json::{Value, json};

use crate::support::*;

/// A mirror of `up` as `host`, with these rules.
fn ruled(up: &FakeRegistry, host: &str, rules: &Value) -> MirrorConfig {
    let endpoint = Endpoint::new(up.url()).trust_loopback();
    MirrorConfig::new().with(
        Registry::new(host)
            .endpoint(endpoint)
            .set("/repositories", rules.clone()),
    )
}

/// Paths of everything that can be asked for of an image in `repo`.
fn paths(repo: &str, image: &Image) -> Vec<String> {
    let digest = &image.digest;
    [
        "manifests/v1".to_owned(),
        format!("manifests/{digest}"),
        format!("blobs/{}", image.layers[0].digest),
        format!("blobs/{}", image.layers[1].digest),
        "tags/list".to_owned(),
        format!("referrers/{digest}"),
    ]
    .map(|object| format!("/v2/{repo}/{object}"))
    .to_vec()
}

/// Nothing of the image is served under this name, however it is asked for.
async fn assert_closed(node: &InProcessNode, host: &str, repo: &str, image: &Image) {
    for path in paths(repo, image) {
        let url = format!("{}{path}?ns={host}", node.url());
        for (call, is_head) in [
            (Call::get(&url), false),
            (Call::get(&url).range("0-9"), false),
            (Call::head(&url), true),
        ] {
            let answer = call.send().await;
            assert_refusal(&answer, 404, "NAME_UNKNOWN", is_head);
            let said = answer.text();
            assert!(
                is_head || said.contains("the configuration does not let"),
                "{path}: {said}"
            );
        }
    }
}

/// Everything of the image is served under this name.
async fn assert_open(node: &InProcessNode, host: &str, repo: &str, image: &Image) {
    for path in paths(repo, image) {
        let answer = Call::get(&format!("{}{path}?ns={host}", node.url())).send().await;
        assert_eq!(
            (answer.status, answer.end),
            (200, End::Complete),
            "{path}: {}",
            answer.text()
        );
    }
}

/// Rules that let `acme/app` through, and rules that do not.
#[tokio::test]
async fn only_what_is_allowed_and_not_denied_is_served() {
    for (rules, is_open) in [
        (json!({}), true),
        (json!({"allow": ["acme/app"]}), true),
        (json!({"allow": ["acme/*"], "deny": ["acme/application"]}), true),
        (json!({"allow": ["acme/a"]}), false),
        (json!({"allow": ["*"]}), false),
        (json!({"deny": ["acme/**"]}), false),
        (json!({"allow": ["acme/app"], "deny": ["*/app"]}), false),
    ] {
        let up = FakeRegistry::builder().start().await;
        let image = image();
        image.push_to(&up, REPO, "v1");
        let node = InProcessNode::start(&ruled(&up, "up.test", &rules), brisk()).await;
        if is_open {
            assert_open(&node, "up.test", REPO, &image).await;
        } else {
            assert_closed(&node, "up.test", REPO, &image).await;
            assert_eq!(up.count(on_any()), 0, "{rules}");
        }
    }
}

/// The registry may be named by `ns`, in the path, or not at all.
#[tokio::test]
async fn no_way_to_name_the_registry_leads_around() {
    let up = FakeRegistry::builder().start().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    let config = ruled(&up, "up.test", &json!({"deny": [REPO]})).default_registry("up.test");
    let node = InProcessNode::start(&config, brisk()).await;
    for path in paths(REPO, &image) {
        let object = path.trim_start_matches("/v2/");
        for path in [
            path.clone(),
            format!("{path}?ns=UP.test"),
            format!("/v2/up.test/{object}"),
        ] {
            let answer = Call::get(&format!("{}{path}", node.url())).send().await;
            assert_refusal(&answer, 404, "NAME_UNKNOWN", false);
        }
    }
    assert_eq!(up.count(on_any()), 0);
}

/// Rules are over repositories as the endpoint names them: on Docker Hub, `alpine` is `library/alpine`.
#[tokio::test]
async fn short_names_of_docker_hub_are_written_out() {
    let up = FakeRegistry::builder().start().await;
    let image = image();
    for repo in ["library/alpine", "library/busybox"] {
        image.push_to(&up, repo, "v1");
    }
    let rules = json!({"allow": ["library/*"], "deny": ["library/busybox"]});
    let node = InProcessNode::start(&ruled(&up, "docker.io", &rules), brisk()).await;
    for name in ["busybox", "library/busybox", "acme/alpine"] {
        assert_closed(&node, "docker.io", name, &image).await;
        assert_closed(&node, "index.docker.io", name, &image).await;
    }
    assert_eq!(up.count(on_any()), 0);
    let alpine = |name: &str| format!("{}/v2/{name}/manifests/v1?ns=docker.io", node.url());
    for name in ["alpine", "library/alpine"] {
        assert_eq!(Call::get(&alpine(name)).send().await.body, image.manifest);
    }
}

/// What was served and is kept is no longer served once a reload denies it, at once and without a word to upstream; nor
/// is it stale content when upstream is down. Allowed again, it is still there.
#[tokio::test]
async fn kept_content_follows_the_rules_of_the_moment() {
    let up = FakeRegistry::builder().start().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    let limits = Limits {
        poll: Duration::from_millis(20),
        ..brisk()
    };
    let open = ruled(&up, "up.test", &json!({}));
    let node = InProcessNode::start(&open, limits).await;
    assert_open(&node, "up.test", REPO, &image).await;
    until("all is kept", async || fills(&node).await == 0).await;

    let closed = ruled(&up, "up.test", &json!({"deny": ["acme/**"]}));
    fs::write(node.config_path(), closed.to_yaml()).expect("the configuration is written");
    let manifest = manifest_url(&node, "v1");
    until("the rule is in force", async || {
        Call::get(&manifest).send().await.status == 404
    })
    .await;
    let asked = up.count(on_any());
    assert_closed(&node, "up.test", REPO, &image).await;
    assert_eq!(up.count(on_any()), asked);
    for kind in ["tag", "manifest", "blob", "tags", "referrers"] {
        // Counted once the answer has left.
        until(&format!("a refused {kind} is counted"), async || {
            is_counted(&node, kind).await
        })
        .await;
    }
    up.close();
    assert_closed(&node, "up.test", REPO, &image).await;

    fs::write(node.config_path(), open.to_yaml()).expect("the configuration is written");
    until("the rule is gone", async || {
        Call::get(&manifest).send().await.status == 200
    })
    .await;
    for layer in &image.layers {
        assert_whole(&node, &layer.digest).await;
    }
}

/// Whether requests of this kind were refused for the rules.
async fn is_counted(node: &InProcessNode, kind: &str) -> bool {
    let metrics = Call::get(&format!("{}/metrics", node.admin_url())).send().await;
    let kind = format!("kind=\"{kind}\"");
    metrics.text().lines().any(|line| {
        line.starts_with("larder_requests_total{")
            && line.contains("outcome=\"not_allowed\"")
            && line.contains(&kind)
    })
}

/// A transfer that runs is not shared with a name that is denied.
#[tokio::test]
async fn a_running_fill_is_not_shared() {
    let up = FakeRegistry::builder().start().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    image.push_to(&up, "evil/app", "v1");
    let layer = &image.layers[0].digest;
    up.script(
        on_any_blob().get(),
        Action::pause_after(1 << 20, Duration::from_secs(1)),
    );
    let node = InProcessNode::start(&ruled(&up, "up.test", &json!({"deny": ["evil/**"]})), brisk()).await;
    let pull = tokio::spawn(Call::get(&blob_url(&node, layer)).send());
    up.wait_for_count(on_blob(layer), 1, SOON).await;
    assert_closed(&node, "up.test", "evil/app", &image).await;
    pull.await.expect("a call").assert_whole(layer);
    assert_eq!(up.count(on_any()), 1);
}
