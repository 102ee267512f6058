//! Which registry a request means: by `ns`, by the front of its path, by default, and none besides those configured.

use larder_tests::prelude::*;

use super::support::{get, lines, node};

const HUB_NAMES: [&str; 3] = ["docker.io", "registry-1.docker.io", "index.docker.io"];

/// A registry with `library/alpine:latest`, and the digest of that.
async fn hub() -> (FakeRegistry, String) {
    let up = FakeRegistry::builder().start().await;
    let digest = add(&up, "library/alpine");
    (up, digest)
}

fn add(up: &FakeRegistry, repo: &str) -> String {
    let manifest = format!(r#"{{"schemaVersion":2,"annotations":{{"of":"{repo}"}}}}"#);
    up.add_manifest(repo, "latest", media_type::OCI_MANIFEST, manifest)
}

/// Every name of Docker Hub is one registry, and one-segment names live under `library/`: by `ns` and by path, all
/// mean one tag, which is asked for once.
#[tokio::test]
async fn docker_hub_has_three_names_and_a_library() {
    for written in ["docker.io", "index.docker.io"] {
        let (up, digest) = hub().await;
        let node = node(written, &up).await;
        for repo in ["alpine", "library/alpine"] {
            for host in HUB_NAMES {
                let by_ns = get(&node, &format!("{repo}/manifests/latest?ns={host}")).await;
                assert_eq!((by_ns.status, &by_ns.digest), (200, &digest), "ns={host} {repo}");
                assert_eq!(by_ns.header("oci-namespace"), Some(host));
                let by_path = get(&node, &format!("{host}/{repo}/manifests/latest")).await;
                assert_eq!((by_path.status, &by_path.digest), (200, &digest), "{host}/{repo}");
                assert_eq!(by_path.header("oci-namespace"), None);
            }
        }
        assert_eq!(lines(&up), ["GET /v2/library/alpine/manifests/latest"]);
    }
}

/// Only Docker Hub has that library, and only for one-segment names.
#[tokio::test]
async fn other_names_are_left_as_they_are() {
    let (hub, _) = hub().await;
    let quay = FakeRegistry::builder().start().await;
    let config = MirrorConfig::new()
        .registry("docker.io", hub.url())
        .registry("quay.io", quay.url());
    let node = NodeProcess::start(&config).await;
    let in_hub = add(&hub, "acme/app");
    let in_quay = add(&quay, "alpine");
    assert_eq!(
        get(&node, "acme/app/manifests/latest?ns=docker.io").await.digest,
        in_hub
    );
    assert_eq!(
        get(&node, "alpine/manifests/latest?ns=quay.io").await.digest,
        in_quay
    );
    assert_eq!(lines(&hub), ["GET /v2/acme/app/manifests/latest"]);
    assert_eq!(lines(&quay), ["GET /v2/alpine/manifests/latest"]);
}

/// Blobs, HEAD, tag lists and referrers are routed alike, and `ns` stays with us.
#[tokio::test]
async fn every_endpoint_is_routed_and_ns_is_not_passed_on() {
    let (up, digest) = hub().await;
    let blob = up.add_blob("library/alpine", "content");
    let node = node("docker.io", &up).await;
    for path in [
        "manifests/latest".to_owned(),
        format!("manifests/{digest}"),
        format!("blobs/{blob}"),
        "tags/list".to_owned(),
        format!("referrers/{digest}"),
    ] {
        for method in ["HEAD", "GET"] {
            let by_ns = format!("{}/v2/alpine/{path}?ns=index.docker.io", node.url());
            let answer = Call::new(method, &by_ns).send().await;
            assert_eq!(answer.status, 200, "{method} {path}");
            assert_eq!(
                answer.header("oci-namespace"),
                Some("index.docker.io"),
                "{method} {path}"
            );
            let by_path = format!("{}/v2/registry-1.docker.io/alpine/{path}", node.url());
            let answer = Call::new(method, &by_path).send().await;
            assert_eq!(
                (answer.status, answer.header("oci-namespace")),
                (200, None),
                "{method} {path}"
            );
        }
    }
    for line in lines(&up) {
        assert!(
            line.contains(" /v2/library/alpine/") && !line.contains("ns="),
            "{line}"
        );
    }
}

/// A registry with a port: percent-encoded in `ns`, or plainly, or in the path.
#[tokio::test]
async fn a_registry_may_have_a_port() {
    let up = FakeRegistry::builder().start().await;
    let digest = add(&up, "acme/app");
    let node = node("up.test:5000", &up).await;
    for path in [
        "acme/app/manifests/latest?ns=up.test%3A5000",
        "acme/app/manifests/latest?ns=up.test%3a5000",
        "acme/app/manifests/latest?ns=up.test:5000",
    ] {
        let answer = get(&node, path).await;
        assert_eq!((answer.status, &answer.digest), (200, &digest), "{path}");
        assert_eq!(answer.header("oci-namespace"), Some("up.test:5000"), "{path}");
    }
    let by_path = get(&node, "up.test:5000/acme/app/manifests/latest").await;
    assert_eq!((by_path.status, by_path.digest), (200, digest));
    for other in ["up.test", "up.test:5001", "up.test%3A5000%2F"] {
        let answer = get(&node, &format!("acme/app/manifests/latest?ns={other}")).await;
        assert_eq!(answer.status, 404, "{other}");
    }
    assert_eq!(up.count(on_any()), 1);
}

/// Without `ns` and without a registry in the path, the default registry is meant; `ns` wins over both.
#[tokio::test]
async fn the_default_registry_takes_what_names_none() {
    let (hub, digest) = hub().await;
    let quay = FakeRegistry::builder().start().await;
    let config = MirrorConfig::new()
        .registry("docker.io", hub.url())
        .registry("quay.io", quay.url())
        .default_registry("docker.io");
    let node = NodeProcess::start(&config).await;
    for path in [
        "alpine/manifests/latest",
        "library/alpine/manifests/latest",
        "alpine/manifests/latest?ns=",
    ] {
        let answer = get(&node, path).await;
        assert_eq!((answer.status, &answer.digest), (200, &digest), "{path}");
        assert_eq!(answer.header("oci-namespace"), None);
    }
    assert_eq!(quay.connections(), 0);
    let in_quay = add(&quay, "alpine");
    assert_eq!(
        get(&node, "alpine/manifests/latest?ns=quay.io").await.digest,
        in_quay
    );
    assert_eq!(
        get(&node, "quay.io/alpine/manifests/latest").await.digest,
        in_quay
    );
    let odd = add(&hub, "quay.io/alpine");
    assert_eq!(
        get(&node, "quay.io/alpine/manifests/latest?ns=docker.io")
            .await
            .digest,
        odd,
        "ns wins over the path"
    );
}

/// The world is closed: a host that is not configured gets 404, and nobody is asked, not even the default registry.
#[tokio::test]
async fn an_unknown_host_is_a_404_and_nobody_is_contacted() {
    let (up, _) = hub().await;
    let stranger = FakeRegistry::builder().start().await;
    add(&stranger, "acme/app");
    let (encoded, plain) = (stranger.host().replace(':', "%3A"), stranger.host());
    let config = MirrorConfig::new()
        .registry("docker.io", up.url())
        .default_registry("docker.io");
    let node = NodeProcess::start(&config).await;
    for ns in [
        &encoded,
        &plain,
        "quay.io",
        "localhost",
        "docker.io.evil.test",
        "169.254.169.254",
        "docker.io%00",
        "%2e%2e",
    ] {
        for path in ["manifests/latest", &format!("blobs/{}", sha256(b"")), "tags/list"] {
            let answer = get(&node, &format!("acme/app/{path}?ns={ns}")).await;
            assert_eq!(
                (answer.status, answer.error_code().as_str()),
                (404, "NAME_UNKNOWN"),
                "{ns} {path}"
            );
        }
    }
    assert_eq!((up.connections(), stranger.connections()), (0, 0));
}

/// Without a default registry, what names none is a 404 too.
#[tokio::test]
async fn without_a_default_registry_a_bare_name_is_a_404() {
    let (up, _) = hub().await;
    let stranger = FakeRegistry::builder().start().await;
    let node = node("docker.io", &up).await;
    for path in [
        "alpine/manifests/latest".to_owned(),
        format!("{}/acme/app/manifests/latest", stranger.host()),
    ] {
        let answer = get(&node, &path).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
    }
    assert_eq!((up.connections(), stranger.connections()), (0, 0));
}
