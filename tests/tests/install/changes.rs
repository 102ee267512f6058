//! What changes while Larder runs: the mirror, Secrets, nodes, Larder itself.

use larder_tests::cluster::{Component, Node};
use larder_tests::prelude::*;

use crate::scene::Scene;
use larder_tests::installation::ACCOUNT;

/// A registry that is added is pulled through the caches, and one that is removed no longer is.
pub(crate) async fn registry_added_and_removed(scene: &Scene) {
    let registries = |hosts: &[&str]| {
        let hosts: Vec<_> = hosts
            .iter()
            .map(|host| serde_json::json!({"host": host}))
            .collect();
        serde_json::json!({"spec": {"registries": hosts}}).to_string()
    };
    let patch = |hosts: &[&str]| {
        format!(
            "kubectl patch rmir default --type=merge --patch='{}'",
            registries(hosts)
        )
    };
    let is_written = |node: &Node, host: &str| {
        node.certs_dir()
            .join(host)
            .join("hosts.toml")
            .try_exists()
            .unwrap()
    };
    let written = |host: &str| {
        scene
            .cluster
            .nodes()
            .iter()
            .filter(|node| is_written(node, host))
            .count()
    };
    let pods = scene
        .shell("kubectl get pods --namespace larder-system --output name")
        .await;
    scene.shell(&patch(&["docker.io", "quay.io", "ghcr.io"])).await;
    until("ghcr.io is pulled through every cache", async || {
        written("ghcr.io") == scene.cluster.nodes().len()
    })
    .await;
    scene.shell(&patch(&["docker.io", "quay.io"])).await;
    until("ghcr.io is as it was", async || written("ghcr.io") == 0).await;
    let now = scene
        .shell("kubectl get pods --namespace larder-system --output name")
        .await;
    assert_eq!(now, pods, "a changed list of registries restarts no pod");
}

/// A Secret that is missing, then wrong, then right, without a restart of anything but for the volume's sake.
pub(crate) async fn secret_rotation(scene: &Scene, node: &Node) {
    let credentials = serde_json::json!({"spec": {"registries": [
        {"host": "docker.io", "credentials": [{"secretName": "hub", "repositories": ["acme/*"]}]},
        {"host": "quay.io"},
    ]}});
    scene
        .shell(&format!(
            "kubectl patch rmir default --type=merge --patch='{credentials}'"
        ))
        .await;
    said(scene, "CredentialsMissing").await;
    create_secret(scene, "wrong-password").await;
    said(scene, "CredentialsRefused").await;
    create_secret(scene, ACCOUNT.1).await;
    scene.mirror_ready().await;
    let image = scene.publish("acme/private", "1");
    let before = scene.asked_by_runtimes();
    scene.start("private", "acme/private:1", node, &image).await;
    assert_eq!(scene.asked_by_runtimes(), before, "the pull went past the cache");
    scene.stop("private").await;
}

async fn create_secret(scene: &Scene, password: &str) {
    let user = ACCOUNT.0;
    scene
        .shell(&format!(
            "kubectl create secret docker-registry hub --namespace larder-system --docker-server=https://index.docker.io/v1/ \
             --docker-username={user} --docker-password={password} --dry-run=client --output=yaml | kubectl apply --filename -"
        ))
        .await;
}

async fn said(scene: &Scene, reason: &str) {
    let table = "kubectl get rmir default --output=wide";
    scene.until_prints(table, |said| said.contains(reason)).await;
}

/// A node that leaves the cluster, and comes back as a new one.
pub(crate) async fn node_removed_and_added(scene: &Scene, node: &Node) {
    let nodes = "kubectl get rmir default --output='jsonpath={.status.nodes.summary} {.status}'";
    node.kill(Component::Kubelet).await.unwrap();
    let pod = scene.cache_pod(node).await;
    scene.shell(&format!("kubectl delete node {}", node.name())).await;
    // Kubernetes takes about a minute to collect the pods of a node that is gone, and only then counts anew.
    scene
        .shell(&format!(
            "kubectl wait --namespace larder-system {pod} --for=delete --timeout=150s"
        ))
        .await;
    scene.until_prints(nodes, |said| said.starts_with("2/2 ")).await;
    node.start(Component::Kubelet).await.unwrap();
    scene.cluster.ready().await.unwrap();
    scene.until_prints(nodes, |said| said.starts_with("3/3 ")).await;
    scene.cache_ready(node).await;
    scene.start_in_time("returned", node).await;
}

/// The chart is upgraded, and with it every cache, while thirty pods are rolled out.
pub(crate) async fn upgrade_during_a_rollout(scene: &Scene) {
    scene.publish("library/rolled", "1");
    scene.publish("library/rolled", "2");
    scene.shell("kubectl create deployment rolled --image=library/rolled:1 --replicas=30 && kubectl rollout status deployment/rolled --timeout=180s").await;
    let values = scene.values.display();
    // Another label of the pods replaces all of them.
    let upgrade = format!(
        "helm upgrade larder charts/larder --namespace larder-system --values {values} --wait --timeout 3m \
         && kubectl patch rmir default --type=merge --patch='{{\"spec\":{{\"node\":{{\"podLabels\":{{\"upgraded\":\"yes\"}}}}}}}}'"
    );
    let roll = "kubectl set image deployment/rolled '*=library/rolled:2' && kubectl rollout status deployment/rolled --timeout=180s";
    tokio::join!(scene.shell(&upgrade), scene.shell(roll));
    let failed = scene
        .shell("kubectl get events --field-selector=reason=Failed,involvedObject.kind=Pod --output=name")
        .await;
    assert_eq!(failed, "", "pods failed to pull");
    scene
        .shell(
            "kubectl rollout status --namespace larder-system daemonset/larder-mirror-default --timeout=120s",
        )
        .await;
    scene.shell("kubectl delete deployment rolled --wait").await;
}
