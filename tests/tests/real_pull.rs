//! Real clients pull from real registries through the real cache node, and the cache dies in the middle of it.
//!
//! Each client meets one shape of registry, each shape at least one client. A test pulls an image, counts what the
//! registry sent, takes the registry away and pulls again; then it pulls another image from a slow registry, kills
//! the cache with SIGKILL in the middle of the big layer, starts it and pulls again.

#[path = "real_pull/clients.rs"]
mod clients;
#[path = "real_pull/upstream.rs"]
mod upstream;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clients::{Client, Kind, own_platform};
use larder_tests::image::architecture;
use larder_tests::prelude::*;
use larder_tests::real::Nginx;
use tokio::time::{Instant, sleep};
use upstream::{Shape, Upstream};

const BIG_LAYER_BYTES: usize = 24 << 20;
/// The slow registry: two seconds for the big layer.
const SLOW_BYTES_PER_S: u64 = 12 << 20;
/// How much of the big layer is there when the cache is killed.
const KILL_AT_BYTES: u64 = 14 << 20;
/// What a killed cache may fetch again: what it had not yet written down, and one write.
const FETCHED_AGAIN_BYTES_MAX: u64 = 2 << 20;
const PROGRESS_WITHIN: Duration = Duration::from_secs(60);

/// An index of two platforms. This machine's, the first, has several layers, one of tens of MiB and one of 32 bytes.
fn index(seed: u64) -> Index {
    let own = architecture();
    let other = if own == "amd64" { "arm64" } else { "amd64" };
    let big = ImageBuilder::new()
        .architecture(own)
        .random_layer(seed, BIG_LAYER_BYTES)
        .empty_layer()
        .random_layer(seed + 1, 3 << 20)
        .random_layer(seed + 2, 700);
    let small = ImageBuilder::new()
        .architecture(other)
        .random_layer(seed + 3, 5000);
    Index::of(vec![big.build(), small.build()])
}

fn big_layer(index: &Index) -> &str {
    &own_platform(index).layers[0].digest
}

/// The whole story of one client.
async fn pulls_and_survives(kind: Kind, shape: Shape) -> Result<Option<TokenServer>> {
    let (first, second) = (index(10), index(20));
    let mut up = Upstream::start(shape).await?;
    up.push(&first, "v1").await;
    let behind = Upstream::start(Shape::Open).await?;
    behind.push(&second, "v1").await;
    let slow = Nginx::slow_proxy(&behind.url(), SLOW_BYTES_PER_S).await?;
    let config = MirrorConfig::new()
        .with(Registry::new("up.test").endpoint(up.endpoint(&up.url())))
        .with(Registry::new("slow.test").endpoint(behind.endpoint(&slow.url())));
    let mut node = NodeProcess::builder().config(&config).prepare();
    up.write_secret(&node);
    node.launch().await;
    let client = Client::start(kind, &node, &["up.test", "slow.test"]).await?;

    client.pull("up.test", &first).await.context("the first pull")?;
    let blobs: Vec<_> = own_platform(&first)
        .blobs()
        .into_iter()
        .map(|(digest, _)| digest)
        .collect();
    let sent = up.transfers(&blobs).await?;
    if kind != Kind::Containerd2Ranges {
        ensure!(
            sent.values().all(|&count| count == 1),
            "fetched more than once: {sent:?}"
        );
    }

    let tokens = up.tokens.take();
    drop(up);
    client.forget().await?;
    client
        .pull("up.test", &first)
        .await
        .context("the second pull, without the registry")?;

    killed_in_the_middle(&client, kind, &mut node, &slow, &second).await?;
    Ok(tokens)
}

/// Kills the cache while `client` pulls, starts it again and pulls again.
async fn killed_in_the_middle(
    client: &Client,
    kind: Kind,
    node: &mut NodeProcess,
    slow: &Nginx,
    image: &Index,
) -> Result<()> {
    client.forget().await?;
    let killed = async {
        fetched(node, big_layer(image), KILL_AT_BYTES).await?;
        node.kill9().await;
        node.launch().await;
        anyhow::Ok(())
    };
    // Some clients try again by themselves and may find the cache running.
    let (_, killed) = tokio::join!(client.pull("slow.test", image), killed);
    killed?;
    client
        .pull("slow.test", image)
        .await
        .context("the pull after the kill")?;

    let is_transfer = |uri: &str| uri.contains("/blobs/") && uri.contains(big_layer(image));
    let seen = slow
        .requests_until(|seen| seen.iter().filter(|access| is_transfer(&access.uri)).count() >= 2)
        .await?;
    let resumed = seen
        .iter()
        .filter(|access| is_transfer(&access.uri))
        .nth(1)
        .context("no second transfer")?;
    if kind != Kind::Containerd2Ranges {
        let start = resumed
            .range
            .strip_prefix("bytes=")
            .and_then(|range| range.split('-').next());
        let start: u64 = start.with_context(|| format!("{seen:?}"))?.parse()?;
        ensure!(
            start + FETCHED_AGAIN_BYTES_MAX >= KILL_AT_BYTES,
            "resumed at {start}"
        );
    }
    Ok(())
}

/// Waits until a running fill has `bytes` of `digest`.
async fn fetched(node: &NodeProcess, digest: &str, bytes: u64) -> Result<()> {
    let deadline = Instant::now() + PROGRESS_WITHIN;
    loop {
        let status = Call::get(&format!("{}/statusz", node.admin_url()))
            .send()
            .await
            .json();
        let fills = status["fills"].as_array().context("no fills in /statusz")?;
        let present = fills
            .iter()
            .find(|fill| fill["digest"] == digest)
            .and_then(|fill| fill["present"].as_u64());
        if present.is_some_and(|present| present >= bytes) {
            return Ok(());
        }
        ensure!(Instant::now() < deadline, "{digest} did not come: {status}");
        sleep(Duration::from_millis(5)).await;
    }
}

/// Docker Hub's shape: the whole pull is authorized by tokens that the cache gets with the Secret's password.
#[tokio::test]
async fn containerd_2_pulls_with_tokens_from_a_cdn() -> Result<()> {
    let tokens = pulls_and_survives(Kind::Containerd2, Shape::TokenAndCdn).await?;
    let asked = tokens.context("no token server")?.requests();
    ensure!(!asked.is_empty(), "nobody asked for a token");
    for exchange in asked {
        let request = &exchange.request;
        let scope = request.query_param("scope");
        ensure!(scope.as_deref() == Some("repository:acme/app:pull"), "{scope:?}");
        ensure!(
            request.header("Authorization").is_some(),
            "a token without the Secret's password"
        );
    }
    Ok(())
}

#[tokio::test]
async fn containerd_2_pulls_parallel_ranges_from_a_cdn() -> Result<()> {
    pulls_and_survives(Kind::Containerd2Ranges, Shape::Cdn)
        .await
        .map(drop)
}

#[tokio::test]
async fn containerd_1_6_pulls_with_a_password() -> Result<()> {
    pulls_and_survives(Kind::Containerd16, Shape::Basic)
        .await
        .map(drop)
}

#[tokio::test]
async fn skopeo_pulls_with_tokens_from_a_cdn() -> Result<()> {
    pulls_and_survives(Kind::Skopeo, Shape::TokenAndCdn)
        .await
        .map(drop)
}

#[tokio::test]
async fn podman_pulls_from_an_open_registry() -> Result<()> {
    pulls_and_survives(Kind::Podman, Shape::Open).await.map(drop)
}

#[tokio::test]
async fn crane_pulls_from_a_cdn() -> Result<()> {
    pulls_and_survives(Kind::Crane, Shape::Cdn).await.map(drop)
}
