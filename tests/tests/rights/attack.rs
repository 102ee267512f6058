//! The attack, and what must not come of defending against it.

use serde_json::json;

use super::*;

/// A manifest that a stranger pushed to what is public, and that names somebody else's layer.
fn bait(layer: &str, size: usize) -> String {
    json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": {"mediaType": media_type::OCI_CONFIG, "digest": layer, "size": size},
        "layers": [{"mediaType": media_type::OCI_LAYER, "digest": layer, "size": size}],
    })
    .to_string()
}

/// Every way to ask for what belongs to `image` by another name.
fn attacks(node: &InProcessNode, image: &Image) -> Vec<Call> {
    let layer = layer(image);
    let mut calls = Vec::new();
    for name in [PUBLIC, "public/guess", SISTER] {
        calls.extend([
            blob(node, name, &layer),
            blob_head(node, name, &layer),
            blob(node, name, &layer).range("0-99"),
            blob(node, name, &layer).range("-100"),
            blob(node, name, &layer).range("0-9,20-29,100-"),
            // As a manifest and as a blob, whichever it is.
            manifest(node, name, &layer),
            blob(node, name, &image.digest),
            manifest(node, name, &image.digest),
            Call::head(&url(&node.url(), name, &format!("manifests/{}", image.digest))),
            manifest(node, name, "v1"),
            Call::get(&url(&node.url(), name, "manifests/latest")),
        ]);
        calls.extend(image.blobs().iter().map(|(digest, _)| blob(node, name, digest)));
    }
    // A list of another registry's name is no list of this one.
    calls.push(Call::get(&format!(
        "{}/v2/{PRIVATE}/blobs/{layer}?ns=other.test",
        node.url()
    )));
    calls
}

async fn assert_refused(node: &InProcessNode, image: &Image, when: &str) {
    for attack in attacks(node, image) {
        let answer = attack.clone().send().await;
        assert_eq!(answer.status, 404, "{when}: {attack:?}: {}", answer.text());
    }
    let subject = url(&node.url(), PUBLIC, &format!("referrers/{}", image.digest));
    let list = Call::get(&subject).send().await;
    assert!(
        !list.text().contains("private-referrer"),
        "{when}: {}",
        list.text()
    );
}

/// An upstream with a private image that something refers to, and the bait in what is public.
async fn scene(layer_bytes: usize) -> (FakeRegistry, Image) {
    let (up, image) = upstream_with(&[PRIVATE], layer_bytes).await;
    let size = image.blobs().last().unwrap().1.len();
    up.add_manifest(
        PUBLIC,
        "bait",
        media_type::OCI_MANIFEST,
        bait(&layer(&image), size),
    );
    let list = json!({"schemaVersion": 2, "manifests": [{"artifactType": "private-referrer"}]}).to_string();
    up.script(
        on_referrers().repo(PRIVATE),
        Action::respond(200, list).and(Action::header("Content-Type", media_type::OCI_INDEX)),
    );
    (up, image)
}

#[tokio::test]
async fn what_is_private_stays_so_cold_warm_and_after_a_restart() {
    let (up, image) = scene(LAYER_BYTES).await;
    let other = FakeRegistry::builder().start().await;
    let config = mirror(&up).registry("other.test", other.url());
    let mut node = node_with(&config, limits(HOUR)).await;
    assert_refused(&node, &image, "cold").await;
    assert_eq!(manifest(&node, PUBLIC, "bait").send().await.status, 200);
    assert_refused(&node, &image, "cold, with the bait").await;

    pull(&node, PRIVATE, &image).await;
    let referrers = Call::get(&url(&node.url(), PRIVATE, &format!("referrers/{}", image.digest)));
    let list = referrers.send().await;
    assert!(list.text().contains("private-referrer"), "{}", list.text());
    assert_eq!(manifest(&node, PUBLIC, "bait").send().await.status, 200);
    assert_refused(&node, &image, "warm").await;
    assert_eq!(
        manifest(&node, PUBLIC, &sha256(list.text().as_bytes()))
            .send()
            .await
            .status,
        404
    );

    node = node.restart(limits(HOUR)).await;
    assert_refused(&node, &image, "after a restart").await;
    // And none of it took anything from the owner, not even a request.
    let before = up.requests().len();
    pull(&node, PRIVATE, &image).await;
    assert_eq!(up.requests().len(), before);
}

/// What is on its way is as private as what is here, and so is what was left of it.
#[tokio::test]
async fn what_is_private_stays_so_on_its_way() {
    let (up, image) = scene(LAYER_BYTES).await;
    let layer = layer(&image);
    let node = node(&up).await;
    let stall = on_blob(&layer)
        .get()
        .repo(PRIVATE)
        .header("Authorization", ONE)
        .times(2);
    let stalled = up.script(stall, Action::stall_after(2 << 20));
    assert_eq!(manifest(&node, PUBLIC, "bait").send().await.status, 200);
    let reading = tokio::spawn(blob(&node, PRIVATE, &layer).leave_after(1 << 20).send());
    assert_eq!(reading.await.unwrap().end, End::Left);
    assert_refused(&node, &image, "on its way").await;
    // Put aside, it lies on disk; the next one who asks would continue it.
    let node = node.restart(limits(HOUR)).await;
    assert_refused(&node, &image, "put aside").await;
    assert_eq!(stalled.acted(), 1, "it was not on its way all the time");
    drop(stalled);
    up.clear_script();
    lock(&up, ONE);
    blob(&node, PRIVATE, &layer).send().await.assert_whole(&layer);
    assert_refused(&node, &image, "complete").await;
}

/// A stranger who asks first gets a refusal; the owner who asks meanwhile gets the content.
#[tokio::test]
async fn a_strangers_refusal_is_not_the_owners() {
    let (up, image) = scene(LAYER_BYTES).await;
    let layer = layer(&image);
    let node = node(&up).await;
    up.script(
        on_blob(&layer).repo(PUBLIC),
        Action::delay_head(Duration::from_secs(1)),
    );
    let stranger = tokio::spawn(blob(&node, PUBLIC, &layer).send());
    up.wait_for_count(on_blob(&layer).repo(PUBLIC), 1, SOON).await;
    let owner = blob(&node, PRIVATE, &layer).send().await;
    assert_eq!(stranger.await.unwrap().status, 404);
    owner.assert_whole(&layer);
}

/// An answer that any request gets, as from a captive portal, is no proof.
#[tokio::test]
async fn a_portal_proves_nothing() {
    let (up, image) = scene(LAYER_BYTES).await;
    let layer = layer(&image);
    let node = node(&up).await;
    pull(&node, PRIVATE, &image).await;
    for content_type in ["text/html; charset=utf-8", "application/octet-stream"] {
        let welcome =
            Action::respond(200, "<html>welcome</html>").and(Action::header("Content-Type", content_type));
        up.clear_script();
        up.script(on_any().repo(PUBLIC), welcome);
        for call in [blob(&node, PUBLIC, &layer), blob_head(&node, PUBLIC, &layer)] {
            let answer = call.send().await;
            assert_eq!(answer.status, 502, "{content_type}: {}", answer.text());
        }
    }
    up.clear_script();
    lock(&up, ONE);
    assert_refused(&node, &image, "afterwards").await;
}

/// A stranger's manifest that gives somebody else's layer a wrong length does not keep the owner from it.
#[tokio::test]
async fn a_strangers_manifest_breaks_no_pull() {
    let (up, image) = scene(LAYER_BYTES).await;
    let lie = bait(&layer(&image), 7);
    up.add_manifest(PUBLIC, "lie", media_type::OCI_MANIFEST, lie);
    let node = node(&up).await;
    assert_eq!(manifest(&node, PUBLIC, "lie").send().await.status, 200);
    pull(&node, PRIVATE, &image).await;
}

/// Registries are strangers to each other, whatever their repositories are called.
#[tokio::test]
async fn two_registries_share_no_rights() {
    let (up, image) = scene(LAYER_BYTES).await;
    let layer = layer(&image);
    let other = FakeRegistry::builder().start().await;
    let config = mirror(&up).registry("other.test", other.url());
    let node = node_with(&config, limits(HOUR)).await;
    pull(&node, PRIVATE, &image).await;
    for rest in [
        format!("blobs/{layer}"),
        format!("manifests/{}", image.digest),
        "manifests/v1".to_owned(),
    ] {
        let elsewhere = format!("{}/v2/{PRIVATE}/{rest}?ns=other.test", node.url());
        assert_eq!(Call::get(&elsewhere).send().await.status, 404, "{rest}");
        assert_eq!(Call::head(&elsewhere).send().await.status, 404, "{rest}");
    }
}

/// A registry that is never contacted has what came through it, and nothing else.
#[tokio::test]
async fn a_cache_only_registry_has_what_came_through_it() {
    let (up, image) = scene(LAYER_BYTES).await;
    let node = node(&up).await;
    pull(&node, PRIVATE, &image).await;
    let offline = registry(&up).set("/mode", "CacheOnly").set("/fallback", "None");
    let config = MirrorConfig::new().object("uid", 2).with(offline);
    std::fs::write(node.config_path(), config.to_yaml()).unwrap();
    let node = node.restart(limits(Duration::ZERO)).await;
    let before = up.requests().len();
    pull(&node, PRIVATE, &image).await;
    let layer = layer(&image);
    for call in [
        blob(&node, SISTER, &layer),
        blob_head(&node, SISTER, &layer),
        manifest(&node, SISTER, &image.digest),
    ] {
        assert_eq!(call.send().await.status, 404);
    }
    assert_eq!(up.requests().len(), before);
}
