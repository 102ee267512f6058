//! What may be shared is, and costs no more than one question.

use super::*;

/// How many clients ask at once.
const CLIENTS: usize = 50;

/// The same layer in two private repositories: one transfer, and one HEAD for the second name, however often it is asked.
#[tokio::test]
async fn private_content_costs_a_second_name_one_head() {
    let (up, image) = upstream_with(&[PRIVATE, SISTER], LAYER_BYTES).await;
    let layer = layer(&image);
    let node = node(&up).await;
    pull(&node, PRIVATE, &image).await;
    for _ in 0..3 {
        blob(&node, SISTER, &layer).send().await.assert_whole(&layer);
        assert_eq!(blob_head(&node, SISTER, &layer).send().await.status, 200);
    }
    assert_eq!(answered(&up, on_blob(&layer).repo(SISTER).head()), 1);
    assert_eq!(answered(&up, on_blob(&layer).repo(SISTER).get()), 0);
    assert_eq!(answered(&up, on_blob(&layer).get()), 1);
}

/// The same for a registry that refuses HEAD: one byte.
#[tokio::test]
async fn where_head_is_refused_one_byte_proves_it() {
    let (up, image) = upstream_with(&[PRIVATE, SISTER], LAYER_BYTES).await;
    let layer = layer(&image);
    up.script(on_any_blob().head(), Action::status(405));
    up.script(on_any_manifest().head(), Action::status(405));
    let node = node(&up).await;
    pull(&node, PRIVATE, &image).await;
    for _ in 0..3 {
        blob(&node, SISTER, &layer).send().await.assert_whole(&layer);
    }
    let asked = up.requests_on(on_blob(&layer).repo(SISTER).get().header("Authorization", ONE));
    let ranges: Vec<_> = asked
        .iter()
        .map(|exchange| exchange.request.header("Range").map(str::to_owned))
        .collect();
    assert_eq!(ranges, [Some("bytes=0-0".to_owned())]);
    for _ in 0..3 {
        let answer = manifest(&node, SISTER, &image.digest).send().await;
        assert_eq!((answer.status, answer.digest), (200, image.digest.clone()));
    }
    assert_eq!(answered(&up, on_manifest(&image.digest).repo(SISTER).get()), 1);
}

/// What everybody can have costs a second name nothing once its own manifest names it, also after a restart and with
/// nobody to ask.
#[tokio::test]
async fn public_content_costs_a_second_name_nothing() {
    let (up, image) = upstream_with(&[PUBLIC, "public/copy"], LAYER_BYTES).await;
    let node = node(&up).await;
    pull(&node, PUBLIC, &image).await;
    pull(&node, "public/copy", &image).await;
    assert_eq!(answered(&up, on_any_blob().repo("public/copy")), 0);
    assert_eq!(answered(&up, on_any().repo("public/copy")), 1);
    let node = node.restart(limits(HOUR)).await;
    up.close();
    for name in [PUBLIC, "public/copy"] {
        pull(&node, name, &image).await;
    }
}

/// An index names manifests, which name layers.
#[tokio::test]
async fn an_index_counts_like_a_manifest() {
    let up = upstream().await;
    let index = Index::of(vec![
        image(1000),
        ImageBuilder::new().random_layer(9, 1000).build(),
    ]);
    index.push_to(&up, PUBLIC, "v1");
    index.push_to(&up, "public/copy", "v1");
    let node = node(&up).await;
    for name in [PUBLIC, "public/copy"] {
        assert_eq!(manifest(&node, name, "v1").send().await.status, 200);
        for image in [image(1000), ImageBuilder::new().random_layer(9, 1000).build()] {
            assert_eq!(manifest(&node, name, &image.digest).send().await.status, 200);
            for (digest, _) in image.blobs() {
                blob(&node, name, &digest).send().await.assert_whole(&digest);
            }
            until("all is kept", async || fills(&node).await == 0).await;
        }
    }
    assert_eq!(answered(&up, on_any().repo("public/copy")), 1);
}

async fn fills(node: &InProcessNode) -> usize {
    let status = Call::get(&format!("{}/statusz", node.admin_url())).send().await;
    status.json()["fills"].as_array().map_or(0, Vec::len)
}

/// Many clients of one name on cold private content: one transfer, whose own answer is the proof.
#[tokio::test]
async fn a_herd_of_one_name_needs_no_proof() {
    for layer_bytes in [LAYER_BYTES, 1000] {
        let (up, image) = upstream_with(&[PRIVATE], layer_bytes).await;
        let layer = layer(&image);
        let node = node(&up).await;
        up.script(
            on_any_blob().header("Authorization", ONE),
            Action::delay_head(Duration::from_millis(100)),
        );
        for answer in at_once(CLIENTS, &blob(&node, PRIVATE, &layer)).await {
            answer.assert_whole(&layer);
        }
        assert_eq!(answered(&up, on_blob(&layer).get()), 1);
        assert_eq!(answered(&up, on_blob(&layer).head()), 0);
    }
}

/// Many clients of another name on warm private content: one HEAD.
#[tokio::test]
async fn a_herd_of_another_name_proves_once() {
    let (up, image) = upstream_with(&[PRIVATE, SISTER], LAYER_BYTES).await;
    let layer = layer(&image);
    let node = node(&up).await;
    pull(&node, PRIVATE, &image).await;
    up.script(
        on_any_blob().header("Authorization", ONE),
        Action::delay_head(Duration::from_millis(100)),
    );
    for answer in at_once(CLIENTS, &blob(&node, SISTER, &layer)).await {
        answer.assert_whole(&layer);
    }
    assert_eq!(answered(&up, on_blob(&layer).repo(SISTER)), 1);
}

/// Another name joins a running transfer once it is proved, and no second one is started.
#[tokio::test]
async fn a_running_transfer_is_joined_after_a_proof() {
    let (up, image) = upstream_with(&[PRIVATE, SISTER], LAYER_BYTES).await;
    let layer = layer(&image);
    up.script(
        on_blob(&layer).get().header("Authorization", ONE),
        Action::pause_after(1 << 20, Duration::from_secs(1)),
    );
    let node = node(&up).await;
    let owner = tokio::spawn(blob(&node, PRIVATE, &layer).send());
    up.wait_for_count(on_blob(&layer).get().header("Authorization", ONE), 1, SOON)
        .await;
    blob(&node, SISTER, &layer).send().await.assert_whole(&layer);
    owner.await.unwrap().assert_whole(&layer);
    assert_eq!(answered(&up, on_blob(&layer).get()), 1);
    assert_eq!(answered(&up, on_blob(&layer).repo(SISTER).head()), 1);
}
