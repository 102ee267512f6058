//! What a pod's own pull secret counts for, once an image is on the node or in its cache. This pins what kubelet does, and
//! docs/security.md tells it.

use larder_tests::cluster::Node;
use serde_json::json;

use crate::scene::Scene;

/// A private image that the mirror's Secret can read is to be had by every pod of the node: one without a pull secret, and
/// one whose pull secret is wrong.
pub(crate) async fn pull_secrets(scene: &Scene, node: &Node) {
    let image = scene.publish("acme/shared", "1");
    scene.start("with-mirror", "acme/shared:1", node, &image).await;
    scene
        .shell("kubectl create secret docker-registry wrong --docker-server=https://index.docker.io/v1/ --docker-username=nobody --docker-password=wrong")
        .await;
    for (name, secrets) in [
        ("without-secret", json!([])),
        ("wrong-secret", json!([{"name": "wrong"}])),
    ] {
        let overrides = json!({"spec": {"nodeName": node.name(), "imagePullSecrets": secrets}});
        scene
            .shell(&format!(
                "kubectl run {name} --image=acme/shared:1 --overrides='{overrides}' && kubectl wait pod/{name} --for=condition=Ready --timeout=60s"
            ))
            .await;
        scene.stop(name).await;
    }
    scene.stop("with-mirror").await;
}
