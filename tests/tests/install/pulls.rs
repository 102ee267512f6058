//! Pulls in good times and bad: what the registry is asked, and that pods start whatever becomes of the cache.

use std::collections::BTreeMap;
use std::net::IpAddr;

use larder_tests::cluster::{Node, Peer};

use crate::scene::Scene;

/// Every node needs every blob of a new image; each asks for each once, and its runtime never asks past the cache.
pub(crate) async fn go_through_the_caches(scene: &Scene) {
    let image = scene.publish("library/app", "1");
    let (before, past_the_caches) = (scene.hub.blob_fetches(), scene.asked_by_runtimes());
    scene
        .shell("kubectl create deployment app --image=library/app:1 --replicas=9 && kubectl rollout status deployment/app --timeout=120s")
        .await;
    let after = scene.hub.blob_fetches();
    let asked: BTreeMap<_, _> = after
        .into_iter()
        .filter(|(key, _)| !before.contains_key(key))
        .collect();
    let nodes = scene.cluster.nodes().iter().map(|node| IpAddr::from(node.ip()));
    // All images have their program's layer in common, which a node may have from before.
    let once: BTreeMap<(IpAddr, String), usize> = nodes
        .flat_map(|node| image.contents().map(move |(digest, _)| ((node, digest), 1)))
        .filter(|(key, _)| !before.contains_key(key))
        .collect();
    assert_eq!(asked, once);
    assert_eq!(scene.asked_by_runtimes(), past_the_caches);
    scene.shell("kubectl delete deployment app --wait").await;
}

/// What the node has, it has for every pod.
pub(crate) async fn second_pod_asks_nothing(scene: &Scene, node: &Node) {
    let image = scene.publish("library/twice", "1");
    scene.start("twice-1", "library/twice:1", node, &image).await;
    scene.stop("twice-1").await;
    node.remove_image("docker.io/library/twice:1").await.unwrap();
    let before = scene.asked();
    scene.start("twice-2", "library/twice:1", node, &image).await;
    assert_eq!(scene.asked(), before);
    scene.stop("twice-2").await;
}

/// A cached image starts while its registry cannot be reached.
pub(crate) async fn upstream_down(scene: &Scene, node: &Node) {
    let image = scene.publish("library/kept", "1");
    scene.start("kept-1", "library/kept:1", node, &image).await;
    scene.stop("kept-1").await;
    node.remove_image("docker.io/library/kept:1").await.unwrap();
    node.cut(Peer::Upstream).await.unwrap();
    scene.start("kept-2", "library/kept:1", node, &image).await;
    node.heal(Peer::Upstream).await.unwrap();
    scene.stop("kept-2").await;
    scene.mirror_ready().await;
}

/// The command of `docs/operations.md` finds the cache of its own container.
pub(crate) async fn content_is_listed(scene: &Scene, node: &Node) {
    let pods = format!(
        "kubectl --namespace larder-system get pods --selector larder.dev/mirror=default --field-selector spec.nodeName={} --output=name",
        node.name()
    );
    let list = "/cache-node store ls --repository library/kept";
    let listed = scene
        .shell(&format!(
            "kubectl --namespace larder-system exec $({pods}) --container cache -- {list}"
        ))
        .await;
    assert!(listed.contains("  docker.io/library/kept:1"), "{listed}");
}
