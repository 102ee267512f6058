//! Larder as users install it: the README's quick start on a real cluster of three nodes, what pods then see in good and
//! bad times, and nodes that are as found after it is gone. The scenarios share one cluster and run one after another.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "install/changes.rs"]
mod changes;
#[path = "install/faults.rs"]
mod faults;
#[path = "install/leaving.rs"]
mod leaving;
#[path = "install/pulls.rs"]
mod pulls;
#[path = "install/quick_start.rs"]
mod quick_start;
#[path = "install/report.rs"]
mod report;
#[path = "install/scene.rs"]
mod scene;
#[path = "install/snapshot.rs"]
mod snapshot;
#[path = "install/tenancy.rs"]
mod tenancy;

use scene::Scene;
use snapshot::Snapshot;

/// Of the cache disk that one node has, so that it can be filled.
const CACHE_DISK_BYTES: u64 = 256 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn larder_comes_works_and_leaves_no_trace() {
    let scene = Scene::set().await;
    let node = |number| scene.cluster.node(number);
    node(3).mount_cache_disk(CACHE_DISK_BYTES).await.unwrap();
    let before = Snapshot::of_all(&scene.cluster).await;
    scene.measure_without().await;

    quick_start::run(&scene).await;
    good_times(&scene).await;
    bad_times(&scene).await;
    changing_times(&scene).await;
    the_end(&scene, &before).await;
    scene.report.print();
}

async fn good_times(scene: &Scene) {
    let node = |number| scene.cluster.node(number);
    scene
        .step("new image on every node", pulls::go_through_the_caches(scene))
        .await;
    scene
        .step("second pod", pulls::second_pod_asks_nothing(scene, node(1)))
        .await;
    scene
        .step("upstream down", pulls::upstream_down(scene, node(2)))
        .await;
    scene
        .step("content listed", pulls::content_is_listed(scene, node(2)))
        .await;
}

async fn bad_times(scene: &Scene) {
    let node = |number| scene.cluster.node(number);
    scene
        .step("cache pod deleted", faults::cache_pod_deleted(scene, node(1)))
        .await;
    scene
        .step("cache killed", faults::cache_killed(scene, node(1)))
        .await;
    scene
        .step("cache stopped", faults::cache_stopped(scene, node(2)))
        .await;
    scene
        .step(
            "cache stopped in the middle",
            faults::cache_stopped_in_the_middle(scene, node(2)),
        )
        .await;
    scene
        .step("port taken", faults::port_taken_by_a_stranger(scene, node(1)))
        .await;
    scene.step("disk full", faults::disk_full(scene, node(3))).await;
    scene
        .step("operator gone", faults::operator_gone(scene, node(1)))
        .await;
}

async fn changing_times(scene: &Scene) {
    let node = |number| scene.cluster.node(number);
    scene
        .step(
            "registry added and removed",
            changes::registry_added_and_removed(scene),
        )
        .await;
    scene
        .step("Secret rotated", changes::secret_rotation(scene, node(1)))
        .await;
    scene
        .step("pull secrets", tenancy::pull_secrets(scene, node(1)))
        .await;
    scene
        .step(
            "node removed and added",
            changes::node_removed_and_added(scene, node(3)),
        )
        .await;
    scene
        .step(
            "node rebooted",
            faults::node_rebooted_without_our_image(scene, node(2)),
        )
        .await;
    scene
        .step(
            "upgrade during a rollout",
            changes::upgrade_during_a_rollout(scene),
        )
        .await;
}

async fn the_end(scene: &Scene, before: &[Snapshot]) {
    scene
        .step("mirror deleted", leaving::delete_the_mirror(scene, before))
        .await;
    scene.step("uninstalled", leaving::uninstall(scene, before)).await;
    scene.step("installed again", leaving::install_again(scene)).await;
}
