//! `kubectl get registrymirrors` tells a person what is wrong, within half a minute of the mirror's coming to the node. The
//! kubelets have their default `syncFrequency`.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use larder_tests::cluster::{ConfigPath, Node, NodeOptions};
use larder_tests::installation::Installation;
use serde_json::{Value, json};

/// Of the cache disk of the node whose disk is filled.
const CACHE_DISK_BYTES: u64 = 128 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_is_told_what_is_wrong() {
    let unset = NodeOptions {
        config_path: ConfigPath::Unset,
        ..NodeOptions::default()
    };
    let nodes = [NodeOptions::default(), unset, NodeOptions::default()];
    let installed = Installation::prepare(&nodes).await;
    let node = |number| installed.cluster.node(number);
    node(3).mount_cache_disk(CACHE_DISK_BYTES).await.unwrap();
    install(&installed).await;

    bad_secret_name(&installed, node(1)).await;
    wrong_credentials(&installed, node(1)).await;
    upstream_unreachable(&installed, node(1)).await;
    config_path_unset(&installed, node(2)).await;
    two_mirrors_in_conflict(&installed, node(1)).await;
    disk_full(&installed, node(3)).await;
}

async fn install(installed: &Installation) {
    let values = installed.values.display();
    installed
        .shell(&format!(
            "kubectl create namespace larder-system \
             && kubectl label namespace larder-system pod-security.kubernetes.io/enforce=privileged \
             && helm install larder charts/larder --namespace larder-system --values {values} --wait"
        ))
        .await;
}

async fn bad_secret_name(installed: &Installation, node: &Node) {
    let registry =
        json!({"host": "docker.io", "credentials": [{"secretName": "absent", "repositories": ["acme/*"]}]});
    apply(installed, "default", node, &json!({"registries": [registry]})).await;
    told(installed, "default", &["CredentialsMissing", "absent"]).await;
    delete(installed, "default").await;
}

async fn wrong_credentials(installed: &Installation, node: &Node) {
    installed
        .shell(
            "kubectl create secret generic wrong --namespace larder-system --type=kubernetes.io/basic-auth \
             --from-literal=username=nobody --from-literal=password=wrong",
        )
        .await;
    let registry =
        json!({"host": "docker.io", "credentials": [{"secretName": "wrong", "repositories": ["acme/*"]}]});
    apply(installed, "default", node, &json!({"registries": [registry]})).await;
    told(installed, "default", &["CredentialsRefused", "docker.io"]).await;
    delete(installed, "default").await;
}

async fn upstream_unreachable(installed: &Installation, node: &Node) {
    // Nothing listens there.
    let endpoint = format!("http://{}:9", installed.cluster.host_ip());
    let registry = json!({"host": "registry.corp.example", "endpoints": [{"url": endpoint}]});
    apply(installed, "default", node, &json!({"registries": [registry]})).await;
    told(
        installed,
        "default",
        &["UpstreamUnreachable", "registry.corp.example"],
    )
    .await;
    delete(installed, "default").await;
}

async fn config_path_unset(installed: &Installation, node: &Node) {
    apply(installed, "default", node, &docker_hub()).await;
    told(installed, "default", &["ConfigPathUnset", node.name()]).await;
    delete(installed, "default").await;
}

async fn two_mirrors_in_conflict(installed: &Installation, node: &Node) {
    apply(installed, "default", node, &docker_hub()).await;
    installed.mirror_ready().await;
    let mut other = docker_hub();
    other["cache"] = json!({"path": "/var/lib/larder/second"});
    let ports = json!({"port": 6117, "adminPort": 6118, "metricsPort": 6119});
    apply_with(installed, "second", node, &other, &ports).await;
    told(installed, "second", &["HostOwned", "default"]).await;
    delete(installed, "second").await;
    // The same ports: the second pod finds no place.
    apply(installed, "second", node, &other).await;
    told(installed, "second", &["PortConflict", "default"]).await;
    delete(installed, "second").await;
    delete(installed, "default").await;
}

async fn disk_full(installed: &Installation, node: &Node) {
    apply(installed, "default", node, &docker_hub()).await;
    installed.cache_ready(node).await;
    node.fill_disk(0).await.unwrap();
    let image = installed.publish("library/full", "1");
    installed.start("full", "library/full:1", node, &image).await;
    told(installed, "default", &["DiskFull", node.name()]).await;
    node.free_disk().await.unwrap();
    installed.mirror_ready().await;
}

fn docker_hub() -> Value {
    json!({"registries": [{"host": "docker.io"}]})
}

async fn apply(installed: &Installation, name: &str, node: &Node, spec: &Value) {
    apply_with(installed, name, node, spec, &json!({})).await;
}

/// Applies a mirror for one node and waits until its document is there.
async fn apply_with(installed: &Installation, name: &str, node: &Node, spec: &Value, more: &Value) {
    let mut on_node = json!({"nodeSelector": {"kubernetes.io/hostname": node.name()}});
    on_node
        .as_object_mut()
        .unwrap()
        .extend(more.as_object().unwrap().clone());
    let mut spec = spec.clone();
    spec["node"] = on_node;
    let mirror = json!({
        "apiVersion": "larder.dev/v1alpha1", "kind": "RegistryMirror", "metadata": {"name": name}, "spec": spec,
    });
    installed
        .shell(&format!("kubectl apply --filename - <<<'{mirror}'"))
        .await;
    let pods = format!(
        "kubectl get pods --namespace larder-system --selector=larder.dev/mirror={name} --output=name"
    );
    installed.until_prints(&pods, |pods| !pods.is_empty()).await;
}

async fn delete(installed: &Installation, name: &str) {
    installed
        .shell(&format!("kubectl delete registrymirror {name} --timeout=120s"))
        .await;
}

/// Waits until the table that people look at holds all of these words in the mirror's row.
async fn told(installed: &Installation, name: &str, words: &[&str]) {
    let row = format!("kubectl get rmir {name} --no-headers --output=wide");
    let has_all = |row: &str| words.iter().all(|word| row.contains(word));
    installed.until_prints(&row, has_all).await;
}
