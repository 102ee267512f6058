//! The socket: whose it is, where it is, and when it goes.

use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};

use super::*;

const SOCKET: &str = "control.sock";
/// Nobody's user on Debian and elsewhere.
const ANOTHER_USER: u32 = 65_534;

/// Needs root, to become somebody else.
#[tokio::test]
async fn nobody_else_can_connect() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("cache");
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    // The directories that lead to the program may be closed to others.
    let copy = dir.path().join("cache-node");
    fs::copy(program::cache_node(), &copy).unwrap();
    let _node = NodeProcess::builder().cache_dir(&cache).start().await;
    let metadata = fs::metadata(cache.join(SOCKET)).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(metadata.mode() & 0o7777, 0o600);
    let as_user = |uid| {
        let mut command = Command::new(&copy);
        command
            .env_clear()
            .args(["store", "stat", "--cache-dir"])
            .arg(&cache)
            .uid(uid)
            .gid(uid);
        command
    };
    let said = run(&mut as_user(ANOTHER_USER)).await.bad();
    assert_eq!(
        said,
        "cannot connect to control.sock: Permission denied (os error 13)\n"
    );
    run(&mut as_user(0)).await.good();
}

#[tokio::test]
async fn the_socket_goes_with_its_process_and_a_dead_ones_is_replaced() {
    let up = FakeRegistry::builder().start().await;
    let mut node = NodeProcess::start(&mirror(&up)).await;
    let socket = node.cache_dir().join(SOCKET);
    node.kill9().await;
    assert!(socket.try_exists().unwrap(), "nobody was there to remove it");
    assert_eq!(ask(node.cache_dir(), &["stat"]).await["live"], false);
    node.launch().await;
    assert_eq!(ask(node.cache_dir(), &["stat"]).await["live"], true);
    node.terminate().await;
    assert!(!socket.try_exists().unwrap());
    let left: Vec<_> = fs::read_dir(node.cache_dir().join("tmp")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_long_path_is_no_hindrance() {
    let dir = tempfile::tempdir().unwrap();
    let cache = dir.path().join("d".repeat(200)).join("cache");
    let _node = NodeProcess::builder().cache_dir(&cache).start().await;
    assert_eq!(ask(&cache, &["stat"]).await["live"], true);
}

/// Needs root. What root makes in a stopped cache belongs to the cache's user.
#[tokio::test]
async fn root_works_as_the_caches_user() {
    let scene = Scene::start(true).await;
    let dir = tempfile::tempdir().unwrap();
    let (cache, file) = (dir.path().join("cache"), dir.path().join("images.tar"));
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(&cache).unwrap();
    std::os::unix::fs::chown(&cache, Some(ANOTHER_USER), Some(ANOTHER_USER)).unwrap();
    tell(scene.cache(), &["export", file.to_str().unwrap()])
        .await
        .good();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    tell(&cache, &["import", file.to_str().unwrap()]).await.good();
    let mut folders = vec![cache.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let (path, metadata) = entry
                .map(|entry| (entry.path(), entry.metadata().unwrap()))
                .unwrap();
            assert_eq!(metadata.uid(), ANOTHER_USER, "{}", path.display());
            folders.extend(metadata.is_dir().then_some(path));
        }
    }
    let expected = sorted([all_of(&scene.app), all_of(&scene.tool)].concat());
    assert_eq!(listed(&cache, &[]).await, expected);
}

/// What changes a store is not to be had over TCP.
#[tokio::test]
async fn no_listener_knows_the_tools() {
    let node = NodeProcess::builder().start().await;
    for base in [node.url(), node.admin_url(), node.metrics_url()] {
        let call = Call::new("POST", &format!("{base}/v1/operations")).body("\"stat\"\n");
        let status = call.send().await.status;
        assert!(matches!(status, 404 | 405), "{base}: {status}");
    }
}

#[tokio::test]
async fn a_cache_that_dies_meanwhile_is_said() {
    let (mut node, _) = node_with_large_image().await;
    // Nobody reads the pipe, so the export is under way until the end.
    let mut command = store(node.cache_dir(), &["export", "-"]);
    let mut export = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 512];
    let out = export.stdout.as_mut().unwrap();
    tokio::io::AsyncReadExt::read_exact(out, &mut first)
        .await
        .unwrap();
    node.kill9().await;
    let output = export.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        (output.status.code(), said.as_str()),
        (Some(1), "the cache has ended before it was done\n")
    );
}
