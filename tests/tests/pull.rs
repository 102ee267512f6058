//! The way of a pull: one transfer, verified, streaming, whoever reads.

use larder_tests::prelude::*;

async fn node(up: &FakeRegistry) -> NodeProcess {
    NodeProcess::start(&MirrorConfig::new().registry("up.test", up.url())).await
}

#[tokio::test]
async fn a_blob_is_fetched_once_and_served_from_the_store() {
    let up = FakeRegistry::builder().start().await;
    let content = random(3 << 20);
    let blob = up.add_blob("acme/app", content.clone());
    let node = node(&up).await;
    let url = format!("{}/v2/acme/app/blobs/{blob}?ns=up.test", node.url());
    for _ in 0..2 {
        let answer = Call::get(&url).send().await;
        assert_eq!((answer.status, answer.end), (200, End::Complete));
        assert_eq!(answer.body, content);
    }
    assert_eq!(up.count(on_blob(&blob)), 1);
    assert_eq!(up.body_bytes_sent(&blob), 3 << 20);
}

#[tokio::test]
async fn an_image_is_pulled_by_tag() {
    let up = FakeRegistry::builder().start().await;
    let image = ImageBuilder::new()
        .random_layer(1, 3 << 20)
        .random_layer(2, 100)
        .build();
    image.push_to(&up, "acme/app", "v1");
    let node = node(&up).await;
    let url = format!("{}/v2/acme/app/manifests/v1?ns=up.test", node.url());
    let head = Call::head(&url).send().await;
    let get = Call::get(&url).send().await;
    assert_eq!((head.status, get.status), (200, 200));
    assert_eq!(
        head.header("docker-content-digest"),
        get.header("docker-content-digest")
    );
    assert_eq!(
        head.header("content-length"),
        Some(get.body.len().to_string().as_str())
    );
    assert_eq!(up.count(on_any_manifest()), 1);
}
