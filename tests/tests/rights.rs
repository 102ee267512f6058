//! Who may have what: content is shared by digest between all names, rights are not.
//!
//! `private/app` can be read with a credential alone, `public/*` by everybody. The attack is always the same: whoever
//! may not read `private/app` asks for its content by another name.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "rights/attack.rs"]
mod attack;
#[path = "rights/memory.rs"]
mod memory;
#[path = "rights/sharing.rs"]
mod sharing;

use std::time::Duration;

use cache_node::app::Limits;
use larder_tests::prelude::*;

/// What only a credential opens.
const PRIVATE: &str = "private/app";
/// Another repository that the same credential opens.
const SISTER: &str = "private/sister";
/// What everybody can read.
const PUBLIC: &str = "public/app";
/// `jane:one` and `jane:two`, as they are sent.
const ONE: &str = "Basic amFuZTpvbmU=";
const TWO: &str = "Basic amFuZTp0d28=";

/// An upstream whose private repositories want the password `one`.
async fn upstream() -> FakeRegistry {
    let up = FakeRegistry::builder().start().await;
    lock(&up, ONE);
    up
}

/// From now on private repositories want this credential.
fn lock(up: &FakeRegistry, credential: &'static str) {
    let is_locked = on_any().when(move |request| {
        let is_private = request.repo().is_some_and(|repo| repo.starts_with("private/"));
        is_private && request.header("Authorization") != Some(credential)
    });
    up.script(is_locked, Action::challenge(&[r#"Basic realm="registry""#]));
}

/// The registry `up.test` with a credential for what is private.
fn registry(up: &FakeRegistry) -> Registry {
    let endpoint = Endpoint::new(up.url()).trust_loopback();
    Registry::new("up.test").endpoint(endpoint.credential("hub", &["private/*"]))
}

fn mirror(up: &FakeRegistry) -> MirrorConfig {
    MirrorConfig::new().with(registry(up))
}

/// Production's limits with short pauses, but for how long a proof counts.
fn limits(proof_ttl: Duration) -> Limits {
    let mut limits = Limits::default();
    limits.upstream.backoff_first = Duration::from_millis(2);
    limits.fill.backoff = Duration::from_millis(2);
    limits.poll = Duration::from_millis(50);
    limits.proof_ttl = proof_ttl;
    limits
}

/// Production's.
const HOUR: Duration = Duration::from_hours(1);

/// A node with the credential.
async fn node_with(config: &MirrorConfig, limits: Limits) -> InProcessNode {
    let node = InProcessNode::start(config, limits).await;
    secrets::write_basic(&node.credentials_dir(), "hub", "jane", "one");
    node
}

async fn node(up: &FakeRegistry) -> InProcessNode {
    node_with(&mirror(up), limits(HOUR)).await
}

/// Where the node at `base` has something of a repository of `up.test`.
fn url(base: &str, repository: &str, rest: &str) -> String {
    format!("{base}/v2/{repository}/{rest}?ns=up.test")
}

fn blob(node: &InProcessNode, repository: &str, digest: &str) -> Call {
    Call::get(&url(&node.url(), repository, &format!("blobs/{digest}")))
}

fn blob_head(node: &InProcessNode, repository: &str, digest: &str) -> Call {
    Call::head(&url(&node.url(), repository, &format!("blobs/{digest}")))
}

fn manifest(node: &InProcessNode, repository: &str, reference: &str) -> Call {
    Call::get(&url(&node.url(), repository, &format!("manifests/{reference}")))
}

/// An image with one layer of this many bytes.
fn image(layer_bytes: usize) -> Image {
    ImageBuilder::new().random_layer(5, layer_bytes).build()
}

/// A layer of more than one segment.
const LAYER_BYTES: usize = 3 << 20;

/// An upstream with an image in these repositories.
async fn upstream_with(repositories: &[&str], layer_bytes: usize) -> (FakeRegistry, Image) {
    let (up, image) = (upstream().await, image(layer_bytes));
    for repository in repositories {
        image.push_to(&up, repository, "v1");
    }
    (up, image)
}

/// The digest of an image's layer.
fn layer(image: &Image) -> String {
    image.blobs().last().unwrap().0.clone()
}

/// Pulls all of an image as a runtime does.
async fn pull(node: &InProcessNode, repository: &str, image: &Image) {
    assert_eq!(manifest(node, repository, "v1").send().await.status, 200);
    for (digest, _) in image.blobs() {
        blob(node, repository, &digest).send().await.assert_whole(&digest);
    }
    until("all is kept", async || {
        let status = Call::get(&format!("{}/statusz", node.admin_url())).send().await;
        status.json()["fills"].as_array().is_some_and(Vec::is_empty)
    })
    .await;
}

/// How many requests the upstream answered but with a challenge.
fn answered(up: &FakeRegistry, on: On) -> usize {
    let is_let_in = on.when(|request| {
        let is_private = request.repo().is_some_and(|repo| repo.starts_with("private/"));
        !is_private || request.header("Authorization").is_some()
    });
    up.count(is_let_in)
}

/// Sends `call` this many times at once.
async fn at_once(count: usize, call: &Call) -> Vec<Answer> {
    let calls: Vec<_> = (0..count).map(|_| tokio::spawn(call.clone().send())).collect();
    let answers = futures_util::future::join_all(calls).await;
    answers.into_iter().map(Result::unwrap).collect()
}
