//! The cache's own disk, and a full one.

use larder_tests::cluster::CACHE_DIR;

use super::*;

const MIB: u64 = 1 << 20;
/// A pod with the cache's directory.
const WRITER: &str = "writer";

pub(crate) async fn a_full_disk_is_full_in_pods(scene: &Scene) {
    let node = scene.cluster.node(3);
    assert!(
        node.fill_disk(0).await.is_err(),
        "this machine's disk must not be filled"
    );
    node.mount_cache_disk(64 * MIB).await.unwrap();
    assert!(node.mount_cache_disk(64 * MIB).await.is_err());
    let writer = HelperPod::new(WRITER, &["wait"]).host_path(CACHE_DIR).on(node);
    scene.cluster.start_pod(&writer).await.unwrap();

    assert!(!is_full(scene, "kept", MIB).await);
    node.fill_disk(4 * MIB).await.unwrap();
    assert!(!is_full(scene, "small", MIB).await);
    assert!(is_full(scene, "large", 4 * MIB).await);
    node.fill_disk(0).await.unwrap();
    assert!(is_full(scene, "tiny", 1).await);
    node.free_disk().await.unwrap();
    assert!(!is_full(scene, "large", 4 * MIB).await);

    node.fill_inodes().await.unwrap();
    assert!(is_full(scene, "new", 1).await);
    assert!(!is_full(scene, "kept", MIB).await);
    node.free_disk().await.unwrap();
    assert!(!is_full(scene, "new", 1).await);
}

/// Whether a pod that writes a file of this size on the cache disk finds no space. Panics when it fails otherwise.
async fn is_full(scene: &Scene, name: &str, bytes: u64) -> bool {
    let (path, bytes) = (format!("{CACHE_DIR}/{name}"), bytes.to_string());
    let written = scene
        .cluster
        .exec(WRITER, &["/helper", "write", &path, &bytes])
        .await;
    let Err(error) = written else { return false };
    let error = format!("{error:#}");
    assert!(error.contains("ENOSPC"), "{error}");
    true
}
