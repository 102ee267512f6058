//! Larder on a real cluster, as users have it: the cache node from its image on every node, real containerd pointed at
//! it, and pods whose images come through it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use larder_tests::cluster::{Cluster, EXAMPLE_UPSTREAM, Peer};
use larder_tests::image::architecture;
use larder_tests::larder_image::LarderImage;
use larder_tests::prelude::*;
use larder_tests::static_program;

fn example(name: &str) -> PathBuf {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/examples");
    examples.join(name)
}

/// The image of the tests, as pods name it.
const IMAGE: &str = "registry.local/acme/app:1";

/// An upstream registry that the nodes know by name.
async fn upstream(cluster: &Cluster) -> FakeRegistry {
    let ip = cluster.host_ip();
    cluster.add_host(EXAMPLE_UPSTREAM.0, ip).unwrap();
    FakeRegistry::builder()
        .bind(ip.to_string())
        .port(EXAMPLE_UPSTREAM.1)
        .start()
        .await
}

/// Runs a cache node on every node and points containerd at it.
async fn install(cluster: &Cluster) {
    let archive = LarderImage::cache_node().build(cluster.dir()).unwrap();
    cluster.load_image(&archive).await.unwrap();
    for node in cluster.nodes() {
        let dir = node.certs_dir().join("registry.local");
        std::fs::create_dir_all(&dir).unwrap();
        std::fs::copy(example("hosts.toml"), dir.join("hosts.toml")).unwrap();
    }
    let manifest = example("cluster.yaml");
    cluster
        .kubectl(&["apply", "--filename", manifest.to_str().unwrap()])
        .await
        .unwrap();
    let rollout = [
        "rollout",
        "status",
        "daemonset/cache-node",
        "--namespace=larder-system",
        "--timeout=60s",
    ];
    cluster.kubectl(&rollout).await.unwrap();
}

fn image() -> Image {
    ImageBuilder::new()
        .architecture(architecture())
        .program("bin/app", &static_program::helper())
        .random_layer(1, 4 << 20)
        .random_layer(2, 1 << 20)
        .random_layer(3, 1 << 10)
        .entrypoint(&["/bin/app"])
        .cmd(&["wait"])
        .build()
}

/// How often containerd itself asked the upstream, past the cache.
fn asked_by_runtimes(upstream: &FakeRegistry) -> usize {
    let agent = |asked: &Exchange| asked.request.header("user-agent").unwrap_or_default().to_owned();
    upstream
        .requests()
        .iter()
        .filter(|asked| agent(asked).starts_with("containerd"))
        .count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pods_pull_through_the_cache_of_their_node() {
    let cluster = Cluster::start().await.unwrap();
    let upstream = upstream(&cluster).await;
    install(&cluster).await;
    let image = image();
    image.push_to(&upstream, "acme/app", "1");
    each_node_fetches_each_blob_once(&cluster, &upstream, &image).await;
    what_was_pulled_needs_no_upstream(&cluster).await;
    without_the_cache_the_runtime_asks_the_registry(&cluster, &upstream).await;
}

async fn each_node_fetches_each_blob_once(cluster: &Cluster, upstream: &FakeRegistry, image: &Image) {
    let image_flag = format!("--image={IMAGE}");
    cluster
        .kubectl(&["create", "deployment", "app", &image_flag, "--replicas=10"])
        .await
        .unwrap();
    cluster
        .kubectl(&["rollout", "status", "deployment/app", "--timeout=120s"])
        .await
        .unwrap();

    // The scheduler spreads ten pods over three empty nodes, so each node has needed each blob: the layers and the config.
    let nodes = cluster.nodes().iter().map(|node| IpAddr::from(node.ip()));
    let once: BTreeMap<(IpAddr, String), usize> = nodes
        .flat_map(|node| image.contents().map(move |(digest, _)| ((node, digest), 1)))
        .collect();
    assert_eq!(upstream.blob_fetches(), once);
    assert_eq!(asked_by_runtimes(upstream), 0);
}

async fn what_was_pulled_needs_no_upstream(cluster: &Cluster) {
    cluster
        .kubectl(&["delete", "deployment", "app", "--wait"])
        .await
        .unwrap();
    cluster
        .kubectl(&[
            "wait",
            "pod",
            "--selector=app=app",
            "--for=delete",
            "--timeout=60s",
        ])
        .await
        .unwrap();
    let node = cluster.node(1);
    node.remove_image(IMAGE).await.unwrap();
    node.cut(Peer::Upstream).await.unwrap();
    node.pull(IMAGE).await.unwrap();
    node.heal(Peer::Upstream).await.unwrap();
}

async fn without_the_cache_the_runtime_asks_the_registry(cluster: &Cluster, upstream: &FakeRegistry) {
    let gone = [
        "delete",
        "daemonset",
        "cache-node",
        "--namespace=larder-system",
        "--cascade=foreground",
    ];
    cluster.kubectl(&gone).await.unwrap();
    let node = cluster.node(1);
    node.remove_image(IMAGE).await.unwrap();
    node.pull(IMAGE).await.unwrap();
    assert!(asked_by_runtimes(upstream) > 0);
}
