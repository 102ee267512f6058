//! A cluster to try Larder in, until it is taken down: what `make cluster`, `make cluster-status` and
//! `make cluster-down` run.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this program talks to the person who runs it"
)]

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail, ensure};
use larder_tests::cluster::{CLUSTERS_DIR, Cluster, NodeOptions};
use larder_tests::image::architecture;
use larder_tests::larder_image::LarderImage;
use larder_tests::prelude::*;
use larder_tests::real::docker_registry::{DockerRegistry, Options};
use larder_tests::real::tool_set;
use larder_tests::static_program;
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tokio::signal::unix::{SignalKind, signal};

/// Locked while the cluster runs; says where it is once it is ready.
const STATE_FILE: &str = "/var/tmp/larder-clusters/by-hand.json";
/// Name and port by which `docs/examples/cluster.yaml` knows the registry.
const UPSTREAM: (&str, u16) = ("upstream.local", 5000);
/// What the process that holds the cluster says.
const LOG_FILE: &str = "/var/tmp/larder-clusters/by-hand.log";
/// Size of each layer of the large demonstration image.
const LARGE_LAYER_BYTES: usize = 32 << 20;
/// Layers of the large demonstration image.
const LARGE_LAYERS: u64 = 8;

fn main() -> ExitCode {
    match command() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("larder-cluster: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn command() -> Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("up") => up(),
        Some("status") => status(),
        Some("down") => down(),
        Some("hold") => tokio::runtime::Runtime::new()?.block_on(hold()),
        Some("run") => tokio::runtime::Runtime::new()?.block_on(run()),
        _ => bail!("usage: larder-cluster up | status | down | run"),
    }
}

/// Starts the process that holds the cluster, and waits until it is ready.
fn up() -> Result<()> {
    std::fs::create_dir_all(CLUSTERS_DIR)?;
    if state()?.is_none() {
        let mut holder = Command::new("setsid")
            .arg(std::env::current_exe()?)
            .arg("hold")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(File::create(LOG_FILE)?)
            .spawn()?;
        let mut said = String::new();
        BufReader::new(holder.stdout.take().context("no output")?).read_line(&mut said)?;
        ensure!(
            said == "ready\n",
            "the cluster did not start:\n{}",
            std::fs::read_to_string(LOG_FILE)?
        );
    }
    let state = state()?.context("the cluster ended at once")?;
    let text = |name: &str| state[name].as_str().unwrap_or_default().to_owned();
    let (dir, host_ip) = (text("dir"), text("hostIP"));
    let (kubernetes, helm) = (tool_set("kubernetes")?, tool_set("helm")?);
    println!(
        "The cluster is up: three nodes, and a registry with images to pull at http://{host_ip}:{port}, which the nodes\n\
         know as {name}. What to try (docs/cluster.md says more):\n\n\
         export KUBECONFIG={dir}/kubeconfig PATH={}:{}:$PATH\n\
         kubectl get nodes -o wide\n\n\
         # Larder, whose images are on the nodes, and a cache on every node\n\
         kubectl create namespace larder-system\n\
         kubectl label namespace larder-system pod-security.kubernetes.io/enforce=privileged\n\
         helm install larder charts/larder --namespace larder-system --wait\n\
         kubectl apply --filename docs/examples/cluster.yaml\n\
         kubectl wait registrymirror/default --for=condition=Ready --timeout=120s\n\n\
         # ten pods, whose image the registry is asked for once per node\n\
         kubectl create deployment hello --image=registry.local/demo/hello:1 --replicas=10\n\
         kubectl rollout status deployment/hello\n\
         kubectl logs -n larder-system --selector=larder.dev/mirror=default --container=cache --prefix\n\n\
         Its end: make cluster-down",
        kubernetes.display(),
        helm.display(),
        name = UPSTREAM.0,
        port = UPSTREAM.1,
    );
    Ok(())
}

/// Says what runs.
fn status() -> Result<()> {
    let state = state()?.context("no cluster runs; `make cluster` starts one")?;
    let dir = PathBuf::from(state["dir"].as_str().context("no directory")?);
    let machines = state["machines"].as_array().context("no machines")?;
    let memory: u64 = machines.iter().filter_map(Value::as_u64).map(memory_kib).sum();
    println!(
        "directory: {}\nlogs: {}\nmemory: {} MiB\n",
        dir.display(),
        dir.join("logs").display(),
        memory >> 10
    );
    for what in [
        &["nodes", "--output=wide"][..],
        &["pods", "--all-namespaces", "--output=wide"],
    ] {
        let kubectl = tool_set("kubernetes")?.join("kubectl");
        let status = Command::new(kubectl)
            .arg("--kubeconfig")
            .arg(dir.join("kubeconfig"))
            .arg("get")
            .args(what)
            .status()?;
        ensure!(status.success(), "kubectl failed");
        println!();
    }
    Ok(())
}

/// Ends the cluster and waits until nothing is left of it.
fn down() -> Result<()> {
    let Some(state) = state()? else {
        println!("no cluster runs");
        return Ok(());
    };
    let pid = state["pid"]
        .as_i64()
        .and_then(|pid| Pid::from_raw(pid.try_into().ok()?));
    let held = File::open(STATE_FILE)?;
    kill_process(pid.context("no process")?, Signal::TERM)?;
    flock(held, FlockOperation::LockExclusive)?;
    println!("the cluster is down");
    Ok(())
}

/// Where the cluster is, if one runs.
fn state() -> Result<Option<Value>> {
    let Ok(file) = File::open(STATE_FILE) else {
        return Ok(None);
    };
    // Whoever can lock it is alone with an old file.
    if flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
        return Ok(None);
    }
    let state = serde_json::from_reader(file).context("a cluster is starting or ending; try again")?;
    Ok(Some(state))
}

/// Holds the cluster until SIGTERM.
async fn hold() -> Result<()> {
    let mut end = signal(SignalKind::terminate())?;
    let mut state = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(STATE_FILE)?;
    flock(&state, FlockOperation::NonBlockingLockExclusive).context("another cluster is starting")?;
    state.set_len(0)?;
    let cluster = Cluster::start().await?;
    let upstream = upstream(&cluster).await?;
    for image in [LarderImage::cache_node(), LarderImage::operator()] {
        cluster.load_image(&image.build(cluster.dir())?).await?;
    }
    state.write_all(describe(&cluster).await.to_string().as_bytes())?;
    println!("ready");
    end.recv().await;
    drop((cluster, upstream));
    for file in [STATE_FILE, LOG_FILE] {
        std::fs::remove_file(file)?;
    }
    // Where there is no other cluster.
    let _ = std::fs::remove_dir(CLUSTERS_DIR);
    Ok(())
}

/// Runs a cluster of one empty node, of which it tells in one line of JSON, until SIGINT or SIGTERM: one more beside that
/// of `up`, for scripts.
async fn run() -> Result<()> {
    let (mut end, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let cluster = Cluster::with_nodes(&[NodeOptions::default()]).await?;
    println!("{}", describe(&cluster).await);
    tokio::select! {
        _ = end.recv() => {}
        _ = interrupt.recv() => {}
    }
    Ok(())
}

/// Where a cluster is.
async fn describe(cluster: &Cluster) -> Value {
    json!({
        "pid": std::process::id(),
        "dir": cluster.dir(),
        "kubeconfig": cluster.kubeconfig(),
        "hostIP": cluster.host_ip(),
        "machines": cluster.machines().await,
    })
}

/// A registry with two images: a small one, and one of many layers.
async fn upstream(cluster: &Cluster) -> Result<DockerRegistry> {
    cluster.add_host(UPSTREAM.0, cluster.host_ip())?;
    let listen = Some((cluster.host_ip(), UPSTREAM.1).into());
    let registry = DockerRegistry::start(Options {
        listen,
        ..Options::default()
    })
    .await?;
    let image = || {
        ImageBuilder::new()
            .architecture(architecture())
            .program("helper", &static_program::helper())
            .entrypoint(&["/helper"])
            .cmd(&["serve", "0.0.0.0:8080"])
    };
    let large = (0..LARGE_LAYERS).fold(image(), |image, seed| image.random_layer(seed, LARGE_LAYER_BYTES));
    image()
        .build()
        .push_http(&registry.url(), "demo/hello", "1", None)
        .await;
    large
        .build()
        .push_http(&registry.url(), "demo/large", "1", None)
        .await;
    Ok(registry)
}

/// Memory of all processes on a machine, by its first process; shared pages count once among those that share them.
fn memory_kib(first: u64) -> u64 {
    let proc = format!("/proc/{first}/root/proc");
    let processes = std::fs::read_dir(proc).into_iter().flatten().flatten();
    processes
        .filter_map(|process| std::fs::read_to_string(process.path().join("smaps_rollup")).ok())
        .filter_map(|rollup| {
            let line = rollup.lines().find(|line| line.starts_with("Pss:"))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        })
        .sum()
}
