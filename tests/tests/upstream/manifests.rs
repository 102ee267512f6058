//! D.3, D.5, D.7, D.9: manifests whose answers depend on how they are asked for, or lack what clients need.

use larder_tests::prelude::*;
use larder_tests::scripted::Request;
use serde_json::json;

use super::support::*;

const TYPES: [&str; 4] = [
    media_type::OCI_INDEX,
    media_type::OCI_MANIFEST,
    media_type::DOCKER_LIST,
    media_type::DOCKER_MANIFEST,
];

const SCHEMA1: &str = "application/vnd.docker.distribution.manifest.v1+prettyjws";

fn accepts_all(request: &Request) -> bool {
    let accept = request.header_all("Accept").join(",");
    let accepted: Vec<_> = accept
        .split(',')
        .filter_map(|one| one.split(';').next())
        .map(str::trim)
        .collect();
    TYPES.iter().all(|wanted| accepted.contains(wanted))
}

/// A registry that makes schema 1 of every tag unless each type is named in `Accept`; `*/*` does not count.
async fn converting() -> (FakeRegistry, Image) {
    let up = FakeRegistry::builder().start().await;
    let image = push_image(&up);
    let schema1 = json!({"schemaVersion": 1, "name": REPO, "tag": "v1", "fsLayers": [], "signatures": []});
    let reply = larder_tests::scripted::Reply::new(200, schema1.to_string()).header("Content-Type", SCHEMA1);
    up.script(
        on_any_manifest().when(|request| !accepts_all(request)),
        Action::reply(reply),
    );
    (up, image)
}

/// D.3 (quay), D.5 (ghcr), D.9 (Red Hat), D.1 (HEAD): whatever the client accepts, upstream is asked with every type, in
/// each request for a manifest: by tag, by digest, GET and HEAD, first and again; and for identity.
#[tokio::test]
async fn d1_d3_d5_d9_upstream_is_always_asked_with_the_full_accept_list() {
    let (up, image) = converting().await;
    let untagged = ImageBuilder::new().layer(&[("u", b"u")]).build();
    up.add_untagged_manifest(REPO, untagged.media_type, untagged.manifest.clone());
    let node = node_for(Registry::new("up.test").endpoint(at(&up)).ttl("0s")).await;
    for accept in [
        None,
        Some("*/*"),
        Some(SCHEMA1),
        Some(media_type::DOCKER_MANIFEST),
    ] {
        for (method, reference, expected) in [
            ("HEAD", "v1", &image),
            ("GET", "v1", &image),
            ("GET", untagged.digest.as_str(), &untagged),
        ] {
            let call = Call::new(method, &url(&node, &format!("manifests/{reference}")));
            let call = match accept {
                Some(accept) => call.header("Accept", accept),
                None => call,
            };
            let answer = call.send().await;
            assert_eq!(answer.status, 200, "{method} {accept:?}");
            assert_eq!(
                answer.header("Docker-Content-Digest"),
                Some(expected.digest.as_str())
            );
            assert_eq!(answer.header("Content-Type"), Some(expected.media_type));
        }
    }
    let asked = up.requests_on(on_any_manifest());
    assert!(asked.iter().any(|exchange| exchange.request.is_head()) && asked.len() >= 3);
    for exchange in asked {
        assert!(accepts_all(&exchange.request), "{exchange}");
        assert_eq!(exchange.request.header("Accept-Encoding"), Some("identity"));
    }
}

/// D.3, D.9: a tag of schema 1 alone is absent here, so that the runtime goes on to the registry itself; and it is not
/// remembered as anything.
#[tokio::test]
async fn d3_d9_a_tag_of_schema1_alone_is_absent_and_not_remembered() {
    let up = FakeRegistry::builder().start().await;
    let image = push_image(&up);
    let schema1 = r#"{"schemaVersion":1,"fsLayers":[],"signatures":[]}"#;
    up.add_manifest(REPO, "old", SCHEMA1, schema1);
    let node = node(at(&up)).await;
    let answer = manifest(&node, "old").await;
    assert_eq!(
        (answer.status, answer.error_code()),
        (404, "MANIFEST_UNKNOWN".to_owned())
    );
    up.tag(REPO, "old", &image.digest);
    assert_eq!(manifest(&node, "old").await.body, image.manifest);
}

/// D.5: ghcr's 404 for a wrong Accept, and any other: asked again every time, by tag and by digest.
#[tokio::test]
async fn d5_a_404_is_never_remembered() {
    let up = FakeRegistry::builder().start().await;
    let image = push_image(&up);
    let message = "OCI index found, but Accept header does not support OCI indexes";
    let node = node(at(&up)).await;
    let layer = &image.layers[0].digest;
    for path in [
        "manifests/v1".to_owned(),
        format!("manifests/{}", image.digest),
        format!("blobs/{layer}"),
        "manifests/v1".to_owned(),
    ] {
        up.clear_script();
        up.script(on_any(), Action::error(404, "MANIFEST_UNKNOWN", message));
        let url = url(&node, &path);
        let known = manifest(&node, &image.digest).await.status == 200;
        if !known {
            assert_eq!(Call::get(&url).send().await.status, 404, "{path}");
        }
        up.clear_script();
        assert_eq!(Call::get(&url).send().await.status, 200, "{path}");
    }
}

/// D.7 (ECR, public.ecr.aws), D.9: without `Docker-Content-Digest` on GET or at all, the digest is that of the bytes; and
/// revalidation by a HEAD that tells nothing still finds out.
#[tokio::test]
async fn d7_d9_manifests_without_digest_header() {
    for on in [on_any_manifest(), on_any_manifest().get()] {
        let up = FakeRegistry::builder().start().await;
        let image = push_image(&up);
        let bare = Action::without_header("Docker-Content-Digest").and(Action::without_header("Etag"));
        up.script(on, bare.and(Action::set_status(200)));
        let node = node_for(Registry::new("up.test").endpoint(at(&up)).ttl("0s")).await;
        for reference in ["v1", &image.digest] {
            let head = Call::head(&url(&node, &format!("manifests/{reference}")))
                .send()
                .await;
            let get = manifest(&node, reference).await;
            for answer in [&head, &get] {
                assert_eq!(answer.status, 200);
                assert_eq!(
                    answer.header("Docker-Content-Digest"),
                    Some(image.digest.as_str())
                );
                assert_eq!(
                    answer.header("Content-Length"),
                    Some(image.manifest.len().to_string().as_str())
                );
                assert_eq!(answer.header("Content-Type"), Some(image.media_type));
            }
            assert_eq!(get.body, image.manifest);
        }
        let moved = ImageBuilder::new().layer(&[("b", b"2")]).build();
        moved.push_to(&up, REPO, "v1");
        assert_eq!(manifest(&node, "v1").await.body, moved.manifest);
    }
}

/// D.9 (Cloudflare, Fastly, registry.istio.io): HEAD without `Content-Length`, of manifests and of blobs.
#[tokio::test]
async fn d9_heads_without_content_length() {
    let up = FakeRegistry::builder().start().await;
    let image = push_image(&up);
    up.script(on_any().head(), Action::until_close());
    let node = node_for(Registry::new("up.test").endpoint(at(&up)).ttl("0s")).await;
    for _ in 0..2 {
        let head = Call::head(&url(&node, "manifests/v1")).send().await;
        let length = image.manifest.len().to_string();
        assert_eq!(
            (head.status, head.header("Content-Length")),
            (200, Some(length.as_str()))
        );
    }
    assert!(up.count(on_any_manifest().head()) >= 1);
    let digest = up.add_blob(REPO, random(12_345));
    let head = head_blob(&node, &digest).await;
    assert_eq!((head.status, head.header("Content-Length")), (200, Some("12345")));
}

/// D.9 (Red Hat): manifests labelled as `text/plain`, and others of no telling type, get their own type back; a type with
/// parameters loses them.
#[tokio::test]
async fn d9_manifests_of_no_telling_type_get_their_own() {
    let index = Index::of(vec![ImageBuilder::new().docker().layer(&[("a", b"a")]).build()]);
    for content_type in [
        "text/plain",
        "text/plain; charset=utf-8",
        "application/json",
        "application/octet-stream",
        "",
    ] {
        let up = FakeRegistry::builder().start().await;
        index.push_to(&up, REPO, "multi");
        up.script(
            on_any_manifest(),
            Action::set_header("Content-Type", content_type),
        );
        let node = node(at(&up)).await;
        let head = Call::head(&url(&node, "manifests/multi")).send().await;
        assert_eq!(head.header("Content-Type"), Some(media_type::DOCKER_LIST));
        let image = &index.images[0];
        let by_digest = manifest(&node, &image.digest).await;
        assert_eq!(
            by_digest.header("Content-Type"),
            Some(media_type::DOCKER_MANIFEST)
        );
        assert_eq!(by_digest.body, image.manifest);
    }
    let up = FakeRegistry::builder().start().await;
    push_image(&up);
    let with_charset = format!("{}; charset=utf-8", media_type::OCI_MANIFEST);
    up.script(
        on_any_manifest(),
        Action::set_header("Content-Type", with_charset),
    );
    let node = node(at(&up)).await;
    assert_eq!(
        manifest(&node, "v1").await.header("Content-Type"),
        Some(media_type::OCI_MANIFEST)
    );
}

/// D.9: sha512, by tag and by digest, also where the registry names the content by sha256 all the same (distribution).
#[tokio::test]
async fn d9_sha512_manifests_and_blobs() {
    let up = FakeRegistry::builder().start().await;
    let image = push_image(&up);
    let long = sha512(&image.manifest);
    up.add_manifest_under(REPO, &long, image.media_type, image.manifest.clone());
    up.script(
        on_manifest(&long),
        Action::set_header("Docker-Content-Digest", image.digest.clone()),
    );
    let node = node(at(&up)).await;
    let answer = manifest(&node, &long).await;
    assert_eq!((answer.status, &answer.body), (200, &image.manifest));
    assert_eq!(answer.header("Docker-Content-Digest"), Some(long.as_str()));

    let content = random(2 << 20);
    let digest = up.add_blob_sha512(REPO, content.clone());
    let head = head_blob(&node, &digest).await;
    assert_eq!(
        (head.status, head.header("Content-Length")),
        (200, Some("2097152"))
    );
    for _ in 0..2 {
        let answer = blob(&node, &digest).await;
        assert_eq!((answer.status, answer.end), (200, End::Complete));
        assert_eq!(answer.body, content);
    }
    assert_eq!(up.count(on_blob(&digest).get()), 1);

    let wrong = sha512(b"something else");
    up.add_blob_under(REPO, &wrong, content);
    let answer = blob(&node, &wrong).await;
    assert!(answer.status == 502 || answer.end != End::Complete);
    assert!(answer.received < 2 << 20);
}
