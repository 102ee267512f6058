//! One process per cache directory, one layout per version.

use super::*;

/// A node that keeps an image, and a second one for the same directory that does not run yet.
async fn two_nodes() -> (FakeRegistry, Image, NodeProcess, NodeProcess) {
    let up = FakeRegistry::builder().start().await;
    let image = publish(&up, "v1", &[2 << 20]);
    let node = NodeProcess::start(&mirror(&up)).await;
    pull(&node.url(), "v1", &image).await;
    until_kept(node.cache_dir(), &image).await;
    let second = NodeProcess::builder()
        .config(&mirror(&up))
        .cache_dir(node.cache_dir());
    let second = second.prepare();
    (up, image, node, second)
}

async fn is_served(node: &NodeProcess, image: &Image) {
    for (digest, _) in image.contents() {
        blob(&node.url(), &digest).send().await.assert_whole(&digest);
    }
}

#[tokio::test]
async fn a_second_process_is_refused() {
    let (up, image, node, mut second) = two_nodes().await;
    second.spawn();
    assert_eq!(second.wait().await.code(), Some(1));
    let output = second.output();
    let path = node.cache_dir().display().to_string();
    let said = output.contains(&format!("another process uses {path}: end it first"));
    assert!(said, "{output}");
    up.close();
    is_served(&node, &image).await;
}

#[tokio::test]
async fn a_successor_takes_over_without_a_gap() {
    let (up, image, mut node, mut second) = two_nodes().await;
    second.spawn();
    node.terminate().await;
    second.ready().await;
    up.close();
    is_served(&second, &image).await;
}

#[tokio::test]
async fn a_newer_layout_is_refused_and_an_older_one_taken_over() {
    let (up, image, mut node, _) = two_nodes().await;
    node.terminate().await;
    let marker = node.cache_dir().join("layout.json");
    let ours = std::fs::read_to_string(&marker).unwrap();
    let newer = ours.replace("\"layout\":2", "\"layout\":3");
    assert_ne!(newer, ours);
    std::fs::write(&marker, &newer).unwrap();
    node.spawn();
    assert_eq!(node.wait().await.code(), Some(1));
    let output = node.output();
    assert!(
        output.contains("has layout 3, which a newer version wrote"),
        "{output}"
    );
    assert_eq!(std::fs::read_to_string(&marker).unwrap(), newer, "left alone");

    std::fs::remove_file(&marker).unwrap();
    node.launch().await;
    up.close();
    is_served(&node, &image).await;
    assert!(marker.try_exists().unwrap());
}
