//! What the store is on real file systems: a guest that others crowd out, and the keeper of content that disks lose, change and
//! refuse. Every test compares what clients got with what the registry has, and what lies on the disk with what the store says.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot work must fail the test at once"
)]

#[path = "store/budget.rs"]
mod budget;
#[path = "store/descriptors.rs"]
mod descriptors;
#[path = "store/full.rs"]
mod full;
#[path = "store/gone.rs"]
mod gone;
#[path = "store/kills.rs"]
mod kills;
#[path = "store/lock.rs"]
mod lock;
#[path = "store/rot.rs"]
mod rot;
#[path = "store/worth.rs"]
mod worth;

use std::path::{Path, PathBuf};

use larder_tests::node::disk_usage_bytes;
use larder_tests::prelude::*;

const MIB: u64 = 1 << 20;
/// What one file's length is rounded up to on the disks of these tests.
const BLOCK_BYTES: u64 = 4 << 10;

/// The registry `up.test` at `up`, whose tags are asked for each time.
fn mirror(up: &FakeRegistry) -> MirrorConfig {
    let endpoint = Endpoint::new(up.url()).trust_loopback();
    MirrorConfig::new().with(Registry::new("up.test").endpoint(endpoint).ttl("0s"))
}

/// The blob `digest` of `acme/app`, asked of the node at `base`.
fn blob(base: &str, digest: &str) -> Call {
    Call::get(&format!("{base}/v2/acme/app/blobs/{digest}?ns=up.test"))
}

/// An image with layers of these sizes, in the registry under `tag`.
fn publish(up: &FakeRegistry, tag: &str, layers: &[usize]) -> Image {
    let image = layers.iter().fold(ImageBuilder::new(), |image, bytes| {
        image.random_layer(fastrand::u64(..), *bytes)
    });
    let image = image.build();
    image.push_to(up, "acme/app", tag);
    image
}

/// Pulls an image as runtimes do, and sees that it is the right one.
async fn pull(base: &str, tag: &str, image: &Image) {
    let manifest = format!("{base}/v2/acme/app/manifests/{tag}?ns=up.test");
    let manifest = Call::get(&manifest).send().await;
    assert_eq!((manifest.status, &manifest.body), (200, &image.manifest));
    for (digest, _) in image.contents() {
        blob(base, &digest)
            .discard_body()
            .send()
            .await
            .assert_whole(&digest);
    }
}

/// The sum of the metrics whose lines start with `name`, labels or none.
async fn metric(admin_url: &str, name: &str) -> u64 {
    let text = Call::get(&format!("{admin_url}/metrics")).send().await.text();
    let lines = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        rest.starts_with(['{', ' ']).then(|| rest.rsplit(' ').next())?
    });
    lines.map(|value| value.parse::<u64>().unwrap()).sum()
}

/// What `/readyz` says, which must be ready.
async fn ready(node: &NodeProcess) -> String {
    let answer = Call::get(&format!("{}/readyz", node.admin_url())).send().await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text()
}

/// Waits until the process says that it keeps content, or that it does not.
async fn until_degraded(node: &NodeProcess, is_degraded: bool) {
    until("readyz tells how the disk is", async || {
        ready(node).await.starts_with("degraded: ") == is_degraded
    })
    .await;
    until("the metric does too", async || {
        metric(&node.admin_url(), "larder_store_full").await == u64::from(is_degraded)
    })
    .await;
}

/// The file that holds the verified content `digest`.
fn blob_file(cache_dir: &Path, digest: &str) -> PathBuf {
    let hex = digest.strip_prefix("sha256:").unwrap();
    cache_dir.join("blobs/sha256").join(&hex[..2]).join(hex)
}

/// Waits until all of the image is in the store.
async fn until_kept(cache_dir: &Path, image: &Image) {
    until("the image is kept", async || {
        let mut names = image.contents().map(|(digest, _)| blob_file(cache_dir, &digest));
        names.all(|file| file.try_exists().unwrap())
    })
    .await;
}

/// Waits until the store's figures are those of the file system: within a block for each unfinished fill, whose journal grows.
/// Nothing may be filling.
async fn until_counted(node: &NodeProcess, cache_dir: &Path) {
    let mut last = String::new();
    let counted = larder_tests::wait::look(SOON, async || {
        let said = [
            metric(&node.admin_url(), "larder_store_bytes").await,
            metric(&node.admin_url(), "larder_store_partial_bytes").await,
        ];
        let partials = metric(&node.admin_url(), "larder_store_partials").await;
        let used = |folder: &str| disk_usage_bytes(&cache_dir.join(folder));
        let found = [used("blobs") + used("manifests"), used("partials")];
        last = format!("said {said:?}, found {found:?} with {partials} partials");
        let is_counted = said[0] == found[0] && said[1].abs_diff(found[1]) <= partials * BLOCK_BYTES;
        Ok(is_counted.then_some(()))
    });
    assert!(counted.await.is_ok(), "{last}");
}
