//! B.0 rows 00–02, 09–28 and 50–54: manifests, whatever upstream makes of them; C.1, end-3.

use larder_tests::prelude::*;

use crate::support::*;

/// A manifest answer that no client stumbles over (rules 2 and 3 of protocol.md, section 0).
fn assert_manifest(answer: &Answer, image: &Image, is_head: bool) {
    assert_eq!(
        (answer.status, answer.end),
        (200, End::Complete),
        "{}",
        answer.text()
    );
    assert_eq!(answer.header("Content-Type"), Some(image.media_type));
    let length = image.manifest.len().to_string();
    assert_eq!(answer.header("Content-Length"), Some(length.as_str()));
    assert_eq!(
        answer.header("Docker-Content-Digest"),
        Some(image.digest.as_str())
    );
    let etag = format!("\"{}\"", image.digest);
    assert_eq!(answer.header("ETag"), Some(etag.as_str()));
    if is_head {
        assert!(answer.body.is_empty());
    } else {
        assert_eq!(answer.body, image.manifest);
    }
}

/// HEAD and GET of `v1` on a node in front of an upstream that does `action` to every request that `on` matches:
/// both must be perfect.
async fn assert_mended(on: On, action: Action) {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    up.script(on, action);
    let url = manifest_url(&node, "v1");
    assert_manifest(&Call::head(&url).send().await, &image, true);
    assert_manifest(&Call::get(&url).send().await, &image, false);
}

/// HEAD and GET of `reference` on a node in front of an upstream that does `action` to every request that `on`
/// matches: both must be refused with `status`, and a healed upstream must be believed at once.
async fn assert_refused(on: On, action: Action, by_digest: bool, status: u16, code: &str) {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    up.script(on, action);
    let url = manifest_url(&node, if by_digest { &image.digest } else { "v1" });
    assert_refusal(&Call::head(&url).send().await, status, code, true);
    assert_refusal(&Call::get(&url).send().await, status, code, false);
    up.clear_script();
    assert_manifest(&Call::get(&url).send().await, &image, false);
}

/// 00, 50: tag and digest, index and image, HEAD and GET, with `?ns=` or without.
#[tokio::test]
async fn b00_b50_a_healthy_pull_by_tag_and_digest() {
    let up = FakeRegistry::builder().start().await;
    let index = Index::of(vec![image(), ImageBuilder::new().architecture("arm64").build()]);
    index.push_to(&up, REPO, "v1");
    let node = InProcessNode::start(&mirror(&up).default_registry("up.test"), brisk()).await;
    for reference in ["v1", index.digest.as_str()] {
        for url in [
            manifest_url(&node, reference),
            format!("{}/v2/{REPO}/manifests/{reference}", node.url()),
        ] {
            for call in [Call::head(&url), Call::get(&url)] {
                let answer = call.send().await;
                assert_eq!(answer.status, 200);
                assert_eq!(answer.header("Content-Type"), Some(media_type::OCI_INDEX));
                assert_eq!(
                    answer.header("Docker-Content-Digest"),
                    Some(index.digest.as_str())
                );
                let length = index.manifest.len().to_string();
                assert_eq!(answer.header("Content-Length"), Some(length.as_str()));
            }
        }
    }
    let image = &index.images[0];
    let url = manifest_url(&node, &image.digest);
    assert_manifest(&Call::head(&url).send().await, image, true);
    assert_manifest(&Call::get(&url).send().await, image, false);
    for (digest, _) in image.blobs() {
        assert_whole(&node, &digest).await;
    }
}

/// 01: a tag that upstream does not know is 404, and what its digest names still comes from here.
#[tokio::test]
async fn b01_an_unknown_tag_says_nothing_of_digests() {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    up.script(on_manifest("v1"), Action::status(404));
    let url = manifest_url(&node, "v1");
    assert_refusal(&Call::head(&url).send().await, 404, "MANIFEST_UNKNOWN", true);
    assert_refusal(&Call::get(&url).send().await, 404, "MANIFEST_UNKNOWN", false);
    let by_digest = manifest_url(&node, &image.digest);
    assert_manifest(&Call::get(&by_digest).send().await, &image, false);
}

/// 02: an upstream without anything, not even `/v2/`, is no reason to seem dead to clients that ping first.
#[tokio::test]
async fn b02_an_empty_upstream_is_404_per_object_and_the_ping_is_ours() {
    let (up, node) = pair().await;
    up.script(on_any(), Action::respond(404, "<html>nothing</html>"));
    let ping = Call::get(&format!("{}/v2/", node.url())).send().await;
    assert_eq!(ping.status, 200);
    let digest = sha256(b"nothing");
    let get = async |url: String| Call::get(&url).send().await;
    assert_refusal(
        &get(manifest_url(&node, "v1")).await,
        404,
        "MANIFEST_UNKNOWN",
        false,
    );
    assert_refusal(
        &get(manifest_url(&node, &digest)).await,
        404,
        "MANIFEST_UNKNOWN",
        false,
    );
    assert_refusal(&get(blob_url(&node, &digest)).await, 404, "BLOB_UNKNOWN", false);
    assert_refusal(
        &get(listing_url(&node, "tags/list")).await,
        404,
        "NAME_UNKNOWN",
        false,
    );
}

/// 09: upstream refuses HEAD; ours works, cold and when the tag is asked for again.
#[tokio::test]
async fn b09_head_works_where_upstream_has_none() {
    let up = FakeRegistry::builder().start().await;
    let node = InProcessNode::start(&forgetful(&up), brisk()).await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    up.script(on_any().head(), Action::status(405));
    for _ in 0..2 {
        let head = Call::head(&manifest_url(&node, "v1")).send().await;
        assert_manifest(&head, &image, true);
    }
    assert!(
        up.count(on_manifest("v1").head()) > 0,
        "the second one asked by HEAD"
    );
}

/// 12, 13: a 304 or 300 kills a containerd pull. Cold it becomes 502, for a known tag the known content.
#[tokio::test]
async fn b12_b13_no_final_3xx_reaches_a_client() {
    for status in [300, 304] {
        let up = FakeRegistry::builder().start().await;
        let node = InProcessNode::start(&forgetful(&up), brisk()).await;
        let image = image();
        image.push_to(&up, REPO, "v1");
        up.script(on_any_manifest(), Action::respond(status, ""));
        for reference in ["v1", image.digest.as_str()] {
            let url = manifest_url(&node, reference);
            assert_refusal(&Call::head(&url).send().await, 502, "UNAVAILABLE", true);
            assert_refusal(&Call::get(&url).send().await, 502, "UNAVAILABLE", false);
        }
        up.clear_script();
        let url = manifest_url(&node, "v1");
        assert_manifest(&Call::get(&url).send().await, &image, false);
        up.script(on_any_manifest(), Action::respond(status, ""));
        assert_manifest(&Call::head(&url).send().await, &image, true);
        assert_manifest(&Call::get(&url).send().await, &image, false);
    }
}

/// 14: an upstream's redirect to another host is ours to follow.
#[tokio::test]
async fn b14_a_redirect_is_followed_here() {
    for status in [301, 302, 303, 307, 308] {
        let there = FakeRegistry::builder().bind("127.0.0.2").start().await;
        image().push_to(&there, REPO, "v1");
        let to = format!("{}/v2/{REPO}/manifests/v1", there.url());
        assert_mended(on_manifest("v1"), Action::redirect(status, to)).await;
    }
}

/// 15, 19, 20: a digest that is missing or invalid, a missing length: ours are exact, on GET and HEAD.
#[tokio::test]
async fn b15_b19_b20_missing_headers_are_ours_to_add() {
    assert_mended(on_any_manifest(), Action::without_header("Docker-Content-Digest")).await;
    assert_mended(on_any_manifest(), Action::chunked()).await;
    assert_mended(
        on_any_manifest(),
        Action::set_header("Docker-Content-Digest", "sha256:nonsense"),
    )
    .await;
}

/// 16, 17: upstream's HEAD knows no digest, and the GET that should tell it fails. A known tag stays usable when
/// upstream fails (17) and goes when upstream says so (16): in the HEAD already, where clients can still fall back.
#[tokio::test]
async fn b16_b17_a_head_promises_what_a_get_keeps() {
    for (status, known) in [(404, 404), (500, 200)] {
        let up = FakeRegistry::builder().start().await;
        let node = InProcessNode::start(&forgetful(&up), brisk()).await;
        let image = image();
        image.push_to(&up, REPO, "v1");
        let url = manifest_url(&node, "v1");
        assert_manifest(&Call::head(&url).send().await, &image, true);
        let nameless = Action::respond(200, image.manifest.clone());
        up.script(
            on_any_manifest().head(),
            nameless.and(Action::header("Content-Type", image.media_type)),
        );
        up.script(on_any_manifest().get(), Action::status(status));
        let (head, get) = (Call::head(&url).send().await, Call::get(&url).send().await);
        assert_eq!((head.status, get.status), (known, known));
        if known == 200 {
            assert_manifest(&head, &image, true);
            assert!(get.header("Warning").is_some(), "marked as stale");
        }
    }
}

/// 18: a HEAD with length 0 makes containerd give up.
#[tokio::test]
async fn b18_a_length_of_zero_is_never_passed_on() {
    assert_mended(on_any_manifest().head(), Action::content_length(0)).await;
    let (up, node) = pair().await;
    let digest = up.add_blob(REPO, random(2000));
    up.script(on_blob(&digest).head(), Action::content_length(0));
    let head = Call::head(&blob_url(&node, &digest)).send().await;
    assert_eq!((head.status, head.header("Content-Length")), (200, Some("2000")));
}

/// 21, 22: upstream's HEAD is fine and its GET by digest is not: our HEAD says so too.
#[tokio::test]
async fn b21_b22_a_head_of_what_cannot_be_had_fails() {
    for by_digest in [true, false] {
        for (status, ours, code) in [(404, 404, "MANIFEST_UNKNOWN"), (500, 502, "UNAVAILABLE")] {
            assert_refused(
                on_any_manifest().get(),
                Action::status(status),
                by_digest,
                ours,
                code,
            )
            .await;
        }
    }
}

/// 23, 24, 25: altered or re-serialised bytes, and a digest that nobody has, never leave.
#[tokio::test]
async fn b23_b24_b25_altered_manifests_never_leave() {
    let pretty: serde_json::Value = serde_json::from_slice(&image().manifest).expect("JSON");
    let pretty = serde_json::to_vec_pretty(&pretty).expect("JSON");
    for by_digest in [true, false] {
        let altered = Action::wrong_bytes(100..101);
        assert_refused(on_any_manifest().get(), altered, by_digest, 502, "UNAVAILABLE").await;
        let again = Action::body(pretty.clone());
        assert_refused(on_any_manifest().get(), again, by_digest, 502, "UNAVAILABLE").await;
    }
    let foreign = Action::set_header("Docker-Content-Digest", sha256(b"nobody has this"));
    assert_refused(on_any_manifest(), foreign, false, 502, "UNAVAILABLE").await;
}

/// 23: each wrong manifest is counted.
#[tokio::test]
async fn b23_a_wrong_manifest_is_counted() {
    let (up, node) = pair().await;
    image().push_to(&up, REPO, "v1");
    up.script(on_any_manifest().get(), Action::wrong_bytes(0..1));
    assert_eq!(Call::get(&manifest_url(&node, "v1")).send().await.status, 502);
    assert!(mismatches(&node).await > 0);
}

/// 26, 27, 28: a type that is too general, missing, or has parameters: ours is the manifest's own.
#[tokio::test]
async fn b26_b27_b28_the_content_type_is_the_manifest_s_own() {
    for action in [
        Action::set_header("Content-Type", "application/json"),
        Action::set_header("Content-Type", "application/octet-stream"),
        Action::set_header("Content-Type", "text/plain; charset=utf-8"),
        Action::without_header("Content-Type"),
        Action::set_header(
            "Content-Type",
            format!("{}; charset=utf-8", media_type::OCI_MANIFEST),
        ),
    ] {
        assert_mended(on_any_manifest(), action).await;
    }
}

/// 51, 52: a digest that upstream does not have, or cannot give.
#[tokio::test]
async fn b51_b52_a_digest_that_cannot_be_had() {
    assert_refused(
        on_any_manifest(),
        Action::status(404),
        true,
        404,
        "MANIFEST_UNKNOWN",
    )
    .await;
    assert_refused(on_any_manifest(), Action::status(500), true, 502, "UNAVAILABLE").await;
}

/// 53, 54: upstream's headers are of another digest, or of another length; ours are of the bytes.
#[tokio::test]
async fn b53_b54_headers_are_of_the_bytes() {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    let other = Action::set_header("Docker-Content-Digest", sha512(&image.manifest));
    up.script(on_any_manifest(), other);
    let length = Action::content_length(image.manifest.len() as u64 + 5);
    up.script(on_any_manifest().head(), length);
    for reference in [image.digest.as_str(), "v1"] {
        let url = manifest_url(&node, reference);
        let head = Call::head(&url).send().await;
        let length = image.manifest.len().to_string();
        assert_eq!(
            (head.status, head.header("Content-Length")),
            (200, Some(length.as_str()))
        );
        assert_eq!(Call::get(&url).send().await.body, image.manifest);
    }
    let by_digest = Call::head(&manifest_url(&node, &image.digest)).send().await;
    assert_eq!(
        by_digest.header("Docker-Content-Digest"),
        Some(image.digest.as_str())
    );
    assert_refused(
        on_any_manifest().get(),
        Action::lengthen_by(5),
        true,
        502,
        "UNAVAILABLE",
    )
    .await;
    let length = image.manifest.len() as u64;
    let short = Action::content_length(length + 5).and(Action::cut_fin(length));
    assert_refused(on_any_manifest().get(), short, true, 502, "UNAVAILABLE").await;
}
