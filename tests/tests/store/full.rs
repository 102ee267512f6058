//! Others fill the disk, to the last byte and to the last file, while the cache runs.

use larder_tests::node::XFS_BYTES_MIN;

use super::*;

const DISK_BYTES: u64 = XFS_BYTES_MIN;
/// Files of a file system that has few.
const INODES: u64 = 1200;
/// Layers of the images, in bytes.
const LAYERS: [usize; 2] = [12 << 20, 300 << 10];

/// How often the program says that content is not kept, and why not.
fn times_said(node: &NodeProcess) -> usize {
    let output = node.output();
    let said = |words| output.matches(words).count();
    said("the disk takes no content") + said("others fill the disk")
}

#[tokio::test]
async fn ext4_filled_to_the_last_byte() {
    filled_to_the_last_byte(FileSystem::Ext4).await;
}

#[tokio::test]
async fn xfs_filled_to_the_last_byte() {
    filled_to_the_last_byte(FileSystem::Xfs).await;
}

#[tokio::test]
async fn tmpfs_filled_to_the_last_byte() {
    filled_to_the_last_byte(FileSystem::Tmpfs).await;
}

/// What the cache gives back is taken too, until it has nothing left and pulls go on without it.
async fn filled_to_the_last_byte(file_system: FileSystem) {
    let up = FakeRegistry::builder().start().await;
    let images = ["v1", "v2", "v3"].map(|tag| (tag, publish(&up, tag, &LAYERS)));
    let disk = Disk::new(file_system, DISK_BYTES);
    let config = mirror(&up).min_free("10%");
    let node = NodeProcess::builder().config(&config).on(&disk).start().await;
    for (tag, image) in &images {
        pull(&node.url(), tag, image).await;
        until_kept(&disk.path(), image).await;
    }
    until_counted(&node, &disk.path()).await;
    assert_eq!(ready(&node).await, "ok\n");

    // Idle: a part is given back, and what is worth most stays.
    let min_free = DISK_BYTES / 10;
    disk.take(usize::try_from(disk.available_bytes() - min_free + 8 * MIB).unwrap());
    until("as much is free as must be", async || {
        disk.available_bytes() >= min_free * 9 / 10
    })
    .await;
    until_counted(&node, &disk.path()).await;
    assert!(metric(&node.admin_url(), "larder_store_bytes").await > 0);
    assert!(
        metric(
            &node.admin_url(),
            "larder_store_evictions_total{reason=\"free_space\"}"
        )
        .await
            > 0
    );

    until("the cache has nothing left to give", async || {
        disk.fill();
        metric(&node.admin_url(), "larder_store_bytes").await == 0
    })
    .await;
    until_degraded(&node, true).await;
    // The first to write may be the one that meets the full disk.
    pull(&node.url(), "v1", &images[0].1).await;
    let said = times_said(&node);
    assert!((1..=4).contains(&said), "{said}");
    for (tag, image) in images.iter().cycle().take(6) {
        pull(&node.url(), tag, image).await;
    }
    // Whoever keeps the ledger may meet it later than pulls do.
    assert!(times_said(&node) <= said + 1, "one line, not one per request");
    assert_eq!(metric(&node.admin_url(), "larder_store_bytes").await, 0);

    disk.free();
    until_degraded(&node, false).await;
    let (tag, image) = &images[0];
    pull(&node.url(), tag, image).await;
    until_kept(&disk.path(), image).await;
    up.close();
    image_is_stored(&node, image).await;
    until_counted(&node, &disk.path()).await;
}

async fn image_is_stored(node: &NodeProcess, image: &Image) {
    for (digest, _) in image.contents() {
        blob(&node.url(), &digest).send().await.assert_whole(&digest);
    }
}

#[tokio::test]
async fn ext4_filled_to_the_last_file() {
    filled_to_the_last_file(FileSystem::Ext4).await;
}

#[tokio::test]
async fn xfs_filled_to_the_last_file() {
    filled_to_the_last_file(FileSystem::Xfs).await;
}

#[tokio::test]
async fn tmpfs_filled_to_the_last_file() {
    filled_to_the_last_file(FileSystem::Tmpfs).await;
}

/// Bytes are plenty, but no file can be made.
async fn filled_to_the_last_file(file_system: FileSystem) {
    let up = FakeRegistry::builder().start().await;
    let images = ["v1", "v2"].map(|tag| (tag, publish(&up, tag, &[300 << 10; 8])));
    let disk = Disk::of_few_files(file_system, DISK_BYTES, INODES);
    let config = mirror(&up).min_free("10%");
    let node = NodeProcess::builder().config(&config).on(&disk).start().await;
    for (tag, image) in &images {
        pull(&node.url(), tag, image).await;
        until_kept(&disk.path(), image).await;
    }

    until("the cache has nothing left to give", async || {
        disk.fill_inodes();
        metric(&node.admin_url(), "larder_store_objects").await == 0
    })
    .await;
    until_degraded(&node, true).await;
    pull(&node.url(), "v1", &images[0].1).await;
    let said = times_said(&node);
    for (tag, image) in images.iter().cycle().take(4) {
        pull(&node.url(), tag, image).await;
    }
    // Whoever keeps the ledger may meet it later than pulls do.
    assert!(times_said(&node) <= said + 1, "one line, not one per request");
    assert!((1..=4).contains(&said), "{said}");
    assert!(
        metric(
            &node.admin_url(),
            "larder_store_evictions_total{reason=\"inodes\"}"
        )
        .await
            > 0
    );

    disk.free();
    until_degraded(&node, false).await;
    let (tag, image) = &images[0];
    pull(&node.url(), tag, image).await;
    until_kept(&disk.path(), image).await;
    until_counted(&node, &disk.path()).await;
}

/// A start on a disk that does not take an empty file.
#[tokio::test]
async fn a_start_on_a_full_disk_serves_without_it() {
    for file_system in [FileSystem::Ext4, FileSystem::Xfs, FileSystem::Tmpfs] {
        let up = FakeRegistry::builder().start().await;
        let image = publish(&up, "v1", &LAYERS);
        let disk = Disk::of_few_files(file_system, DISK_BYTES, INODES);
        disk.fill();
        disk.fill_inodes();
        let node = NodeProcess::builder()
            .config(&mirror(&up))
            .on(&disk)
            .start()
            .await;
        until_degraded(&node, true).await;
        pull(&node.url(), "v1", &image).await;
        disk.free();
        until_degraded(&node, false).await;
        pull(&node.url(), "v1", &image).await;
        until_kept(&disk.path(), &image).await;
    }
}
