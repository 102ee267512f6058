//! What goes wrong around a pull, and what must not go wrong in it: the bugs that other caches had (rows E1 to E24),
//! tags whose registry fails, crashes in the middle of a fill, and a store that somebody else has touched.
//!
//! Rows E6 and E7, capacity and eviction, are in `store.rs`; E15 and E16, access rights, in `rights.rs`.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot work must fail the test at once"
)]

#[path = "resilience/cache_only.rs"]
mod cache_only;
#[path = "resilience/crash.rs"]
mod crash;
#[path = "resilience/disk_full.rs"]
mod disk_full;
#[path = "resilience/rows_answers.rs"]
mod rows_answers;
#[path = "resilience/rows_fills.rs"]
mod rows_fills;
#[path = "resilience/rows_upstream.rs"]
mod rows_upstream;
#[path = "resilience/shutdown.rs"]
mod shutdown;
#[path = "resilience/store.rs"]
mod store;
#[path = "resilience/tags.rs"]
mod tags;
#[path = "resilience/tags_changes.rs"]
mod tags_changes;

use std::path::Path;
use std::time::Duration;

use cache_node::app::Limits;
use larder_tests::prelude::*;

/// A ledger entry that is this much older has outlived a `ttl` of an hour, but not `serveStaleFor`.
const TWO_HOURS_MS: u64 = 2 * 3_600_000;

/// The blob `digest` of `acme/app`, asked of the node at `base`.
fn blob(base: &str, digest: &str) -> Call {
    Call::get(&format!("{base}/v2/acme/app/blobs/{digest}?ns=up.test"))
}

/// The manifest of `acme/app` by tag or digest.
fn manifest(base: &str, reference: &str) -> Call {
    Call::get(&format!("{base}/v2/acme/app/manifests/{reference}?ns=up.test"))
}

/// The same, but HEAD.
fn manifest_head(base: &str, reference: &str) -> Call {
    Call::head(&format!("{base}/v2/acme/app/manifests/{reference}?ns=up.test"))
}

/// A configuration of the registry `up.test` at `up`.
fn mirror(up: &FakeRegistry) -> MirrorConfig {
    MirrorConfig::new().registry("up.test", up.url())
}

/// The registry `up.test` at `up`, to be changed.
fn registry(up: &FakeRegistry) -> Registry {
    Registry::new("up.test").endpoint(Endpoint::new(up.url()).trust_loopback())
}

/// Production's limits, but pauses between tries that a test need not wait for.
fn impatient() -> Limits {
    let mut limits = Limits::default();
    limits.upstream.backoff_first = Duration::from_millis(5);
    limits.fill.backoff = Duration::from_millis(5);
    limits
}

/// A node in this process that serves `up.test`.
async fn node(up: &FakeRegistry) -> InProcessNode {
    InProcessNode::start(&mirror(up), impatient()).await
}

/// The value of the metric whose line starts with `name`, labels included; 0 when there is no such line.
async fn metric(admin_url: &str, name: &str) -> u64 {
    let text = Call::get(&format!("{admin_url}/metrics")).send().await.text();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

/// How often the node has covered a failure of `up.test` with what it knew.
async fn stale_answers(node_admin_url: &str) -> u64 {
    let name = "larder_stale_answers_total{registry=\"up.test\"}";
    metric(node_admin_url, name).await
}

/// Makes every entry of a stopped node's tag ledger older by `milliseconds`; negative: younger, into the future.
fn age_ledger(cache_dir: &Path, milliseconds: i64) {
    let path = cache_dir.join("tags.jsonl");
    let aged: String = std::fs::read_to_string(&path)
        .unwrap()
        .lines()
        .map(|line| {
            let mut entry: serde_json::Value = serde_json::from_str(line).unwrap();
            let checked_at = entry["checkedAt"].as_i64().unwrap();
            entry["checkedAt"] = (checked_at - milliseconds).into();
            format!("{entry}\n")
        })
        .collect();
    assert!(!aged.is_empty(), "no entries in the ledger");
    std::fs::write(path, aged).unwrap();
}

/// The file that holds the verified content `digest`.
fn blob_file(cache_dir: &Path, digest: &str) -> std::path::PathBuf {
    let hex = digest.strip_prefix("sha256:").unwrap();
    cache_dir.join("blobs/sha256").join(&hex[..2]).join(hex)
}

/// How many files lie in `folder` of the cache directory.
fn files_in(cache_dir: &Path, folder: &str) -> usize {
    std::fs::read_dir(cache_dir.join(folder)).unwrap().count()
}

/// Sends `call` this many times at once.
async fn at_once(count: usize, call: Call) -> Vec<Answer> {
    let calls = (0..count).map(|_| tokio::spawn(call.clone().send()));
    let answers = futures_util::future::join_all(calls.collect::<Vec<_>>()).await;
    answers.into_iter().map(Result::unwrap).collect()
}
