//! Bytes change on the disk, and nothing else about the file does. The scrub finds it; nobody gets the end of such content.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use cache_node::app::{Limits, ScrubLimits};

use super::*;

const BLOB_BYTES: usize = 48 << 20;
/// Slow enough to be reading still when the change is found.
const READER_BYTES_PER_S: u64 = 4 << 20;

/// A node that scrubs without pause.
async fn scrubbing_node(up: &FakeRegistry) -> InProcessNode {
    let limits = Limits {
        scrub: ScrubLimits {
            bytes_per_s: 1 << 30,
            round: Duration::from_millis(100),
        },
        ..Limits::default()
    };
    InProcessNode::start(&mirror(up), limits).await
}

/// Waits until so many objects are listed: from then on they are served from their files, and not from the fills that made them.
async fn until_listed(admin_url: &str, objects: u64) {
    until("all is listed", async || {
        metric(admin_url, "larder_store_objects").await == objects
    })
    .await;
}

/// Changes one byte of a file. Its length, modification time and inode stay.
fn flip(path: &Path, offset: u64) {
    let file = File::options().read(true).write(true).open(path).unwrap();
    let sealed = file.metadata().unwrap().modified().unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    file.set_modified(sealed).unwrap();
}

#[tokio::test]
async fn what_rots_is_found_set_aside_and_fetched_again() {
    let up = FakeRegistry::builder().start().await;
    let content = random(BLOB_BYTES);
    let digest = up.add_blob("acme/app", content.clone());
    let bystander = publish(&up, "v1", &[MIB as usize]);
    let node = scrubbing_node(&up).await;
    blob(&node.url(), &digest)
        .discard_body()
        .send()
        .await
        .assert_whole(&digest);
    pull(&node.url(), "v1", &bystander).await;
    until_kept(&node.cache_dir(), &bystander).await;
    let file = blob_file(&node.cache_dir(), &digest);
    until_listed(&node.admin_url(), 4).await;

    let reading = tokio::spawn(blob(&node.url(), &digest).slowly(READER_BYTES_PER_S).send());
    flip(&file, BLOB_BYTES as u64 - 1000);
    let condemned = "larder_store_condemned_total{finding=\"mismatch\"}";
    until("the scrub finds it", async || {
        metric(&node.admin_url(), condemned).await == 1
    })
    .await;
    let reader = reading.await.unwrap();
    assert_eq!((reader.status, reader.end), (200, End::FinShort), "never clean");
    assert!(
        content.starts_with(&reader.body[..]),
        "what came before was right"
    );

    let hex = digest.strip_prefix("sha256:").unwrap();
    assert!(
        node.cache_dir()
            .join("quarantine")
            .join(hex)
            .try_exists()
            .unwrap()
    );
    assert!(!file.try_exists().unwrap());
    let asked = up.count(on_blob(&digest));
    blob(&node.url(), &digest).send().await.assert_whole(&digest);
    assert_eq!(up.count(on_blob(&digest)), asked + 1, "fetched again");
    until("it is kept again", async || file.try_exists().unwrap()).await;
    pull(&node.url(), "v1", &bystander).await;
    let scrubbed = metric(&node.admin_url(), "larder_store_scrubbed_bytes_total").await;
    until("the scrub goes on", async || {
        metric(&node.admin_url(), "larder_store_scrubbed_bytes_total").await > scrubbed + BLOB_BYTES as u64
    })
    .await;
    assert_eq!(metric(&node.admin_url(), "larder_store_condemned_total").await, 1);
}

/// Length and time are compared at each open, so that a careless change is found by the first who asks.
#[tokio::test]
async fn a_file_that_was_written_to_is_not_served() {
    let up = FakeRegistry::builder().start().await;
    let content = random(MIB as usize);
    let digest = up.add_blob("acme/app", content.clone());
    let node = NodeProcess::start(&mirror(&up)).await;
    blob(&node.url(), &digest).send().await.assert_whole(&digest);
    let file = blob_file(node.cache_dir(), &digest);
    until_listed(&node.admin_url(), 1).await;
    let opened = File::options().write(true).open(&file).unwrap();
    opened.write_all_at(b"changed", 5000).unwrap();
    blob(&node.url(), &digest).send().await.assert_whole(&digest);
    assert_eq!(up.count(on_blob(&digest)), 2);
    until("it is counted", async || {
        metric(
            &node.admin_url(),
            "larder_store_condemned_total{finding=\"changed\"}",
        )
        .await
            == 1
    })
    .await;
}

/// The blocks of a file are lost. Whoever reads ends short, and the next one gets it from the registry.
#[tokio::test]
async fn what_cannot_be_read_is_fetched_again() {
    let up = FakeRegistry::builder().start().await;
    let content = random(BLOB_BYTES);
    let digest = up.add_blob("acme/app", content.clone());
    let disk = Disk::new(FileSystem::Ext4, 4 * BLOB_BYTES as u64);
    let node = NodeProcess::builder()
        .config(&mirror(&up))
        .on(&disk)
        .start()
        .await;
    blob(&node.url(), &digest)
        .discard_body()
        .send()
        .await
        .assert_whole(&digest);
    let file = blob_file(&disk.path(), &digest);
    until_listed(&node.admin_url(), 1).await;
    let image = File::options().write(true).open(disk.image()).unwrap();
    image.set_len(BLOB_BYTES as u64 / 2).unwrap();
    // What the kernel remembers of it would be right still.
    forget(&file);

    let first = blob(&node.url(), &digest).send().await;
    assert_ne!(first.end, End::Complete);
    assert!(content.starts_with(&first.body[..]));
    blob(&node.url(), &digest).send().await.assert_whole(&digest);
    assert_eq!(up.count(on_blob(&digest)), 2);
    until("it is counted", async || {
        metric(
            &node.admin_url(),
            "larder_store_condemned_total{finding=\"unreadable\"}",
        )
        .await
            == 1
    })
    .await;
}

/// Takes a file out of the page cache.
fn forget(path: &Path) {
    let file = File::open(path).unwrap();
    rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
}
