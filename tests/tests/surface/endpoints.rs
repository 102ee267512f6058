//! C.3: which paths and methods there are, and what everything else is told.

use larder_tests::prelude::*;

use crate::support::*;

/// C.3, end-1: the ping is answered here, whatever upstream does.
#[tokio::test]
async fn c3_ping() {
    let (up, node) = pair().await;
    up.script(on_any(), Action::status(401));
    for path in ["/v2", "/v2/", "/v2/?ns=up.test", "/v2/?ns=nobody.test"] {
        let url = format!("{}{path}", node.url());
        let (get, head) = (Call::get(&url).send().await, Call::head(&url).send().await);
        for answer in [&get, &head] {
            assert_eq!((answer.status, answer.end), (200, End::Complete), "{path}");
            assert_eq!(answer.header("Content-Type"), Some("application/json"));
            assert_eq!(answer.header("Content-Length"), Some("2"));
            assert_eq!(
                answer.header("Docker-Distribution-Api-Version"),
                Some("registry/2.0")
            );
            assert_eq!(answer.header("WWW-Authenticate"), None);
        }
        assert_eq!((get.text().as_str(), head.text().as_str()), ("{}", ""));
    }
    assert!(up.requests().is_empty(), "upstream was never asked");
}

/// C.3: `_catalog`, `/v1/_ping` and every other path.
#[tokio::test]
async fn c3_other_paths_are_404() {
    let (up, node) = pair().await;
    let digest = sha256(b"");
    for path in [
        "/v2/_catalog".to_owned(),
        "/v2/_catalog?n=10".to_owned(),
        "/v1/_ping".to_owned(),
        "/v1/".to_owned(),
        "/".to_owned(),
        "/v2x".to_owned(),
        "/metrics".to_owned(),
        "/statusz".to_owned(),
        "/token?service=s".to_owned(),
        format!("/v2/{REPO}/blobs/uploads/"),
        format!("/v2/{REPO}/blobs/uploads/42?ns=up.test"),
        format!("/v2/{REPO}/nonsense/v1?ns=up.test"),
        format!("/v2/{REPO}/tags/nonsense?ns=up.test"),
        format!("/v2/{REPO}/_trust/tuf/root.json?ns=up.test"),
        format!("/v3/{REPO}/blobs/{digest}"),
    ] {
        let url = format!("{}{path}", node.url());
        let get = Call::get(&url).send().await;
        assert_eq!(
            (get.status, get.end),
            (404, End::Complete),
            "{path}: {}",
            get.text()
        );
        assert!(!get.error_code().is_empty());
        let head = Call::head(&url).send().await;
        assert_eq!((head.status, head.body.len()), (404, 0), "{path}");
    }
    assert!(up.requests().is_empty());
}

/// C.3, C.1 (end-4 to end-11), A41: pull only.
#[tokio::test]
async fn c3_other_methods_are_405() {
    let (up, node) = pair().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    for (method, path) in [
        ("POST", format!("/v2/{REPO}/blobs/uploads/?ns=up.test")),
        (
            "POST",
            format!("/v2/{REPO}/blobs/uploads/?mount={}&from=other", image.digest),
        ),
        ("PATCH", format!("/v2/{REPO}/blobs/uploads/42")),
        (
            "PUT",
            format!("/v2/{REPO}/blobs/uploads/42?digest={}", image.digest),
        ),
        ("PUT", format!("/v2/{REPO}/manifests/v1?ns=up.test")),
        (
            "DELETE",
            format!("/v2/{REPO}/manifests/{}?ns=up.test", image.digest),
        ),
        ("DELETE", format!("/v2/{REPO}/blobs/{}", image.config_digest)),
        ("DELETE", "/v2/".to_owned()),
        ("OPTIONS", "/v2/".to_owned()),
        ("TRACE", format!("/v2/{REPO}/tags/list")),
    ] {
        let answer = Call::new(method, &format!("{}{path}", node.url())).send().await;
        assert_refusal(&answer, 405, "UNSUPPORTED", false);
        assert_eq!(answer.header("Allow"), Some("GET, HEAD"), "{method} {path}");
    }
    assert!(up.requests().is_empty());
    assert_eq!(up.count(on_any()), 0);
}

/// C.3, C.1: names, tags and digests that are none. Never 500, and never upstream's business.
#[tokio::test]
async fn c3_malformed_requests_are_400() {
    let (up, node) = pair().await;
    let digest = sha256(b"");
    let (hex, long_tag) = ("a".repeat(64), "t".repeat(129));
    for (path, code) in [
        ("Acme/app/manifests/v1".to_owned(), "NAME_INVALID"),
        ("acme//app/manifests/v1".to_owned(), "NAME_INVALID"),
        ("acme/../app/manifests/v1".to_owned(), "NAME_INVALID"),
        ("acme%2Fapp/manifests/v1".to_owned(), "NAME_INVALID"),
        ("-acme/app/manifests/v1".to_owned(), "NAME_INVALID"),
        (format!("acme/app_/blobs/{digest}"), "NAME_INVALID"),
        ("acme..app/tags/list".to_owned(), "NAME_INVALID"),
        (format!("{}/tags/list", "a".repeat(300)), "NAME_INVALID"),
        (format!("{REPO}/manifests/-v1"), "MANIFEST_INVALID"),
        (format!("{REPO}/manifests/.v1"), "MANIFEST_INVALID"),
        (format!("{REPO}/manifests/v1@x"), "MANIFEST_INVALID"),
        (format!("{REPO}/manifests/{long_tag}"), "MANIFEST_INVALID"),
        (
            format!("{REPO}/manifests/sha256:baddigeststring"),
            "DIGEST_INVALID",
        ),
        (format!("{REPO}/blobs/sha256:baddigeststring"), "DIGEST_INVALID"),
        (format!("{REPO}/blobs/sha256:{}", &hex[1..]), "DIGEST_INVALID"),
        (
            format!("{REPO}/blobs/sha256:{}", hex.to_uppercase()),
            "DIGEST_INVALID",
        ),
        (format!("{REPO}/blobs/sha512:{hex}"), "DIGEST_INVALID"),
        (format!("{REPO}/blobs/md5:{}", &hex[..32]), "DIGEST_INVALID"),
        (format!("{REPO}/blobs/v1"), "DIGEST_INVALID"),
        (format!("{REPO}/referrers/v1"), "DIGEST_INVALID"),
    ] {
        let url = format!("{}/v2/{path}?ns=up.test", node.url());
        assert_refusal(&Call::get(&url).send().await, 400, code, false);
        assert_refusal(&Call::head(&url).send().await, 400, code, true);
    }
    assert!(up.requests().is_empty());
}

/// C.1: the longest and oddest names and tags that are valid.
#[tokio::test]
async fn c1_valid_names_and_tags() {
    let (up, node) = pair().await;
    let image = image();
    let long_tag = "t".repeat(128);
    for (repo, tag) in [
        ("a", "_"),
        ("a__b/c-d/e--f.g", "A.b-C_d"),
        ("blobs/uploads/manifests/tags", "list"),
        ("manifests", long_tag.as_str()),
    ] {
        image.push_to(&up, repo, tag);
        let url = format!("{}/v2/{repo}/manifests/{tag}?ns=up.test", node.url());
        assert_eq!(Call::get(&url).send().await.body, image.manifest, "{repo}:{tag}");
    }
}

/// DESIGN §2: an upstream by `ns`, by path prefix, by default; one that is not configured is never contacted.
#[tokio::test]
async fn c1_registries_by_ns_prefix_and_default() {
    let up = FakeRegistry::builder().start().await;
    let other = FakeRegistry::builder().start().await;
    let image = image();
    image.push_to(&up, REPO, "v1");
    image.push_to(&other, "other/app", "v2");
    let mirror = mirror(&up)
        .registry("other.test:5000", other.url())
        .default_registry("up.test");
    let node = InProcessNode::start(&mirror, brisk()).await;
    for (path, namespace) in [
        (format!("{REPO}/manifests/v1"), None),
        (format!("{REPO}/manifests/v1?ns=up.test"), Some("up.test")),
        (format!("up.test/{REPO}/manifests/v1"), None),
        (
            "other/app/manifests/v2?ns=other.test:5000".to_owned(),
            Some("other.test:5000"),
        ),
        ("other.test:5000/other/app/manifests/v2".to_owned(), None),
    ] {
        let answer = Call::get(&format!("{}/v2/{path}", node.url())).send().await;
        assert_eq!((answer.status, &answer.body), (200, &image.manifest), "{path}");
        assert_eq!(answer.header("OCI-Namespace"), namespace, "{path}");
    }
    let (asked, asked_other) = (up.requests().len(), other.requests().len());
    for path in [
        format!("{REPO}/manifests/v1?ns=nobody.test"),
        "other/app/manifests/v2".to_owned(),
    ] {
        let answer = Call::get(&format!("{}/v2/{path}", node.url())).send().await;
        assert_eq!(answer.status, 404, "{path}");
    }
    assert_eq!(
        (up.requests().len(), other.requests().len()),
        (asked + 1, asked_other)
    );
    assert!(
        up.requests()
            .iter()
            .all(|exchange| exchange.request.query_param("ns").is_none())
    );
}

/// C.1: sha512 content, blobs and manifests, whatever algorithm upstream's header uses.
#[tokio::test]
async fn c1_sha512() {
    let (up, node) = pair().await;
    for size in [2000, STREAMED] {
        let content = random(size);
        let blob = up.add_blob_sha512(REPO, content.clone());
        up.script(
            on_blob(&blob),
            Action::set_header("Docker-Content-Digest", sha256(&content)),
        );
        for _ in 0..2 {
            let answer = Call::get(&blob_url(&node, &blob)).send().await;
            assert_eq!((answer.status, answer.end), (200, End::Complete));
            assert_eq!(answer.body, content);
            assert_eq!(answer.header("Docker-Content-Digest"), Some(blob.as_str()));
        }
        let wrong = up.add_blob_sha512(REPO, random(size));
        up.script(on_blob(&wrong), Action::wrong_bytes(0..1));
        let answer = Call::get(&blob_url(&node, &wrong)).send().await;
        assert!(answer.status == 502 || answer.end == End::FinShort);
    }
    let image = image();
    let digest = sha512(&image.manifest);
    up.add_manifest_under(REPO, &digest, image.media_type, image.manifest.clone());
    for call in [
        Call::head(&manifest_url(&node, &digest)),
        Call::get(&manifest_url(&node, &digest)),
    ] {
        let answer = call.send().await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("Docker-Content-Digest"), Some(digest.as_str()));
    }
}

/// C.1: manifests of 4 MiB are accepted.
#[tokio::test]
async fn c1_large_manifests() {
    let (up, node) = pair().await;
    let filler = "x".repeat((4 << 20) - 200);
    let manifest = format!(
        "{{\"schemaVersion\":2,\"mediaType\":\"{}\",\"manifests\":[],\"annotations\":{{\"x\":\"{filler}\"}}}}",
        media_type::OCI_INDEX
    );
    up.add_manifest(REPO, "large", media_type::OCI_INDEX, manifest.clone());
    let answer = Call::get(&manifest_url(&node, "large")).send().await;
    assert_eq!((answer.status, answer.end), (200, End::Complete));
    assert_eq!(answer.body, manifest.as_bytes());
}
