//! How long a proof counts, and what ends it.

use super::*;

/// Without any time, every answer of private content is proved first, whatever it is; public content never is.
#[tokio::test]
async fn a_proof_that_is_too_old_is_renewed() {
    let (up, image) = upstream_with(&[PRIVATE, PUBLIC], LAYER_BYTES).await;
    let layer = layer(&image);
    let node = node_with(&mirror(&up), limits(Duration::ZERO)).await;
    pull(&node, PRIVATE, &image).await;
    let before = answered(&up, on_any());
    for (asked, on) in [
        (blob(&node, PRIVATE, &layer), on_blob(&layer).head()),
        (blob_head(&node, PRIVATE, &layer), on_blob(&layer).head()),
        (
            manifest(&node, PRIVATE, &image.digest),
            on_manifest(&image.digest).head(),
        ),
        (manifest(&node, PRIVATE, "v1"), on_manifest("v1").head()),
    ] {
        let heads = answered(&up, on.clone());
        assert_eq!(asked.send().await.status, 200);
        assert_eq!(answered(&up, on), heads + 1);
    }
    assert_eq!(answered(&up, on_any()), before + 4);
    // Nobody needs to prove what everybody can have.
    pull(&node, PUBLIC, &image).await;
    let before = up.requests().len();
    pull(&node, PUBLIC, &image).await;
    assert_eq!(up.requests().len(), before);
}

/// A tag that never changes is still private.
#[tokio::test]
async fn an_immutable_tag_is_no_right() {
    let (up, image) = upstream_with(&[PRIVATE], 1000).await;
    let config = MirrorConfig::new().with(registry(&up).immutable("v*").serve_stale_for("0s"));
    let node = node_with(&config, limits(HOUR)).await;
    pull(&node, PRIVATE, &image).await;
    let node = node.restart(limits(Duration::ZERO)).await;
    assert_eq!(manifest(&node, PRIVATE, "v1").send().await.status, 200);
    assert_eq!(answered(&up, on_manifest("v1").head()), 1);
    up.clear_script();
    up.script(on_any(), Action::status(403));
    assert_eq!(manifest(&node, PRIVATE, "v1").send().await.status, 403);
}

/// A proof survives a restart, and while upstream is down it counts for `serveStaleFor` longer.
#[tokio::test]
async fn a_proof_outlives_a_restart_and_an_outage() {
    let (up, image) = upstream_with(&[PRIVATE], LAYER_BYTES).await;
    let layer = layer(&image);
    let config = |stale| MirrorConfig::new().with(registry(&up).ttl("24h").serve_stale_for(stale));
    let node = node_with(&config("1h"), limits(HOUR)).await;
    pull(&node, PRIVATE, &image).await;
    up.close();
    let node = node.restart(limits(HOUR)).await;
    pull(&node, PRIVATE, &image).await;
    let asks = |node: &InProcessNode| {
        [
            blob(node, PRIVATE, &layer),
            blob_head(node, PRIVATE, &layer),
            blob(node, PRIVATE, &layer).range("0-9"),
            manifest(node, PRIVATE, &image.digest),
            manifest(node, PRIVATE, "v1"),
        ]
    };
    let node = node.restart(limits(Duration::ZERO)).await;
    for ask in asks(&node) {
        let answer = ask.clone().send().await;
        assert!(matches!(answer.status, 200 | 206), "{ask:?}: {}", answer.text());
    }
    // Nor does it count a moment longer.
    std::fs::write(node.config_path(), config("0s").to_yaml()).unwrap();
    let node = node.restart(limits(Duration::ZERO)).await;
    for ask in asks(&node) {
        let answer = ask.clone().send().await;
        assert_eq!(answer.status, 502, "{ask:?}: {}", answer.text());
    }
    // It is still there when upstream is.
    up.reopen().await;
    pull(&node, PRIVATE, &image).await;
}

/// What upstream says counts more than any proof, and is remembered when it cannot be asked any more.
#[tokio::test]
async fn a_refusal_ends_a_proof() {
    // Clients are never challenged for their own credentials.
    for (status, refusal) in [(401, 404), (403, 403), (404, 404)] {
        let (up, image) = upstream_with(&[PRIVATE], LAYER_BYTES).await;
        let layer = layer(&image);
        let node = node_with(&mirror(&up), limits(Duration::ZERO)).await;
        pull(&node, PRIVATE, &image).await;
        up.clear_script();
        up.script(on_any(), Action::status(status));
        for ask in [
            blob(&node, PRIVATE, &layer),
            blob_head(&node, PRIVATE, &layer),
            manifest(&node, PRIVATE, &image.digest),
            manifest(&node, PRIVATE, "v1"),
        ] {
            assert_eq!(ask.send().await.status, refusal, "{status}");
        }
        up.close();
        let after = blob(&node, PRIVATE, &layer).send().await;
        assert_eq!(after.status, 502, "{status}: {}", after.text());
    }
}

/// A changed credential has proved nothing, and one that upstream refuses gets nothing.
#[tokio::test]
async fn a_changed_credential_starts_anew() {
    let (up, image) = upstream_with(&[PRIVATE], LAYER_BYTES).await;
    let layer = layer(&image);
    let node = node(&up).await;
    pull(&node, PRIVATE, &image).await;
    assert_eq!(answered(&up, on_blob(&layer).head()), 0);
    up.clear_script();
    lock(&up, TWO);
    // Upstream wants another password now; the old proof counts until its time is over.
    blob(&node, PRIVATE, &layer).send().await.assert_whole(&layer);
    secrets::write_basic(&node.credentials_dir(), "hub", "jane", "three");
    until("the wrong password is refused", async || {
        blob(&node, PRIVATE, &layer).send().await.status == 404
    })
    .await;
    assert_eq!(blob_head(&node, PRIVATE, &layer).send().await.status, 404);
    assert_eq!(manifest(&node, PRIVATE, "v1").send().await.status, 404);
    let node = node.restart(limits(HOUR)).await;
    assert_eq!(blob(&node, PRIVATE, &layer).send().await.status, 404);
    secrets::write_basic(&node.credentials_dir(), "hub", "jane", "two");
    until("the right password is let in", async || {
        blob(&node, PRIVATE, &layer).send().await.status == 200
    })
    .await;
    assert_eq!(up.count(on_blob(&layer).head().header("Authorization", TWO)), 1);
    // The content was never fetched again.
    assert_eq!(
        up.count(on_blob(&layer).get().unranged().header("Authorization", TWO)),
        0
    );
}

/// A Secret that is gone is no right to what it opened.
#[tokio::test]
async fn a_removed_credential_opens_nothing() {
    let (up, image) = upstream_with(&[PRIVATE], LAYER_BYTES).await;
    let layer = layer(&image);
    let node = node(&up).await;
    pull(&node, PRIVATE, &image).await;
    std::fs::remove_dir_all(node.credentials_dir().join("hub")).unwrap();
    let node = node.restart(limits(HOUR)).await;
    for ask in [blob(&node, PRIVATE, &layer), manifest(&node, PRIVATE, "v1")] {
        assert_eq!(ask.send().await.status, 404);
    }
}
