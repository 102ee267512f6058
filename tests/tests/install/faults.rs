//! Whatever becomes of a cache, a pod with an image that the node does not have starts about as fast as without Larder,
//! and runs what it should.

use larder_tests::cluster::Node;
use larder_tests::installation::Installation;
use larder_tests::prelude::*;
use larder_tests::static_program;

use crate::scene::Scene;

/// The runtime's port of the default mirror.
const PORT: u16 = 5117;
/// Large and slow enough that a cache can be stopped in the middle of it.
const LARGE_LAYER_BYTES: usize = 48 << 20;
const SLOW_BYTES_PER_S: u64 = 16 << 20;
/// What must have been sent before that counts as the middle.
const MIDDLE_BYTES: u64 = 4 << 20;

pub(crate) async fn cache_pod_deleted(scene: &Scene, node: &Node) {
    scene.cache_ready(node).await;
    let pod = scene.cache_pod(node).await;
    scene
        .shell(&format!(
            "kubectl delete --namespace larder-system --wait=false {pod}"
        ))
        .await;
    scene.start_in_time("deleted", node).await;
    scene.cache_ready(node).await;
}

pub(crate) async fn cache_killed(scene: &Scene, node: &Node) {
    scene.cache_ready(node).await;
    signal_cache(node, "KILL").await;
    scene.start_in_time("killed", node).await;
}

pub(crate) async fn cache_stopped(scene: &Scene, node: &Node) {
    scene.cache_ready(node).await;
    signal_cache(node, "STOP").await;
    scene.start_in_time("stopped", node).await;
}

pub(crate) async fn cache_stopped_in_the_middle(scene: &Scene, node: &Node) {
    scene.cache_ready(node).await;
    let image = scene.publish_large("library/middle", "1", LARGE_LAYER_BYTES);
    node.limit_rate(Some(SLOW_BYTES_PER_S)).await.unwrap();
    // The same pull without a cache that hangs: the other half of this comparison.
    let other = scene.publish_large("library/undisturbed", "1", LARGE_LAYER_BYTES);
    let undisturbed = scene
        .start("undisturbed", "library/undisturbed:1", node, &other)
        .await;
    // The first is the program.
    let layer = &image.layers[1].digest;
    let stop_it = async {
        until("the layer is on its way", async || {
            scene.hub.body_bytes_sent(layer) > MIDDLE_BYTES
        })
        .await;
        signal_cache(node, "STOP").await;
    };
    let (took, ()) = tokio::join!(scene.start("middle", "library/middle:1", node, &image), stop_it);
    node.limit_rate(None).await.unwrap();
    // What the cache had is lost to the runtime at worst, so the transfer may have to be made once more.
    let most = undisturbed * 2 + crate::scene::DELAY_MAX;
    assert!(took <= most, "{took:?}, undisturbed {undisturbed:?}");
    scene.stop("middle").await;
    scene.stop("undisturbed").await;
}

/// A stranger that takes the port while the cache is away answers tags, with images of its own.
pub(crate) async fn port_taken_by_a_stranger(scene: &Scene, node: &Node) {
    let stranger = FakeRegistry::builder()
        .name("stranger")
        .bind(scene.cluster.host_ip().to_string())
        .start()
        .await;
    ImageBuilder::new()
        .random_layer(u64::MAX, 4096)
        .build()
        .push_to(&stranger, "library/taken", "1");
    scene.cache_ready(node).await;
    // Tries until the port is free, which it is for a moment whenever the cache is killed.
    let helper = static_program::helper();
    let listen = format!(
        "{} forward 127.0.0.1:{PORT} {}",
        helper.display(),
        stranger.host()
    );
    let seizing = format!("until {listen}; do :; done");
    let seizing = ["-c", &seizing];
    tokio::select! {
        ended = node.run("bash", &seizing) => panic!("the stranger ended: {ended:?}"),
        () = async {
            until("the stranger has the port", async || {
                signal("KILL", "^/cache-node serve", node).await;
                // Only it answers this.
                node.run("bash", &["-c", &format!("pgrep --full '^{listen}' && ! pgrep --full '^/cache-node serve'")]).await.is_ok()
            })
            .await;
            scene.withdrawn(node).await;
            scene.start_in_time("taken", node).await;
            assert_eq!(stranger.count(on_any_manifest()), 0);
        } => {}
    }
    signal("KILL", "until .* forward", node).await;
    signal("KILL", &format!("^{listen}"), node).await;
    scene.cache_ready(node).await;
}

pub(crate) async fn disk_full(scene: &Scene, node: &Node) {
    scene.cache_ready(node).await;
    node.fill_disk(0).await.unwrap();
    scene.start_in_time("full", node).await;
    let status = "kubectl get rmir default --output=yaml";
    scene.until_prints(status, |said| said.contains("DiskFull")).await;
    node.free_disk().await.unwrap();
    scene.mirror_ready().await;
}

pub(crate) async fn operator_gone(scene: &Scene, node: &Node) {
    let deployment = "kubectl --namespace larder-system scale deployment larder-operator";
    scene.shell(&format!("{deployment} --replicas=0")).await;
    scene.shell("kubectl wait --namespace larder-system pod --selector=app.kubernetes.io/component=operator --for=delete --timeout=60s").await;
    let before = scene.asked_by_runtimes();
    scene.start_in_time("orphaned", node).await;
    assert_eq!(scene.asked_by_runtimes(), before, "the pull went past the cache");
    scene.shell(&format!("{deployment} --replicas=1")).await;
}

/// A node comes back, points its runtime at a cache that cannot start, and pods start nevertheless.
pub(crate) async fn node_rebooted_without_our_image(scene: &Scene, node: &Node) {
    scene.cache_ready(node).await;
    for image in Installation::images() {
        node.remove_image(&image.reference()).await.unwrap();
    }
    node.power_off().await;
    node.power_on().await.unwrap();
    scene.cluster.ready().await.unwrap();
    scene.start_in_time("rebooted", node).await;
    scene.load_images(node).await;
    scene.cache_ready(node).await;
}

async fn signal_cache(node: &Node, name: &str) {
    signal(name, "^/cache-node serve", node).await;
}

/// Sends a signal to the node's processes whose command line matches, if there are any.
async fn signal(name: &str, command_line: &str, node: &Node) {
    let found = node
        .run("pgrep", &["--full", command_line])
        .await
        .unwrap_or_default();
    for pid in found.split_whitespace() {
        // It may have ended by itself since.
        let _ = node.run("kill", &[&format!("-{name}"), pid]).await;
    }
}
