//! A cluster touches nothing else: not another cluster, and not the machine after its end, however that came.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use larder_tests::cluster::{CACHE_DIR, Cluster, HelperPod, NodeOptions};
use larder_tests::prelude::*;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

/// Size of a disk that only has to be there.
const DISK_BYTES: u64 = 8 << 20;

/// All that belongs to a cluster on this machine: what descends from a process, and what bears the cluster's name.
#[derive(Debug, Default)]
struct Traces {
    /// By process id and start time.
    processes: BTreeSet<(u32, u64)>,
    /// Of those processes, except what this process has too.
    namespaces: BTreeSet<PathBuf>,
    /// Interfaces, cgroups, mounts, loop devices and nftables that name the cluster.
    named: BTreeSet<String>,
}

impl Traces {
    /// `root` is the process that started the cluster in `dir`.
    fn of(root: u32, dir: &Path) -> Self {
        let all = processes();
        let mut family = BTreeSet::from([root]);
        // Parents have lower numbers nearly always; until nothing is added, to be sure.
        while all
            .iter()
            .any(|process| family.contains(&process.parent) && family.insert(process.id))
        {}
        let ours = all.iter().filter(|process| family.contains(&process.id));
        let own = namespaces(std::process::id());
        Self {
            processes: ours
                .clone()
                .map(|process| (process.id, process.started))
                .collect(),
            namespaces: ours
                .flat_map(|process| namespaces(process.id))
                .filter(|id| !own.contains(id))
                .collect(),
            named: named(dir),
        }
    }

    /// Those that are still there.
    fn left(&self, dir: &Path) -> Self {
        let all = processes();
        let used: BTreeSet<PathBuf> = all.iter().flat_map(|process| namespaces(process.id)).collect();
        let living: BTreeSet<(u32, u64)> = all.iter().map(|process| (process.id, process.started)).collect();
        Self {
            processes: self.processes.intersection(&living).copied().collect(),
            namespaces: self.namespaces.intersection(&used).cloned().collect(),
            named: named(dir),
        }
    }

    fn is_empty(&self) -> bool {
        self.processes.is_empty() && self.namespaces.is_empty() && self.named.is_empty()
    }
}

struct Process {
    id: u32,
    parent: u32,
    /// In clock ticks since the machine started.
    started: u64,
}

/// All processes of this machine, from `/proc/PID/stat` (proc_pid_stat(5)).
fn processes() -> Vec<Process> {
    let processes = entries("/proc").into_iter().filter_map(|dir| {
        // A process may end while it is looked at.
        let stat = std::fs::read_to_string(dir.join("stat")).ok()?;
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let id = dir.file_name()?.to_str()?.parse().ok()?;
        Some(Process {
            id,
            parent: fields.get(1)?.parse().ok()?,
            started: fields.get(19)?.parse().ok()?,
        })
    });
    processes.collect()
}

fn namespaces(process: u32) -> BTreeSet<PathBuf> {
    let links = ["net", "mnt", "pid"].map(|kind| std::fs::read_link(format!("/proc/{process}/ns/{kind}")));
    links.into_iter().flatten().collect()
}

/// What bears the name or the directory of the cluster in `dir`, which is named by the cluster's number.
fn named(dir: &Path) -> BTreeSet<String> {
    let number = dir.file_name().unwrap().to_str().unwrap();
    let (interface, cgroup) = (format!("larder{number}"), format!("larder-{number}-"));
    let mut named: BTreeSet<String> = std::iter::once(dir.to_owned())
        .chain(
            entries("/sys/class/net")
                .into_iter()
                .filter(|path| path.ends_with(&interface)),
        )
        .chain(entries("/sys/fs/cgroup"))
        .chain(entries("/sys/fs/cgroup").iter().flat_map(entries))
        .filter(|path| path.try_exists().unwrap())
        .map(|path| path.display().to_string())
        .filter(|path| !path.starts_with("/sys/fs/cgroup") || path.contains(&cgroup))
        .collect();
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let devices = said_by(Command::new("losetup").arg("--all"));
    let tables = said_by(Command::new("nft").args(["list", "tables"]));
    let all = mounts.lines().chain(devices.lines()).chain(tables.lines());
    named.extend(
        all.filter(|line| line.contains(dir.to_str().unwrap()))
            .map(str::to_owned),
    );
    named
}

fn entries(dir: impl AsRef<Path>) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).collect()
}

fn said_by(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_left_when_the_process_that_started_it_is_killed() {
    let mut process = tokio::process::Command::new(env!("CARGO_BIN_EXE_larder-cluster"))
        .arg("run")
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(process.stdout.take().unwrap());
    said.read_line(&mut line).await.unwrap();
    let cluster: Value = serde_json::from_str(&line).unwrap();
    let dir = Path::new(cluster["dir"].as_str().unwrap());
    // A pod on the pod network has namespaces, mounts and a cgroup of its own.
    let kubectl = larder_tests::real::tool("kubernetes", "kubectl").unwrap();
    let kubectl = |arguments: &[&str]| {
        said_by(
            Command::new(&kubectl)
                .arg("--kubeconfig")
                .arg(dir.join("kubeconfig"))
                .args(arguments),
        )
    };
    kubectl(&["run", "pod", "--image=larder.test/helper:1", "--", "wait"]);
    kubectl(&["wait", "pod/pod", "--for=condition=Ready", "--timeout=60s"]);
    let disk = dir.join("disk");
    std::fs::File::create_new(&disk)
        .unwrap()
        .set_len(DISK_BYTES)
        .unwrap();
    said_by(Command::new("mkfs.ext4").arg("-q").arg(&disk));
    let node = cluster["machines"][1].to_string();
    let mut mount = Command::new("nsenter");
    mount.args(["--mount", "--target", &node, "--", "mount", "-o", "loop"]);
    said_by(mount.arg(&disk).arg(CACHE_DIR));
    let traces = Traces::of(process.id().unwrap(), dir);
    // Each machine has three namespaces, and so has the pod.
    assert!(traces.namespaces.len() >= 3 * 3, "{traces:#?}");
    let in_cgroups = |name: &&String| name.starts_with("/sys/fs/cgroup");
    assert!(traces.named.iter().any(|name| in_cgroups(&name)), "{traces:#?}");
    // Beside those, the machine sees the cluster's interface, its directory and the disk, and nothing else.
    let others = traces.named.iter().filter(|name| !in_cgroups(name));
    assert_eq!(others.count(), 3, "{traces:#?}");

    process.kill().await.unwrap();

    until("all traces are gone", async || traces.left(dir).is_empty()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_clusters_at_once_do_not_meet() {
    let nodes = [NodeOptions::default()];
    let (one, other) = tokio::try_join!(Cluster::with_nodes(&nodes), Cluster::with_nodes(&nodes)).unwrap();
    assert_ne!(one.dir(), other.dir());
    assert_ne!(one.host_ip(), other.host_ip());
    // Pods, ports and Services of the same names and addresses are no conflict.
    for (cluster, text) in [(&one, "one"), (&other, "other")] {
        let server = HelperPod::new("server", &["serve", "0.0.0.0:8080", text]);
        cluster.start_pod(&server.host_network()).await.unwrap();
    }
    for (cluster, own, foreign) in [(&one, "one", &other), (&other, "other", &one)] {
        assert_eq!(
            cluster.kubectl(&["get", "nodes", "--output=name"]).await.unwrap(),
            "node/node1"
        );
        let get = |name: &str, url: &str| HelperPod::new(name, &["get", "--timeout", "2", url]);
        let found = cluster
            .run_pod(&get("own", &format!("http://{}:8080/", cluster.node(1).ip())))
            .await
            .unwrap();
        assert!(found.exit_code == 0 && found.output.ends_with(own), "{found:?}");
        let foreign_url = format!("http://{}:8080/", foreign.node(1).ip());
        for pod in [get("pod", &foreign_url), get("host", &foreign_url).host_network()] {
            let met = cluster.run_pod(&pod).await.unwrap();
            assert_ne!(met.exit_code, 0, "{met:?}");
        }
    }
}
