//! D.1 to D.9: names, lists, refusals and other ways that are each registry's own.

use larder_tests::prelude::*;
use serde_json::json;

use super::support::*;

/// D.1: `docker.io/alpine` is `library/alpine`, however the mirror is reached; two segments stay as they are.
#[tokio::test]
async fn d1_docker_hubs_library_is_added() {
    let up = FakeRegistry::builder().start().await;
    let image = ImageBuilder::new().layer(&[("a", b"a")]).build();
    image.push_to(&up, "library/alpine", "3");
    image.push_to(&up, "acme/app", "3");
    let hub = Registry::new("docker.io").endpoint(at(&up));
    let config = MirrorConfig::new().with(hub).default_registry("docker.io");
    let node = start(&config).await;
    for path in [
        "alpine/manifests/3?ns=docker.io",
        "library/alpine/manifests/3?ns=docker.io",
        "alpine/manifests/3?ns=registry-1.docker.io",
        "alpine/manifests/3?ns=index.docker.io",
        "docker.io/alpine/manifests/3",
        "docker.io/library/alpine/manifests/3",
        "index.docker.io/alpine/manifests/3",
        "alpine/manifests/3",
        "docker.io/acme/app/manifests/3",
    ] {
        let answer = Call::get(&format!("{}/v2/{path}", node.url())).send().await;
        assert_eq!((answer.status, &answer.body), (200, &image.manifest), "{path}");
    }
    for path in [
        format!("docker.io/alpine/blobs/{}", image.config_digest),
        "docker.io/alpine/tags/list".to_owned(),
        format!("docker.io/alpine/referrers/{}", image.digest),
    ] {
        let answer = Call::get(&format!("{}/v2/{path}", node.url())).send().await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
    }
    for exchange in up.requests() {
        let repo = exchange.request.repo().unwrap();
        assert!(["library/alpine", "acme/app"].contains(&repo.as_str()), "{repo}");
    }
}

/// D.4: gcr answers 404 where `ns` is forwarded; and nothing else of the client's is, either.
#[tokio::test]
async fn d4_nothing_of_the_client_goes_upstream() {
    let up = FakeRegistry::builder().start().await;
    let image = push_image(&up);
    up.script(
        on_any().when(|request| request.query().contains("ns=")),
        Action::status(404),
    );
    let node = node(at(&up)).await;
    for what in [
        "manifests/v1".to_owned(),
        format!("manifests/{}", image.digest),
        format!("blobs/{}", image.config_digest),
        "tags/list".to_owned(),
        format!("referrers/{}", image.digest),
    ] {
        for method in ["HEAD", "GET"] {
            let answer = Call::new(method, &url(&node, &what))
                .header("Authorization", "Basic Og==")
                .header("Cookie", "session=1")
                .header("X-Forwarded-For", "192.0.2.1")
                .header("User-Agent", "containerd/2.2")
                .send()
                .await;
            assert_eq!(answer.status, 200, "{method} {what}");
        }
    }
    for exchange in up.requests() {
        let request = &exchange.request;
        assert_eq!(request.query(), "", "{exchange}");
        for name in ["Authorization", "Cookie", "X-Forwarded-For", "Referer"] {
            assert_eq!(request.header(name), None, "{exchange}");
        }
        assert!(request.header("User-Agent").unwrap().starts_with("larder/"));
    }
}

/// D.3 (absolute), D.8 (relative, with `orderby=`): the next page of a list is asked for here, with upstream's own query.
#[tokio::test]
async fn d3_d8_links_of_lists_lead_back_here() {
    for (link, query) in [
        (
            "<https://quay.io/v2/acme/app/tags/list?n=100&next_page=gAAAAABf%3D%3D>; rel=\"next\"",
            "n=100&next_page=gAAAAABf%3D%3D",
        ),
        (
            "</v2/acme/app/tags/list?last=a%2Bb&n=1&orderby=>; rel=\"next\"",
            "last=a%2Bb&n=1&orderby=",
        ),
        ("</acr/v1/elsewhere?last=x>;rel=next", "last=x"),
    ] {
        let up = FakeRegistry::builder().start().await;
        push_image(&up);
        up.script(on_tags().once(), Action::header("Link", link));
        let node = node(at(&up)).await;
        let page = Call::get(&url(&node, "tags/list")).send().await;
        assert_eq!(page.status, 200);
        let next = page.header("Link").unwrap();
        let target = next.strip_prefix('<').unwrap().split('>').next().unwrap();
        let target = target.strip_prefix(&node.url()).unwrap_or(target);
        assert!(target.starts_with("/v2/acme/app/tags/list?"), "{next}");
        let second = Call::get(&format!("{}{target}", node.url())).send().await;
        assert_eq!(second.status, 200, "{next}");
        assert_eq!(
            up.requests_on(on_tags())[1].request.target,
            format!("/v2/acme/app/tags/list?{query}")
        );
    }
}

/// D.3, D.9: what is absent is absent in whatever words: TAG_EXPIRED, NAME_UNKNOWN, plain "Not Found", HTML, nothing.
#[tokio::test]
async fn d3_d9_absence_in_any_words() {
    for action in [
        Action::error(404, "TAG_EXPIRED", "tag has expired"),
        Action::error(404, "NAME_UNKNOWN", "unknown"),
        Action::respond(404, "Not Found"),
        Action::respond(404, "<html>404</html>").and(Action::header("Content-Type", "text/html")),
        Action::respond(404, ""),
        Action::respond(404, "{\"errors\":[]}"),
    ] {
        let up = FakeRegistry::builder().start().await;
        up.script(on_any(), action);
        let node = node(at(&up)).await;
        let answer = manifest(&node, "v1").await;
        assert_eq!(
            (answer.status, answer.error_code()),
            (404, "MANIFEST_UNKNOWN".to_owned())
        );
        let answer = blob(&node, &sha256(b"x")).await;
        assert_eq!(
            (answer.status, answer.error_code()),
            (404, "BLOB_UNKNOWN".to_owned())
        );
        assert_eq!(up.requests().len(), 2, "absence is no reason to ask again");
    }
}

/// D.3: quay says 400 MANIFEST_INVALID for the referrers of what it does not know; that stays the client's mistake.
#[tokio::test]
async fn d3_referrers_of_an_unknown_digest() {
    let up = FakeRegistry::builder().start().await;
    up.script(
        on_referrers(),
        Action::error(400, "MANIFEST_INVALID", "manifest invalid"),
    );
    let node = node(at(&up)).await;
    let answer = Call::get(&url(&node, &format!("referrers/{}", sha256(b"x"))))
        .send()
        .await;
    assert_eq!(
        (answer.status, answer.error_code()),
        (400, "MANIFEST_INVALID".to_owned())
    );
}

/// D.6: registry.k8s.io has no catalogue and refuses other methods; here that is answered without asking.
#[tokio::test]
async fn d6_no_catalogue_and_no_other_methods() {
    let up = FakeRegistry::builder().start().await;
    let node = node(at(&up)).await;
    let catalogue = Call::get(&format!("{}/v2/_catalog?ns=up.test", node.url()))
        .send()
        .await;
    assert!([404, 405].contains(&catalogue.status), "{}", catalogue.status);
    let post = Call::new("POST", &url(&node, "blobs/uploads/")).send().await;
    assert_eq!(post.status, 405);
    assert_eq!(up.requests().len(), 0);
}

/// D.9 (Artifactory): a manifest's digest asked for as a blob: HEAD says 200, GET says 404, and so do we, at once.
#[tokio::test]
async fn d9_a_manifest_asked_for_as_a_blob() {
    let up = FakeRegistry::builder().start().await;
    let image = push_image(&up);
    let octets = Action::respond(200, image.manifest.clone())
        .and(Action::header("Content-Type", "application/octet-stream"));
    up.script(on_blob(&image.digest).head(), octets);
    let node = node(at(&up)).await;
    let head = head_blob(&node, &image.digest).await;
    let length = image.manifest.len().to_string();
    assert_eq!(
        (head.status, head.header("Content-Length")),
        (200, Some(length.as_str()))
    );
    let answer = blob(&node, &image.digest).await;
    assert_eq!(
        (answer.status, answer.error_code()),
        (404, "BLOB_UNKNOWN".to_owned())
    );
}

/// D.9: a manifest with foreign layers passes unchanged, the blob is the upstream's 404, and `urls` are never followed
/// (CVE-2020-15157).
#[tokio::test]
async fn d9_foreign_layers_are_never_followed() {
    let elsewhere = Cdn::builder().start().await;
    let up = FakeRegistry::builder().start().await;
    let content = random(1000);
    let digest = sha256(&content);
    let location = elsewhere.sign(content, &digest);
    let foreign = json!({
        "schemaVersion": 2,
        "mediaType": media_type::DOCKER_MANIFEST,
        "config": {"mediaType": media_type::DOCKER_CONFIG, "size": 2, "digest": sha256(b"{}")},
        "layers": [{
            "mediaType": "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
            "size": 1000,
            "digest": digest,
            "urls": [location],
        }],
    });
    let bytes = serde_json::to_vec_pretty(&foreign).unwrap();
    up.add_manifest(REPO, "windows", media_type::DOCKER_MANIFEST, bytes.clone());
    let node = node(at(&up)).await;
    assert_eq!(manifest(&node, "windows").await.body, bytes);
    let answer = blob(&node, &digest).await;
    assert_eq!(
        (answer.status, answer.error_code()),
        (404, "BLOB_UNKNOWN".to_owned())
    );
    assert_eq!(head_blob(&node, &digest).await.status, 404);
    assert_eq!(elsewhere.requests().len(), 0);
}
