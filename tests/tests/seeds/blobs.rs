//! A23 to A32: blobs, the redirects to them, and the CDNs behind.

use std::path::Path;

use larder_tests::prelude::*;

use super::capture::redirect;
use super::support::{blob_head, docker_get, get, head_of, lines, node, of_namespace};

const REPO: &str = "library/alpine";

/// Where each captured registry redirects to: folder of the captures, shape of the address, a part of its signature.
const CDNS: [(&str, &str, &str); 4] = [
    ("hub", Cdn::DOCKER_HUB, "RDid"),
    ("aliyun", Cdn::ALIYUN, "NOGZkZ"),
    ("gcr", Cdn::GCS, ""),
    ("quay", Cdn::CLOUDFRONT, "aB~c"),
];

/// A registry that wants tokens, and its CDN that refuses them.
async fn registry(template: &str) -> (TokenServer, FakeRegistry, Cdn) {
    let tokens = TokenServer::builder().start().await;
    let up = FakeRegistry::builder().auth(Auth::bearer(&tokens)).start().await;
    let cdn = Cdn::builder()
        .url_template(template)
        .rejects_authorization()
        .start()
        .await;
    (tokens, up, cdn)
}

/// A23, A25, A26, A27, A28, A29, A30, A31: each captured redirect and CDN. The address is used verbatim and without our
/// token, its secret is not logged, and of the headers on the way none reaches the client.
#[tokio::test]
async fn a23_a25_a26_a27_a28_a29_a30_a31_redirects_as_captured() {
    for (dir, template, secret) in CDNS {
        let (_tokens, up, cdn) = registry(template).await;
        let content = random(1509);
        let (digest, target) = redirect(dir, &up, &cdn, REPO, &content);
        let config = MirrorConfig::new().registry("docker.io", up.url());
        let node = NodeProcess::builder()
            .config(&config)
            .env("RUST_LOG", "debug,cache_node=trace")
            .start()
            .await;
        for _ in 0..2 {
            let answer = docker_get(&node, &format!("{REPO}/blobs/{digest}?ns=docker.io"))
                .send()
                .await;
            assert_eq!(answer.status, 200, "{dir}: {}", answer.text());
            assert_eq!(
                head_of(&answer),
                of_namespace(blob_head(1509, &digest), "docker.io"),
                "{dir}"
            );
            assert_eq!(answer.body, content, "{dir}");
        }
        assert_eq!(lines(&cdn), [format!("GET {target}")], "{dir}");
        let asked = &cdn.requests()[0].request;
        assert_eq!(asked.header_all("Accept-Encoding"), ["identity"], "{dir}");
        assert!(!cdn.saw_authorization(), "{dir}");
        let authorized = up.requests_on(on_blob(&digest).has_header("Authorization"));
        assert_eq!(authorized.len(), 1, "{dir}");
        assert_eq!(
            authorized[0].request.header_all("Accept-Encoding"),
            ["identity"],
            "{dir}"
        );
        assert!(
            secret.is_empty() || !node.output().contains(secret),
            "{dir}: the log holds a signature"
        );
    }
}

/// A24: a client without `Accept` that would take gzip gets the bytes as they are.
#[tokio::test]
async fn a24_blobs_are_not_compressed_in_transit() {
    let up = FakeRegistry::builder().start().await;
    let content = "compressible ".repeat(10_000);
    let digest = up.add_blob(REPO, content.clone());
    let node = node("quay.io", &up).await;
    for _ in 0..2 {
        let url = format!("{}/v2/{REPO}/blobs/{digest}?ns=quay.io", node.url());
        let answer = Call::get(&url)
            .header("user-agent", "Go-http-client/1.1")
            .header("docker-distribution-api-version", "registry/2.0")
            .header("accept-encoding", "gzip")
            .send()
            .await;
        assert_eq!(
            head_of(&answer),
            of_namespace(blob_head(content.len(), &digest), "quay.io")
        );
        assert_eq!(answer.body, content);
    }
}

/// A28: every redirect is followed alike, and its own 13-byte body is not the blob.
#[tokio::test]
async fn a28_every_status_of_a_redirect_is_followed() {
    let (_tokens, up, cdn) = registry(Cdn::GCS).await;
    let node = node("gcr.io", &up).await;
    for status in [301, 302, 303, 307, 308] {
        let content = random(2000);
        let digest = up.add_blob(REPO, content.clone());
        let location = cdn.sign(content.clone(), &digest);
        let with_body = Action::redirect(status, location)
            .and(Action::header("Accept-Ranges", "none"))
            .and(Action::body(r#"{"errors":[]}"#));
        up.script(on_blob(&digest), with_body);
        let answer = get(&node, &format!("{REPO}/blobs/{digest}?ns=gcr.io")).await;
        assert_eq!((answer.status, &answer.body), (200, &content), "{status}");
        assert_eq!(answer.header_all("accept-ranges"), ["bytes"]);
    }
}

/// A28: several blobs of an image at once, with one token for all.
#[tokio::test]
async fn a28_blobs_asked_for_at_once_share_a_token() {
    let (tokens, up, cdn) = registry(Cdn::GCS).await;
    up.redirect_blobs(302, &cdn);
    let digests: Vec<_> = (0..3).map(|_| up.add_blob(REPO, random(300_000))).collect();
    let node = node("gcr.io", &up).await;
    let pulls = digests.iter().map(|digest| {
        let path = format!("{REPO}/blobs/{digest}?ns=gcr.io");
        let node = &node;
        async move { get(node, &path).await.digest }
    });
    assert_eq!(futures_util::future::join_all(pulls).await, digests);
    assert_eq!(cdn.count(on_any()), 3);
    assert_eq!(tokens.count(on_any()), 1, "one token for all");
}

/// A29: hashes in headers mean nothing (the captured ones are of other bytes); the digest means everything.
#[tokio::test]
async fn a29_only_the_digest_proves_a_blob() {
    let (_tokens, up, cdn) = registry(Cdn::GCS).await;
    let mut node = node("gcr.io", &up).await;
    let wrong = up.add_blob(REPO, random(2000));
    let location = cdn.sign(random(2000), &wrong);
    up.script(on_blob(&wrong).get(), Action::redirect(302, location));
    let refused = get(&node, &format!("{REPO}/blobs/{wrong}?ns=gcr.io")).await;
    assert_eq!(refused.status, 502);
    let (digest, _) = redirect("gcr", &up, &cdn, REPO, &random(2000));
    assert_eq!(
        get(&node, &format!("{REPO}/blobs/{digest}?ns=gcr.io"))
            .await
            .digest,
        digest
    );
    node.terminate().await;
    assert_eq!(files_named(node.cache_dir(), &digest), 1);
    assert_eq!(files_named(node.cache_dir(), &wrong), 0, "nothing is kept");
}

/// A30: a redirect is used once, whatever its `Cache-Control` says of a year.
#[tokio::test]
async fn a30_a_redirect_is_not_kept() {
    let up = FakeRegistry::builder().start().await;
    let cdn = Cdn::builder().url_template(Cdn::CLOUDFRONT).uses(1).start().await;
    up.redirect_blobs(302, &cdn);
    up.script(on_any_blob(), Action::header("Cache-Control", "max-age=31536000"));
    cdn.script(on_any().times(2), Action::cut_fin(300_000));
    let digest = up.add_blob(REPO, random(2 << 20));
    let node = node("quay.io", &up).await;
    let answer = get(&node, &format!("{REPO}/blobs/{digest}?ns=quay.io")).await;
    assert_eq!((answer.status, answer.digest), (200, digest.clone()));
    let mut used = lines(&cdn);
    assert_eq!((used.len(), up.count(on_blob(&digest).get())), (3, 3));
    used.sort();
    used.dedup();
    assert_eq!(used.len(), 3, "each time a new address: {used:?}");
}

/// A32: a layer that two registries share is fetched and kept once.
#[tokio::test]
async fn a32_a_shared_layer_is_fetched_and_kept_once() {
    let hub = FakeRegistry::builder().start().await;
    let quay = FakeRegistry::builder().start().await;
    let layer = random(2_797_541);
    let digest = hub.add_blob("library/alpine", layer.clone());
    quay.add_blob("watchdogpolska/alpine-curl", layer.clone());
    let config = MirrorConfig::new()
        .registry("docker.io", hub.url())
        .registry("quay.io", quay.url());
    let mut node = NodeProcess::start(&config).await;
    for path in [
        format!("library/alpine/blobs/{digest}?ns=docker.io"),
        format!("watchdogpolska/alpine-curl/blobs/{digest}?ns=quay.io"),
    ] {
        let answer = get(&node, &path).await;
        assert_eq!((answer.status, &answer.digest), (200, &digest), "{path}");
    }
    assert_eq!(
        hub.body_bytes_sent(&digest) + quay.body_bytes_sent(&digest),
        2_797_541
    );
    hub.close();
    assert_eq!(
        get(&node, &format!("library/alpine/blobs/{digest}?ns=docker.io"))
            .await
            .digest,
        digest
    );
    node.terminate().await;
    assert_eq!(files_named(node.cache_dir(), &digest), 1);
}

/// How many files under `dir` are named after `digest`.
fn files_named(dir: &Path, digest: &str) -> usize {
    let hex = digest.rsplit(':').next().unwrap();
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries
        .map(|entry| match entry.file_type().unwrap().is_dir() {
            true => files_named(&entry.path(), digest),
            false => usize::from(entry.file_name().to_string_lossy().contains(hex)),
        })
        .sum()
}
