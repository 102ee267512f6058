//! A12 to A22: manifests.

use larder_tests::prelude::*;

use super::capture::{captured, vector};
use super::support::{
    DOCKER_ACCEPT, assert_full_accept, blob_head, docker_get, get, head_of, manifest_head, node, of_namespace,
};

const LIST_DIGEST: &str = "sha256:185518070891758909c9f839cf4ca393ee977ac378609f700f60a771a2dfe321";
const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+json";

/// A12, A13: six `Accept` lines or one, in whatever order: the answer is the same, and upstream is asked for all.
#[tokio::test]
async fn a12_a13_the_form_of_accept_changes_nothing() {
    let list = vector("hub-alpine-list.json");
    let mut asked_upstream = Vec::new();
    for turn in 0..=DOCKER_ACCEPT.len() {
        let up = FakeRegistry::builder().start().await;
        up.add_manifest("library/alpine", "latest", media_type::DOCKER_LIST, list.clone());
        let node = node("docker.io", &up).await;
        let url = format!("{}/v2/library/alpine/manifests/latest?ns=docker.io", node.url());
        let mut accept = DOCKER_ACCEPT;
        accept.rotate_left(turn % DOCKER_ACCEPT.len());
        let call = if turn == DOCKER_ACCEPT.len() {
            Call::get(&url).header("accept", accept.join(", "))
        } else {
            accept
                .iter()
                .fold(Call::get(&url), |call, one| call.header("Accept", *one))
        };
        let answer = call.send().await;
        assert_eq!((answer.status, answer.digest.as_str()), (200, LIST_DIGEST));
        assert_full_accept(&up);
        asked_upstream.push(up.requests()[0].request.header_all("Accept").join(", "));
    }
    asked_upstream.dedup();
    assert_eq!(asked_upstream.len(), 1, "always the same: {asked_upstream:?}");
}

/// A14: the captured bytes, with their escaped slashes and without a newline, not encoded although the client would
/// accept gzip; upstream's other headers stay behind.
#[tokio::test]
async fn a14_manifest_bytes_pass_unchanged() {
    let list = vector("hub-alpine-list.json");
    let up = FakeRegistry::builder().start().await;
    let answer = captured("hub/manifest-list").body(list.clone());
    up.script(on_manifest("latest"), answer.action());
    let node = node("docker.io", &up).await;
    for _ in 0..2 {
        let answer = docker_get(&node, "library/alpine/manifests/latest?ns=docker.io")
            .send()
            .await;
        assert_eq!(answer.status, 200);
        let head = manifest_head(media_type::DOCKER_LIST, 1638, LIST_DIGEST);
        assert_eq!(head_of(&answer), of_namespace(head, "docker.io"));
        assert_eq!(answer.body, list);
    }
    assert_eq!(up.count(on_any()), 1);
}

/// A15: gcr and quay send no `ETag`; ours is the digest, and works in conditional requests.
#[tokio::test]
async fn a15_our_etag_needs_none_of_upstreams() {
    for (capture, file, media_type) in [
        ("gcr/manifest-list", "gcr-kcm-list.json", media_type::DOCKER_LIST),
        ("gcr/manifest", "gcr-kcm-amd64.json", media_type::DOCKER_MANIFEST),
        (
            "quay/manifest",
            "quay-alpine-curl.json",
            media_type::DOCKER_MANIFEST,
        ),
    ] {
        let up = FakeRegistry::builder().start().await;
        let bytes = vector(file);
        let captured = captured(capture).body(bytes.clone()).reply();
        assert_eq!(captured.get_header("ETag"), None);
        up.script(on_any_manifest(), Action::reply(captured));
        let node = node("gcr.io", &up).await;
        let digest = sha256(&bytes);
        let answer = get(&node, "acme/app/manifests/v1?ns=gcr.io").await;
        let head = manifest_head(media_type, bytes.len(), &digest);
        assert_eq!(head_of(&answer), of_namespace(head, "gcr.io"), "{capture}");
        let url = format!("{}/v2/acme/app/manifests/v1?ns=gcr.io", node.url());
        let same = Call::get(&url)
            .header("If-None-Match", format!("\"{digest}\""))
            .send()
            .await;
        assert_eq!((same.status, same.received), (304, 0), "{capture}");
    }
}

/// A16: what was proved is served by its digest without upstream.
#[tokio::test]
async fn a16_a_manifest_by_digest_needs_upstream_once() {
    let up = FakeRegistry::builder().start().await;
    let bytes = vector("hub-alpine-amd64.json");
    let digest = up.add_untagged_manifest("library/alpine", media_type::DOCKER_MANIFEST, bytes.clone());
    let config = MirrorConfig::new().with(
        Registry::new("docker.io")
            .endpoint(Endpoint::new(up.url()))
            .ttl("0s"),
    );
    let node = NodeProcess::start(&config).await;
    for _ in 0..3 {
        let path = format!("library/alpine/manifests/{digest}?ns=docker.io");
        let answer = docker_get(&node, &path).send().await;
        assert_eq!((answer.status, answer.digest.as_str()), (200, digest.as_str()));
        up.close();
    }
    assert_eq!(up.count(on_any()), 1);
}

/// A17: a tag may name an image's manifest as well as a list.
#[tokio::test]
async fn a17_a_tag_may_name_a_manifest_or_a_list() {
    let up = FakeRegistry::builder().start().await;
    let node = node("quay.io", &up).await;
    for (tag, file, media_type) in [
        ("one", "quay-alpine-curl.json", media_type::DOCKER_MANIFEST),
        ("many", "gcr-kcm-list.json", media_type::DOCKER_LIST),
    ] {
        let bytes = vector(file);
        let digest = up.add_manifest("acme/app", tag, media_type, bytes.clone());
        let answer = get(&node, &format!("acme/app/manifests/{tag}?ns=quay.io")).await;
        assert_eq!((answer.status, answer.digest.as_str()), (200, digest.as_str()));
        assert_eq!(answer.header("content-type"), Some(media_type));
    }
}

fn schema1() -> String {
    let history = r#"[{"v1Compatibility": "{\"architecture\": \"amd64\", \"os\": \"linux\"}"}]"#;
    let layers =
        r#"[{"blobSum": "sha256:70a4a9f9d194035612c9bcad53b10e24875091230d7ff5f172b425a89f659b95"}]"#;
    format!(
        r#"{{"schemaVersion": 1, "tag": "v1", "name": "openshift/okd-content", "fsLayers": {layers}, "history": {history}}}"#
    )
}

/// A18: quay answers a tag with schema 1 when it finds nothing fitting. That never becomes what the tag means.
#[tokio::test]
async fn a18_a_schema_1_answer_is_no_meaning_of_a_tag() {
    let up = FakeRegistry::builder().start().await;
    let old = schema1();
    let answer = captured("quay-h2/schema1")
        .fill("digest", &sha256(old.as_bytes()))
        .body(old);
    up.script(on_manifest("v1").times(1), answer.action());
    let bytes = vector("quay-okd-by-digest.json");
    let digest = up.add_manifest("openshift/okd-content", "v1", media_type::DOCKER_MANIFEST, bytes);
    let node = node("quay.io", &up).await;
    let path = "openshift/okd-content/manifests/v1?ns=quay.io";
    let refused = get(&node, path).await;
    assert_eq!(
        (refused.status, refused.error_code().as_str()),
        (404, "MANIFEST_UNKNOWN")
    );
    let answer = get(&node, path).await;
    assert_eq!((answer.status, answer.digest.as_str()), (200, digest.as_str()));
    assert_full_accept(&up);
}

/// A18: nor does it when the tag was known before, and its HEAD names the schema 1 manifest.
#[tokio::test]
async fn a18_a_known_tag_does_not_move_to_schema_1() {
    let up = FakeRegistry::builder().start().await;
    let bytes = vector("quay-okd-by-digest.json");
    let digest = up.add_manifest("openshift/okd-content", "v1", media_type::DOCKER_MANIFEST, bytes);
    let config = MirrorConfig::new().with(
        Registry::new("quay.io")
            .endpoint(Endpoint::new(up.url()))
            .ttl("0s"),
    );
    let node = NodeProcess::start(&config).await;
    let path = "openshift/okd-content/manifests/v1?ns=quay.io";
    assert_eq!(get(&node, path).await.digest, digest);
    up.add_manifest("openshift/okd-content", "v1", SCHEMA1, schema1());
    let answer = get(&node, path).await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (404, "MANIFEST_UNKNOWN")
    );
    up.tag("openshift/okd-content", "v1", &digest);
    assert_eq!(get(&node, path).await.digest, digest);
}

/// A19: a request by digest with headers of an older client, whose Accept lacks the type that it gets.
#[tokio::test]
async fn a19_unknown_headers_and_a_narrow_accept_change_nothing() {
    let up = FakeRegistry::builder().start().await;
    let bytes = vector("gcr-kcm-list.json");
    let digest = up.add_untagged_manifest("acme/app", media_type::DOCKER_LIST, bytes.clone());
    let node = node("quay.io", &up).await;
    let url = format!("{}/v2/acme/app/manifests/{digest}?ns=quay.io", node.url());
    for accept in [
        "application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v1+prettyjws, application/vnd.docker.distribution.manifest.v1+json",
        "text/html",
        "*/*",
    ] {
        let answer = Call::get(&url)
            .header("docker-distribution-api-version", "registry/2.0")
            .header("accept", accept)
            .header("accept-encoding", "gzip")
            .send()
            .await;
        assert_eq!((answer.status, &answer.body[..]), (200, &bytes[..]), "{accept}");
        assert_eq!(answer.header("content-type"), Some(media_type::DOCKER_LIST));
    }
    assert_full_accept(&up);
    assert_eq!(
        up.count(on_any().has_header("Docker-Distribution-Api-Version")),
        0
    );
}

/// A20: an unknown tag stays a 404 with its code, for HEAD without a body, and is not remembered.
#[tokio::test]
async fn a20_an_unknown_tag_is_a_404_with_its_code() {
    let up = FakeRegistry::builder().start().await;
    up.script(on_any_manifest(), captured("quay-h2/unknown").action());
    let node = node("quay.io", &up).await;
    let url = format!("{}/v2/library/node/manifests/12?ns=quay.io", node.url());
    let head = Call::head(&url).send().await;
    assert_eq!((head.status, head.received, head.end), (404, 0, End::Complete));
    let answer = Call::get(&url).send().await;
    assert_eq!(
        (answer.status, answer.error_code().as_str()),
        (404, "MANIFEST_UNKNOWN")
    );
    assert_eq!(answer.header("content-type"), Some("application/json"));
    up.clear_script();
    let digest = up.add_manifest(
        "library/node",
        "12",
        media_type::DOCKER_MANIFEST,
        vector("quay-alpine-curl.json"),
    );
    assert_eq!(Call::get(&url).send().await.digest, digest, "a 404 is not kept");
}

/// A21: the manifest that was captured through a proxy before quay.
#[tokio::test]
async fn a21_a_manifest_behind_another_proxy() {
    let up = FakeRegistry::builder().start().await;
    let bytes = vector("library-abc.json");
    up.script(
        on_manifest("latest"),
        captured("proxy/manifest").body(bytes.clone()).action(),
    );
    let node = node("quay.io", &up).await;
    let answer = docker_get(&node, "library/abc/manifests/latest?ns=quay.io")
        .send()
        .await;
    let head = manifest_head(media_type::DOCKER_MANIFEST, 1577, &sha256(&bytes));
    assert_eq!(head_of(&answer), of_namespace(head, "quay.io"));
    assert_eq!(answer.body, bytes);
}

/// A22: one image with layers of 32 bytes and of 926,491,594. The large one streams: upstream stops after 8 MiB.
#[tokio::test]
async fn a22_tiny_and_huge_layers() {
    const HUGE_BYTES: u64 = 926_491_594;
    const HUGE: &str = "sha256:89eaaaf386250faa931481c7a091b8540c35739569482aaebe214e0c69999e7c";
    let repo = "openshift/okd-content";
    let up = FakeRegistry::builder().start().await;
    let manifest = up.add_untagged_manifest(
        repo,
        media_type::DOCKER_MANIFEST,
        vector("quay-okd-by-digest.json"),
    );
    let tiny = vector("gzip-empty-tar-32.bin");
    let tiny_digest = up.add_blob(repo, tiny.clone());
    let huge = VirtualBlob::new(22, HUGE_BYTES);
    up.add_blob_under(repo, HUGE, Content::Virtual(huge));
    up.script(on_blob(HUGE).get(), Action::stall_after(8 << 20));
    let node = node("quay.io", &up).await;
    assert_eq!(
        get(&node, &format!("{repo}/manifests/{manifest}?ns=quay.io"))
            .await
            .status,
        200
    );
    let answer = get(&node, &format!("{repo}/blobs/{tiny_digest}?ns=quay.io")).await;
    assert_eq!(
        head_of(&answer),
        of_namespace(blob_head(32, &tiny_digest), "quay.io")
    );
    assert_eq!(answer.body, tiny);
    let url = format!("{}/v2/{repo}/blobs/{HUGE}?ns=quay.io", node.url());
    let length = usize::try_from(HUGE_BYTES).unwrap();
    let head = Call::head(&url).send().await;
    assert_eq!(head_of(&head), of_namespace(blob_head(length, HUGE), "quay.io"));
    let start = Call::get(&url).leave_after(4 << 20).send().await;
    assert_eq!(head_of(&start), of_namespace(blob_head(length, HUGE), "quay.io"));
    assert_eq!(start.end, End::Left);
    assert!(
        start.body == huge.read(0, start.body.len()),
        "the bytes are upstream's"
    );
}
