//! What is written, and that it goes without a trace.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const THEIRS: &str = "# ours\nserver = \"https://theirs.test\"\n\n[host.\"https://mirror.theirs.test\"]\n  ca = \"corp.crt\"\n";

fn aged(path: &Path) {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 987_654_321);
    fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
}

/// A node with everything that may be found on one.
fn found() -> Host {
    let host = Host::new();
    host.put("quay.io", "hosts.toml", THEIRS);
    host.put("quay.io", "corp.crt", "certificate");
    host.put("certs.test", "ca.crt", "certificate");
    fs::create_dir(host.certs.path().join("empty.test")).unwrap();
    host.put("unrelated.test", "hosts.toml", THEIRS);
    let file = host.certs.path().join("quay.io/hosts.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    for path in ["quay.io/hosts.toml", "quay.io", "empty.test", "certs.test", ""] {
        aged(&host.certs.path().join(path));
    }
    host
}

/// Which of two steps came last is lost with a crash between them, so that a directory's time may be.
fn without_times_of_directories(mut snapshot: Snapshot) -> Snapshot {
    for (mode, _, _, modified, _) in snapshot.values_mut() {
        if *mode & 0o170_000 == 0o040_000 {
            *modified = SystemTime::UNIX_EPOCH;
        }
    }
    snapshot
}

const ALL: [&str; 5] = [
    "quay.io",
    "certs.test",
    "empty.test",
    "new.test",
    "port.test:5000",
];

#[tokio::test]
async fn sigterm_leaves_the_node_exactly_as_found() {
    for (existing, foreign) in [("Leave", 2), ("Prepend", 0)] {
        let host = found();
        let before = snapshot(host.certs.path());
        let cache = FakeCache::start(host.state.path());
        let config = mirror(&ALL).set("/node/containerd/existing", existing);
        let keeper = host.keep(&config, &cache.url());
        keeper.until_settled().await;
        let written = ALL
            .iter()
            .filter(|name| host.hosts(name).is_some_and(|text| text.contains(&cache.url())));
        assert_eq!(written.count(), ALL.len() - foreign);
        assert_eq!(keeper.conditions().len(), foreign, "{:?}", keeper.conditions());
        let (status, output) = keeper.terminate().await;
        assert!(status.success(), "{output}");
        assert_eq!(snapshot(host.certs.path()), before, "{existing}");
    }
}

/// Killed at any moment, and started again: nothing is lost, and `--withdraw` finds all of it.
#[tokio::test]
async fn what_a_killed_one_left_is_taken_back_by_the_next() {
    let host = found();
    let before = snapshot(host.certs.path());
    let cache = FakeCache::start(host.state.path());
    let config = mirror(&ALL).set("/node/containerd/existing", "Prepend");
    for _ in 0..4 {
        let keeper = host.keep(&config, &cache.url());
        until("the first file is there", async || {
            host.hosts("quay.io")
                .is_some_and(|text| text.contains(&cache.url()))
        })
        .await;
        keeper.kill9().await;
    }
    // Another pod, with a directory of its own: the state of the one that was killed is not there, if it got that far.
    let _ = fs::remove_file(host.state.path().join("node-config.json"));
    let withdrawing = NodeConfigProcess::start(
        &config,
        &cache.url(),
        host.certs.path(),
        host.state.path(),
        &["--withdraw"],
    );
    withdrawing.until_settled().await;
    let after = without_times_of_directories(snapshot(host.certs.path()));
    assert_eq!(after, without_times_of_directories(before));
    assert!(withdrawing.terminate().await.0.success());
}

#[tokio::test]
async fn the_configuration_is_followed() {
    let host = Host::new();
    let cache = FakeCache::start(host.state.path());
    let keeper = host.keep(&mirror(&["a.test", "b.test"]), &cache.url());
    keeper.until_settled().await;
    assert!(host.hosts("a.test").is_some() && host.hosts("b.test").is_some());
    assert_eq!(keeper.state().unwrap()["generation"], 7);
    keeper.write_config(&mirror(&["b.test", "c.test"]).object(UID, 8));
    until("the new generation is in force", async || {
        keeper
            .state()
            .is_some_and(|state| state["generation"] == 8 && state["settled"] == true)
    })
    .await;
    assert!(host.hosts("a.test").is_none() && host.hosts("c.test").is_some());
}

#[tokio::test]
async fn what_somebody_removes_comes_back_and_is_said_once() {
    let host = Host::new();
    let cache = FakeCache::start(host.state.path());
    let keeper = host.keep(&mirror(&["a.test"]), &cache.url());
    host.until_written("a.test").await;
    fs::remove_dir_all(host.certs.path().join("a.test")).unwrap();
    host.until_written("a.test").await;
    assert_eq!(keeper.output().matches("somebody has changed").count(), 1);
}

#[tokio::test]
async fn two_mirrors_share_a_node() {
    let host = Host::new();
    let second_state = tempfile::tempdir().unwrap();
    let caches = [
        FakeCache::start(host.state.path()),
        FakeCache::start(second_state.path()),
    ];
    let first = host.keep(&mirror(&["both.test", "one.test"]), &caches[0].url());
    first.until_settled().await;
    let config = mirror(&["both.test", "two.test"]).object("11111111-2222-3333-4444-555555555555", 1);
    let second = NodeConfigProcess::start(
        &config,
        &caches[1].url(),
        host.certs.path(),
        second_state.path(),
        &[],
    );
    second
        .until_conditions(&[&format!("HostOwned both.test {UID}")])
        .await;
    second.until_settled().await;
    assert!(host.hosts("both.test").unwrap().contains(&caches[0].url()));
    assert!(host.hosts("two.test").unwrap().contains(&caches[1].url()));
    assert!(first.terminate().await.0.success());
    until("the second takes over", async || {
        host.hosts("both.test")
            .is_some_and(|text| text.contains(&caches[1].url()))
    })
    .await;
    second.until_conditions(&[]).await;
    assert!(second.terminate().await.0.success());
    assert_eq!(fs::read_dir(host.certs.path()).unwrap().count(), 0);
}

/// In a mount namespace of its own: a filesystem that cannot be written to, and one that is full.
#[tokio::test]
async fn a_directory_that_takes_no_files_is_said_once_and_nothing_is_harmed() {
    assert!(rustix::process::geteuid().is_root(), "mounting needs root");
    for (mount, reason) in [
        (
            "mount --bind \"$D\" \"$D\" && mount -o remount,ro,bind \"$D\"",
            "CertsDirReadOnly",
        ),
        ("mount -t tmpfs -o nr_inodes=1 none \"$D\"", "CertsDirUnwritable"),
        (
            "mount -t tmpfs -o size=4k none \"$D\" && head -c 4096 /dev/zero >\"$D/full\"",
            "CertsDirUnwritable",
        ),
    ] {
        let host = Host::new();
        let cache = FakeCache::start(host.state.path());
        let script = format!("D={}; {mount} && exec \"$@\"", host.certs.path().display());
        let wrapper = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            &script,
            "sh",
        ];
        let keeper = NodeConfigProcess::start_under(
            &wrapper,
            &mirror(&["quay.io"]),
            &cache.url(),
            host.certs.path(),
            host.state.path(),
            &[],
        );
        keeper.until_conditions(&[&format!("{reason} quay.io")]).await;
        assert_eq!(
            keeper.state().unwrap()["settled"],
            true,
            "all is done that this node allows"
        );
        let (status, output) = keeper.terminate().await;
        assert!(status.success(), "{output}");
        assert_eq!(output.matches(reason).count(), 1, "{output}");
    }
}

/// containerd's configuration is told from its files, and followed when they change.
#[tokio::test]
async fn the_runtimes_own_configuration_is_judged() {
    let host = Host::new();
    let containerd = tempfile::tempdir().unwrap();
    let cache = FakeCache::start(host.state.path());
    let mount = containerd.path().to_str().unwrap().to_owned();
    let keeper = NodeConfigProcess::start(
        &mirror(&["quay.io"]),
        &cache.url(),
        host.certs.path(),
        host.state.path(),
        &["--containerd-dir", &mount],
    );
    keeper.until_conditions(&["ConfigPathUnset"]).await;
    keeper.until_settled().await;
    assert!(
        host.hosts("quay.io").is_some(),
        "containerd may be configured and restarted at any time"
    );
    let image = "[plugins.'io.containerd.cri.v1.images'.registry]\n";
    let main = containerd.path().join("config.toml");
    fs::write(
        &main,
        format!("version = 3\n{image}config_path = '/opt/certs.d'\n"),
    )
    .unwrap();
    keeper.until_conditions(&["ConfigPathElsewhere"]).await;
    fs::write(&main, "password = 'hunter2'\n= 1").unwrap();
    keeper.until_conditions(&["RuntimeConfigUnreadable"]).await;
    fs::write(
        &main,
        format!("version = 3\n{image}config_path = '/etc/containerd/certs.d'\n"),
    )
    .unwrap();
    keeper.until_conditions(&[]).await;
    assert!(!keeper.output().contains("hunter2"));
}
