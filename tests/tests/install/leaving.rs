//! Going: the mirror, then Larder, and nodes on which nothing tells that it was there.

use crate::scene::Scene;
use crate::snapshot::Snapshot;

/// A deleted mirror takes its entries and its content with it, and leaves other people's files.
pub(crate) async fn delete_the_mirror(scene: &Scene, before: &[Snapshot]) {
    scene.shell("kubectl delete rmir default --timeout=120s").await;
    as_found(scene, before).await;
    // Kubernetes collects what the mirror owned a moment after it.
    let left = "kubectl get daemonsets,configmaps,services,serviceaccounts --namespace larder-system --selector=larder.dev/mirror --output=name";
    scene.until_prints(left, str::is_empty).await;
}

/// `helm uninstall` alone does the same, mirrors that are still there included.
pub(crate) async fn uninstall(scene: &Scene, before: &[Snapshot]) {
    scene.shell("kubectl apply --filename crds/examples/simple.yaml && kubectl wait rmir/default --for=condition=Ready --timeout=120s").await;
    for node in scene.cluster.nodes() {
        scene.cache_ready(node).await;
    }
    scene
        .shell("helm uninstall larder --namespace larder-system --wait --timeout 5m")
        .await;
    as_found(scene, before).await;
    let left = "kubectl get all --namespace larder-system --output=name";
    scene.until_prints(left, str::is_empty).await;
    scene.shell("kubectl get crd registrymirrors.larder.dev").await;
}

async fn as_found(scene: &Scene, before: &[Snapshot]) {
    for (node, before) in scene.cluster.nodes().iter().zip(before) {
        let differences = Snapshot::of(node).await.differences(before);
        assert!(differences.is_empty(), "{}: {differences:#?}", node.name());
    }
}

/// Nothing that was left behind keeps it from coming back.
pub(crate) async fn install_again(scene: &Scene) {
    let values = scene.values.display();
    scene
        .shell(&format!(
            "helm install larder charts/larder --namespace larder-system --values {values} --wait"
        ))
        .await;
    scene.shell("kubectl apply --filename crds/examples/simple.yaml && kubectl wait rmir/default --for=condition=Ready --timeout=120s").await;
    let node = scene.cluster.node(1);
    scene.cache_ready(node).await;
    let before = scene.asked_by_runtimes();
    scene.start_in_time("again", node).await;
    assert_eq!(scene.asked_by_runtimes(), before, "the pull went past the cache");
    scene.mirror_ready().await;
}
