//! What the tests of this binary share.

use std::time::Duration;

use cache_node::app::Limits;
use larder_tests::prelude::*;

/// The repository of every test.
pub(crate) const REPO: &str = "acme/app";
/// The blob's withheld end, in bytes.
pub(crate) const WITHHELD: u64 = 64 << 10;
/// A blob of this many bytes streams: it is larger than what is verified whole.
pub(crate) const STREAMED: usize = 3 << 20;
/// No answer may take longer.
pub(crate) const ANSWER_MAX: Duration = Duration::from_secs(25);

/// Production's limits with short pauses between tries.
pub(crate) fn brisk() -> Limits {
    let mut limits = Limits::default();
    limits.upstream.backoff_first = Duration::from_millis(2);
    limits.fill.backoff = Duration::from_millis(2);
    limits.fill.resumes = 4;
    limits
}

/// Limits that give up on a silent upstream within about a second.
pub(crate) fn impatient() -> Limits {
    let mut limits = brisk();
    limits.upstream.connect = Duration::from_millis(300);
    limits.upstream.header = Duration::from_millis(300);
    limits.upstream.total = Duration::from_millis(900);
    limits.upstream.tries_max = 2;
    limits.upstream.idle = Duration::from_millis(400);
    limits.fill.idle = Duration::from_millis(300);
    limits.fill.head = Duration::from_millis(1500);
    limits.fill.resumes = 2;
    limits
}

/// A mirror of `up` alone.
pub(crate) fn mirror(up: &FakeRegistry) -> MirrorConfig {
    MirrorConfig::new().registry("up.test", up.url())
}

/// A mirror of `up` whose tags are always asked for again.
pub(crate) fn forgetful(up: &FakeRegistry) -> MirrorConfig {
    let endpoint = Endpoint::new(up.url()).trust_loopback();
    MirrorConfig::new().with(Registry::new("up.test").endpoint(endpoint).ttl("0s"))
}

/// A node in front of `up`.
pub(crate) async fn node(up: &FakeRegistry) -> InProcessNode {
    InProcessNode::start(&mirror(up), brisk()).await
}

/// An upstream and a node in front of it.
pub(crate) async fn pair() -> (FakeRegistry, InProcessNode) {
    let up = FakeRegistry::builder().start().await;
    let node = node(&up).await;
    (up, node)
}

/// Where `node` has a blob.
pub(crate) fn blob_url(node: &InProcessNode, digest: &str) -> String {
    format!("{}/v2/{REPO}/blobs/{digest}?ns=up.test", node.url())
}

/// Where `node` has a manifest.
pub(crate) fn manifest_url(node: &InProcessNode, reference: &str) -> String {
    format!("{}/v2/{REPO}/manifests/{reference}?ns=up.test", node.url())
}

/// Where `node` has a listing: `tags/list` or `referrers/DIGEST`.
pub(crate) fn listing_url(node: &InProcessNode, listing: &str) -> String {
    format!("{}/v2/{REPO}/{listing}?ns=up.test", node.url())
}

/// An image with a layer that streams and one that does not.
pub(crate) fn image() -> Image {
    ImageBuilder::new()
        .random_layer(1, STREAMED)
        .random_layer(2, 32)
        .build()
}

/// GETs a blob, which must come whole and right.
pub(crate) async fn assert_whole(node: &InProcessNode, digest: &str) {
    Call::get(&blob_url(node, digest))
        .send()
        .await
        .assert_whole(digest);
}

/// A refusal as every client understands it: OCI's JSON, no challenge, no redirect, no foreign header.
pub(crate) fn assert_refusal(answer: &Answer, status: u16, code: &str, is_head: bool) {
    let text = answer.text();
    assert_eq!((answer.status, answer.end), (status, End::Complete), "{text}");
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    assert_eq!(answer.header("WWW-Authenticate"), None);
    assert_eq!(answer.header("Location"), None);
    assert_eq!(answer.header("Docker-Content-Digest"), None);
    if is_head {
        assert!(answer.body.is_empty());
    } else {
        assert_eq!(answer.error_code(), code, "{text}");
        let message = answer.json()["errors"][0]["message"].clone();
        assert!(
            message.as_str().is_some_and(|message| !message.is_empty()),
            "{text}"
        );
    }
}

/// The value of a counter of `node` for the registry of these tests, 0 if it was never counted.
pub(crate) async fn counter(node: &InProcessNode, name: &str) -> u64 {
    let metrics = Call::get(&format!("{}/metrics", node.admin_url())).send().await;
    let text = metrics.text();
    let mut lines = text
        .lines()
        .filter(|line| line.starts_with(name) && line.contains("up.test"));
    lines
        .next()
        .and_then(|line| line.rsplit(' ').next())
        .and_then(|value| value.parse().ok())
        .unwrap_or(0)
}

/// How many contents with a wrong digest the node has seen.
pub(crate) async fn mismatches(node: &InProcessNode) -> u64 {
    counter(node, "larder_digest_mismatches_total").await
}

/// How many fills the node runs now.
pub(crate) async fn fills(node: &InProcessNode) -> usize {
    let status = Call::get(&format!("{}/statusz", node.admin_url())).send().await;
    status.json()["fills"].as_array().map_or(0, Vec::len)
}
