//! A registry that is never contacted: what is here is served however old it is, and the rest is not found.

use super::*;

#[tokio::test]
async fn a_cache_only_registry_is_served_from_disk_and_never_contacted() {
    let up = FakeRegistry::builder().start().await;
    let image = ImageBuilder::new().random_layer(7, 3 << 20).build();
    image.push_to(&up, "acme/app", "v1");
    let other = up.add_blob("acme/app", random(1 << 20));
    // Not even a day of grace: with an upstream to ask, nobody would believe this tag any more.
    let expired = registry(&up).ttl("0s").serve_stale_for("0s");
    let mut node = NodeProcess::start(&MirrorConfig::new().with(expired.clone())).await;
    let layer = image.blobs()[1].0.clone();
    assert_eq!(manifest(&node.url(), "v1").send().await.status, 200);
    for (digest, _) in image.blobs() {
        blob(&node.url(), &digest).send().await.assert_whole(&digest);
    }
    node.terminate().await;
    let asked = up.connections();
    node.write_config(
        &MirrorConfig::new()
            .object("uid", 1)
            .with(expired.set("/mode", "CacheOnly").set("/fallback", "None")),
    );
    node.launch().await;
    let (base, blobs) = (node.url(), format!("{}/v2/acme/app/blobs", node.url()));
    for reference in ["v1", &image.digest] {
        for call in [manifest(&base, reference), manifest_head(&base, reference)] {
            let answer = call.send().await;
            assert_eq!((answer.status, answer.header("warning")), (200, None));
            assert_eq!(
                answer.header("docker-content-digest"),
                Some(image.digest.as_str())
            );
        }
    }
    blob(&base, &layer).send().await.assert_whole(&layer);
    let head = Call::head(&format!("{blobs}/{layer}?ns=up.test")).send().await;
    assert_eq!(head.status, 200);
    let part = blob(&base, &layer).range("10-19").send().await;
    assert_eq!((part.status, part.body.len()), (206, 10));

    for (missing, code) in [
        (manifest(&base, "v2"), "MANIFEST_UNKNOWN"),
        (manifest(&base, &other), "MANIFEST_UNKNOWN"),
        (blob(&base, &other), "BLOB_UNKNOWN"),
        (blob(&base, &other).range("0-9"), "BLOB_UNKNOWN"),
        (
            Call::get(&format!("{base}/v2/acme/app/tags/list?ns=up.test")),
            "NAME_UNKNOWN",
        ),
        (
            Call::get(&format!("{base}/v2/acme/app/referrers/{other}?ns=up.test")),
            "NAME_UNKNOWN",
        ),
    ] {
        let answer = missing.send().await;
        assert_eq!((answer.status, answer.error_code().as_str()), (404, code));
    }
    let head = Call::head(&format!("{blobs}/{other}?ns=up.test")).send().await;
    assert_eq!(head.status, 404);
    assert_eq!(up.connections(), asked);
    // Not found is not gone: the tag is still known.
    assert_eq!(manifest(&base, "v1").send().await.status, 200);
}
