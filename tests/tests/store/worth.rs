//! What goes first: pins and what fresh tags need outlive what nobody has any reason to keep.

use std::time::Duration;

use cache_node::app::Limits;

use super::*;

/// As many blobs of a MiB as the store can never hold together.
const OTHERS: usize = 24;

/// Waits until the node has listed so many objects, and so has looked at what it shall keep.
async fn until_listed(node: &InProcessNode, objects: u64) {
    until("all is listed", async || {
        metric(&node.admin_url(), "larder_store_objects").await >= objects
    })
    .await;
}

#[tokio::test]
async fn pins_and_what_fresh_tags_need_outlive_others() {
    let up = FakeRegistry::builder().start().await;
    let image = publish(&up, "v1", &[MIB as usize]);
    let pinned = up.add_blob("acme/pinned", random(MIB as usize));
    let registry = Registry::new("up.test").endpoint(Endpoint::new(up.url()).trust_loopback());
    let registry = registry.ttl("1h").set("/pins", vec!["acme/pinned"]);
    let config = MirrorConfig::new().with(registry).capacity("8Mi");
    let limits = Limits {
        poll: Duration::from_millis(20),
        ..Limits::default()
    };
    let node = InProcessNode::start(&config, limits).await;
    let get_pinned = Call::get(&format!(
        "{}/v2/acme/pinned/blobs/{pinned}?ns=up.test",
        node.url()
    ));
    get_pinned.clone().send().await.assert_whole(&pinned);
    pull(&node.url(), "v1", &image).await;
    until_listed(&node, 4).await;
    // One more, so that the look that finds it listed has come after all of the others were.
    let last = up.add_blob("acme/app", random(1000));
    blob(&node.url(), &last).send().await.assert_whole(&last);
    until_listed(&node, 5).await;

    for _ in 0..OTHERS {
        let other = up.add_blob("acme/app", random(MIB as usize));
        blob(&node.url(), &other).send().await.assert_whole(&other);
    }
    until("others have gone", async || {
        let name = "larder_store_evictions_total{reason=\"capacity\"}";
        metric(&node.admin_url(), name).await > 0
    })
    .await;
    up.close();
    get_pinned.send().await.assert_whole(&pinned);
    pull(&node.url(), "v1", &image).await;
}
