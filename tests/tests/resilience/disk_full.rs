//! A disk that takes nothing more: pulls go on through memory, verified as ever, and it is used again when it is back.
//!
//! Each node has a small disk of its own, filled to the last byte.

use std::fs::{self, File};
use std::io::Write as _;

use super::*;

const DISK_BYTES: u64 = 32 << 20;

/// A node whose disk is full to the last byte, and has nothing on it but `ballast`.
async fn on_full_disk(up: &FakeRegistry) -> NodeProcess {
    let registry = registry(up).ttl("0s");
    let builder = NodeProcess::builder().config(&MirrorConfig::new().with(registry));
    let node = builder.disk(DISK_BYTES).start().await;
    fill_up(&node);
    node
}

fn fill_up(node: &NodeProcess) {
    let mut ballast = File::create(node.disk().join("ballast")).unwrap();
    for piece in [vec![1; 64 << 10], vec![1]] {
        while let Ok(1..) = ballast.write(&piece) {}
    }
}

async fn is_on_the_board(node: &NodeProcess) -> bool {
    let report = Call::get(&format!("{}/conditions", node.metrics_url()))
        .send()
        .await;
    let report = report.json();
    let conditions = report["conditions"].as_array().unwrap();
    conditions
        .iter()
        .any(|condition| condition["reason"] == "DiskFull")
}

/// A registry with an image of one layer of 24 MiB.
async fn registry_with_large_image() -> (FakeRegistry, Image) {
    let up = FakeRegistry::builder().start().await;
    let image = ImageBuilder::new().random_layer(7, 24 << 20).build();
    image.push_to(&up, "acme/app", "v1");
    (up, image)
}

async fn pull(node: &NodeProcess, image: &Image) {
    let by_tag = manifest(&node.url(), "v1").send().await;
    assert_eq!((by_tag.status, by_tag.body), (200, image.manifest.clone()));
    for (digest, _) in image.blobs() {
        blob(&node.url(), &digest).send().await.assert_whole(&digest);
    }
}

/// E11: the node stays ready, says it once, and keeps content again when there is room.
#[tokio::test]
async fn e11_a_full_disk_costs_no_pull_and_is_used_again() {
    let (up, image) = registry_with_large_image().await;
    let node = on_full_disk(&up).await;
    for _ in 0..3 {
        pull(&node, &image).await;
    }
    let layer = &image.blobs()[1].0;
    assert!(up.count(on_blob(layer)) >= 3, "nothing was kept");
    until("the condition is on the board", async || {
        is_on_the_board(&node).await
    })
    .await;
    assert_eq!(metric(&node.admin_url(), "larder_store_full").await, 1);
    let ready = Call::get(&format!("{}/readyz", node.admin_url())).send().await;
    assert_eq!(ready.status, 200);
    assert_eq!(
        node.output().matches("the disk takes no content").count(),
        1,
        "{}",
        node.output()
    );

    fs::remove_file(node.disk().join("ballast")).unwrap();
    until("the condition is gone", async || !is_on_the_board(&node).await).await;
    assert_eq!(metric(&node.admin_url(), "larder_store_full").await, 0);
    pull(&node, &image).await;
    until("the layer has its name", async || {
        blob_file(&node.disk(), layer).try_exists().unwrap()
    })
    .await;
    let asked = up.count(on_blob(layer));
    pull(&node, &image).await;
    assert_eq!(up.count(on_blob(layer)), asked);
}

/// The end is withheld until the digest is proved, in memory as on disk.
#[tokio::test]
async fn e11_a_wrong_digest_is_caught_on_a_full_disk() {
    let up = FakeRegistry::builder().start().await;
    let (content, other) = (random(9 << 20), sha256(&random(1 << 20)));
    up.add_blob_under("acme/app", &other, content.clone());
    let node = on_full_disk(&up).await;
    let answer = blob(&node.url(), &other).send().await;
    assert_eq!((answer.status, answer.end), (200, End::FinShort));
    assert!(answer.body.len() as u64 <= content.len() as u64 - (64 << 10));
    assert_eq!(files_in(&node.disk(), "partials/sha256"), 0);
}

/// E12: a part from anywhere, the rest of a download, and a small blob that is proved before its head.
#[tokio::test]
async fn e11_ranges_work_on_a_full_disk() {
    let up = FakeRegistry::builder().start().await;
    let content = random(12 << 20);
    let digest = up.add_blob("acme/app", content.clone());
    let small = up.add_blob("acme/app", random(300 << 10));
    let node = on_full_disk(&up).await;
    let length = content.len();
    for (range, expected) in [
        ("0-9".to_owned(), 0..10),
        ("9000000-9000099".to_owned(), 9_000_000..9_000_100),
        ("7000000-".to_owned(), 7_000_000..length),
        (format!("{}-", length - 5), length - 5..length),
        ("-70000".to_owned(), length - 70_000..length),
    ] {
        let part = blob(&node.url(), &digest).range(&range).send().await;
        assert_eq!((part.status, part.end), (206, End::Complete), "{range}");
        assert!(part.body == content[expected], "{range}");
    }
    let cut = blob(&node.url(), &digest).leave_after(5_000_000).send().await;
    assert!(content.starts_with(&cut.body[..]));
    blob(&node.url(), &small).send().await.assert_whole(&small);
}

/// All who come before the first byte has gone share one transfer.
#[tokio::test]
async fn e11_readers_share_one_transfer_on_a_full_disk() {
    let up = FakeRegistry::builder().start().await;
    let digest = up.add_blob("acme/app", random(24 << 20));
    up.script(on_any_blob(), Action::delay_head(Duration::from_secs(4)));
    let node = on_full_disk(&up).await;
    for answer in at_once(20, blob(&node.url(), &digest).discard_body()).await {
        answer.assert_whole(&digest);
    }
    assert_eq!(up.count(on_blob(&digest)), 1);
}

/// Whoever does not read holds the others up for ten seconds. Left behind, it ends short and goes on with its Range.
#[tokio::test]
async fn e11_a_reader_that_stands_still_is_left_behind() {
    let up = FakeRegistry::builder().start().await;
    let content = random(24 << 20);
    let digest = up.add_blob("acme/app", content.clone());
    up.script(on_any_blob().once(), Action::delay_head(Duration::from_secs(2)));
    let node = on_full_disk(&up).await;
    let slow = tokio::spawn(blob(&node.url(), &digest).slowly(200 << 10).send());
    let fast = tokio::spawn(blob(&node.url(), &digest).send());
    fast.await.unwrap().assert_whole(&digest);
    let slow = slow.await.unwrap();
    assert_eq!((slow.status, slow.end), (200, End::FinShort));
    assert!(content.starts_with(&slow.body[..]) && !slow.body.is_empty());
    let rest = blob(&node.url(), &digest)
        .range(&format!("{}-", slow.body.len()))
        .send()
        .await;
    assert_eq!((rest.status, rest.end), (206, End::Complete));
    assert!([slow.body, rest.body].concat() == content);
}

/// E11: the disk fills up in the middle, unforeseen, because upstream does not say how much will come.
#[tokio::test]
async fn e11_a_fill_that_meets_a_full_disk_goes_on() {
    let up = FakeRegistry::builder().start().await;
    let digest = up.add_blob("acme/app", random(40 << 20));
    up.script(on_any_blob(), Action::chunked());
    let registry = registry(&up);
    let builder = NodeProcess::builder().config(&MirrorConfig::new().with(registry));
    let node = builder.disk(DISK_BYTES).start().await;
    for answer in at_once(3, blob(&node.url(), &digest).discard_body()).await {
        answer.assert_whole(&digest);
    }
    assert_eq!(
        files_in(&node.disk(), "partials/sha256"),
        0,
        "the room comes back"
    );
    until("the disk is used again", async || {
        let small = up.add_blob("acme/app", random(1 << 20));
        blob(&node.url(), &small).send().await.assert_whole(&small);
        blob_file(&node.disk(), &small).try_exists().unwrap()
    })
    .await;
}
