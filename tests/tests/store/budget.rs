//! A budget of a third of the data, with everybody reading and writing at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use super::*;

const CAPACITY_BYTES: u64 = 48 * MIB;
const TASKS: usize = 50;
/// How many blobs each writer brings in.
const ROUNDS: usize = 6;
const DISK_BYTES: u64 = larder_tests::node::XFS_BYTES_MIN;
/// As many fills as may run at once.
const FILLS_MAX: u64 = 64;
/// What each may take beyond what is reserved for it: a journal that takes the place of another one.
const BLOCKS_PER_FILL: u64 = 1;
/// What is used for a shorter time is none: while ext4 allocates, it counts the same blocks as taken and as promised, and XFS
/// promises itself more than it then takes.
const SAMPLE: Duration = Duration::from_millis(10);
const LOOKS_MIN: usize = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ext4_keeps_to_its_budget_under_load() {
    keeps_to_its_budget_under_load(FileSystem::Ext4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn xfs_keeps_to_its_budget_under_load() {
    keeps_to_its_budget_under_load(FileSystem::Xfs).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tmpfs_keeps_to_its_budget_under_load() {
    keeps_to_its_budget_under_load(FileSystem::Tmpfs).await;
}

/// Fifty who bring new blobs in, and fifty who read what may just be going.
async fn keeps_to_its_budget_under_load(file_system: FileSystem) {
    let up = FakeRegistry::builder().start().await;
    let sizes = (0..TASKS * ROUNDS).map(|n| 60_000 + n * 2900);
    let digests: Vec<_> = sizes.map(|size| up.add_blob("acme/app", random(size))).collect();
    let digests = Arc::new(digests);
    let disk = Arc::new(Disk::new(file_system, DISK_BYTES));
    let config = mirror(&up).capacity(&CAPACITY_BYTES.to_string());
    let node = NodeProcess::builder().config(&config).on(&disk).start().await;

    let (empty_bytes, began) = (disk.available_bytes(), SystemTime::now());
    let is_over = Arc::new(AtomicBool::new(false));
    let sampler = {
        let (is_over, disk) = (Arc::clone(&is_over), Arc::clone(&disk));
        // Only the file system itself sees all files at one moment.
        let used = move || empty_bytes.saturating_sub(disk.available_bytes());
        tokio::task::spawn_blocking(move || peak(used, &is_over))
    };
    everybody_at_once(&node.url(), &digests).await;
    is_over.store(true, Ordering::Relaxed);
    let peak = sampler.await.unwrap();
    until_counted(&node, &disk.path()).await;
    the_disk_is_told(&node, &disk, began).await;
    // What the file system needs for folders and for its own books.
    let used = empty_bytes.saturating_sub(disk.available_bytes());
    let own = used.saturating_sub(disk_usage_bytes(&disk.path()));
    let peak_max = CAPACITY_BYTES + FILLS_MAX * BLOCKS_PER_FILL * BLOCK_BYTES + own;
    assert!(peak <= peak_max, "{peak} bytes were used, and {peak_max} may be");
    assert!(peak > CAPACITY_BYTES / 2, "nothing was kept: {peak}");
    assert!(
        metric(
            &node.admin_url(),
            "larder_store_evictions_total{reason=\"capacity\"}"
        )
        .await
            > 0
    );
    let kept = metric(&node.admin_url(), "larder_store_bytes").await;
    assert!(kept > CAPACITY_BYTES / 2, "the store was emptied: {kept}");
}

/// The metrics say what the store may take, what is free beside it, and when content last reached the disk.
async fn the_disk_is_told(node: &NodeProcess, disk: &Disk, began: SystemTime) {
    let told = async |name: &str| metric(&node.admin_url(), &format!("larder_store_{name}")).await;
    assert_eq!(told("capacity_bytes").await, CAPACITY_BYTES);
    until("nothing is reserved, and what is free is told", async || {
        told("reserved_bytes").await == 0 && told("free_bytes").await.abs_diff(disk.available_bytes()) < MIB
    })
    .await;
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
    let while_it_ran = seconds(began)..=seconds(SystemTime::now());
    assert!(while_it_ran.contains(&told("last_sync_timestamp_seconds").await));
}

/// The most that `used` has shown for as long as [`SAMPLE`] until it is over, in bytes.
fn peak(used: impl Fn() -> u64, is_over: &AtomicBool) -> u64 {
    let mut peak = 0;
    while !is_over.load(Ordering::Relaxed) {
        let since = Instant::now();
        let mut least = used();
        for looks in 1.. {
            if looks >= LOOKS_MIN && since.elapsed() >= SAMPLE {
                break;
            }
            least = least.min(used());
        }
        peak = peak.max(least);
    }
    peak
}

/// Each writer brings a blob in that is new in each round, and each reader reads one of those that there are.
async fn everybody_at_once(base: &str, digests: &Arc<Vec<String>>) {
    let task = |choose: fn(usize, usize) -> usize, number: usize| {
        let (digests, base) = (Arc::clone(digests), base.to_owned());
        tokio::spawn(async move {
            for round in 0..ROUNDS {
                let digest = &digests[choose(round, number)];
                let call = blob(&base, digest).discard_body();
                call.send().await.assert_whole(digest);
            }
        })
    };
    let writers = (0..TASKS).map(|writer| task(|round, writer| round * TASKS + writer, writer));
    let readers = (0..TASKS).map(|reader| task(|round, _| fastrand::usize(..(round + 1) * TASKS), reader));
    for task in writers.chain(readers).collect::<Vec<_>>() {
        task.await.unwrap();
    }
}

/// A node that may keep [`CAPACITY_BYTES`].
async fn small_node(up: &FakeRegistry) -> NodeProcess {
    let config = mirror(up).capacity(&CAPACITY_BYTES.to_string());
    NodeProcess::start(&config).await
}

#[tokio::test]
async fn what_is_too_large_goes_through_and_nothing_goes_for_it() {
    let up = FakeRegistry::builder().start().await;
    let image = publish(&up, "v1", &[20 << 20, MIB as usize]);
    let content = random(CAPACITY_BYTES as usize + 1);
    let digest = up.add_blob("acme/app", content.clone());
    let node = small_node(&up).await;
    pull(&node.url(), "v1", &image).await;
    until_kept(node.cache_dir(), &image).await;

    // Whoever does not read holds the others up for ten seconds. Left behind, it ends short and goes on with its Range.
    let slow = tokio::spawn(blob(&node.url(), &digest).slowly(200 << 10).send());
    let others = (0..3).map(|_| tokio::spawn(blob(&node.url(), &digest).discard_body().send()));
    for other in others.collect::<Vec<_>>() {
        other.await.unwrap().assert_whole(&digest);
    }
    let slow = slow.await.unwrap();
    assert_eq!((slow.status, slow.end), (200, End::FinShort));
    let rest = format!("{}-", slow.body.len());
    let rest = blob(&node.url(), &digest).range(&rest).send().await;
    assert_eq!((rest.status, rest.end), (206, End::Complete));
    assert!([slow.body, rest.body].concat() == content);

    let refused = "larder_store_refusals_total{reason=\"too_large\"}";
    until("it is counted", async || {
        metric(&node.admin_url(), refused).await > 0
    })
    .await;
    assert!(!blob_file(node.cache_dir(), &digest).try_exists().unwrap());
    assert_eq!(metric(&node.admin_url(), "larder_store_evictions_total").await, 0);
    assert_eq!(ready(&node).await, "ok\n", "that is no trouble");
    up.close();
    for (digest, _) in image.contents() {
        blob(&node.url(), &digest).send().await.assert_whole(&digest);
    }
}

#[tokio::test]
async fn what_is_being_read_stays() {
    let up = FakeRegistry::builder().start().await;
    let digest = up.add_blob("acme/app", random(16 << 20));
    let node = small_node(&up).await;
    blob(&node.url(), &digest)
        .discard_body()
        .send()
        .await
        .assert_whole(&digest);
    let file = blob_file(node.cache_dir(), &digest);
    until("the blob has its name", async || file.try_exists().unwrap()).await;
    let reading = blob(&node.url(), &digest).slowly(2 * MIB).discard_body();
    let reading = tokio::spawn(reading.send());
    // Twice the budget passes by.
    for _ in 0..24 {
        let passing = up.add_blob("acme/app", random(4 << 20));
        blob(&node.url(), &passing)
            .discard_body()
            .send()
            .await
            .assert_whole(&passing);
        assert!(
            reading.is_finished() || file.try_exists().unwrap(),
            "it was evicted"
        );
    }
    reading.await.unwrap().assert_whole(&digest);
    assert_eq!(up.count(on_blob(&digest)), 1);
}
