//! The node, the requests and the waits that all of these tests share.

use std::path::Path;
use std::time::{Duration, Instant};

use cache_node::app::Limits;
use larder_tests::prelude::*;

/// The repository that tests pull from unless they say otherwise.
pub(super) const REPO: &str = "acme/app";

/// Retries without long pauses, and files that are looked at often.
fn limits() -> Limits {
    let mut limits = Limits {
        poll: Duration::from_millis(30),
        ..Limits::default()
    };
    limits.upstream.backoff_first = Duration::from_millis(5);
    limits.fill.backoff = Duration::from_millis(5);
    limits.fill.backoff_max = Duration::from_millis(50);
    limits
}

/// A node whose only registry, `up.test`, has this endpoint.
pub(super) async fn node(endpoint: Endpoint) -> InProcessNode {
    node_for(Registry::new("up.test").endpoint(endpoint)).await
}

/// A node for this registry alone.
pub(super) async fn node_for(registry: Registry) -> InProcessNode {
    start(&MirrorConfig::new().with(registry)).await
}

/// A node with this configuration. These tests start hundreds, whose folders would keep a disk busy for minutes.
pub(super) async fn start(config: &MirrorConfig) -> InProcessNode {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() {
        // An error says that an earlier test has done it.
        let _ = tempfile::env::override_temp_dir(memory);
    }
    InProcessNode::start(config, limits()).await
}

/// An endpoint at this registry, whose redirects may lead to any loopback address.
pub(super) fn at(up: &FakeRegistry) -> Endpoint {
    Endpoint::new(up.url()).trust_loopback()
}

/// The same with Secret `hub` for every repository.
pub(super) fn with_secret(up: &FakeRegistry) -> Endpoint {
    at(up).credential("hub", &["*", "*/*"])
}

/// The URL of something in [`REPO`].
pub(super) fn url(node: &InProcessNode, what: &str) -> String {
    format!("{}/v2/{REPO}/{what}?ns=up.test", node.url())
}

/// GET of a manifest in [`REPO`].
pub(super) async fn manifest(node: &InProcessNode, reference: &str) -> Answer {
    Call::get(&url(node, &format!("manifests/{reference}")))
        .send()
        .await
}

/// GET of a blob in [`REPO`].
pub(super) async fn blob(node: &InProcessNode, digest: &str) -> Answer {
    Call::get(&url(node, &format!("blobs/{digest}"))).send().await
}

/// HEAD of a blob in [`REPO`].
pub(super) async fn head_blob(node: &InProcessNode, digest: &str) -> Answer {
    Call::head(&url(node, &format!("blobs/{digest}"))).send().await
}

/// A small image under [`REPO`]`:v1`.
pub(super) fn push_image(up: &FakeRegistry) -> Image {
    let image = ImageBuilder::new().layer(&[("hello", b"world")]).build();
    image.push_to(up, REPO, "v1");
    image
}

/// Asks for new blobs of [`REPO`] until one is answered with this status.
pub(super) async fn pull_until(node: &InProcessNode, up: &FakeRegistry, status: u16) {
    let deadline = Instant::now() + SOON;
    loop {
        let digest = up.add_blob(REPO, random(100));
        let answer = blob(node, &digest).await;
        if answer.status == status {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "still {} in place of {status}",
            answer.status
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// The `Authorization` headers that a host has seen.
pub(super) fn authorizations(host: &ScriptedHost) -> Vec<String> {
    let seen = host.requests();
    seen.iter()
        .filter_map(|exchange| exchange.request.header("Authorization").map(str::to_owned))
        .collect()
}

/// The scopes that a token server was asked for.
pub(super) fn scopes(tokens: &ScriptedHost) -> Vec<Option<String>> {
    let seen = tokens.requests();
    seen.iter()
        .map(|exchange| exchange.request.query_param("scope"))
        .collect()
}

/// The node's metrics as text.
pub(super) async fn metrics(node: &InProcessNode) -> String {
    Call::get(&format!("{}/metrics", node.admin_url()))
        .send()
        .await
        .text()
}
