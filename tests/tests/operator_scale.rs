//! The operator with 5,000 nodes: what it needs, how soon it tells, and how much it writes. The API server is real; nodes
//! and pods are objects that the test makes, and one responder answers for all their caches.

#![expect(
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "helpers of tests fail as tests do, and the figures are the point"
)]

#[path = "operator_scale/caches.rs"]
mod caches;
#[path = "operator_scale/fleet.rs"]
mod fleet;
#[path = "operator_scale/history.rs"]
mod history;

use std::time::{Duration, Instant};

use kube::api::{Patch, PatchParams};
use larder_tests::cluster::{Cluster, Program};
use larder_tests::{static_program, wait::until};
use serde_json::json;

use caches::Caches;
use fleet::Fleet;
use history::History;

const NODES: usize = 5_000;
const FLAPPING: usize = 500;
const ROUNDS: usize = 4;
const NAMESPACE: &str = "larder-system";
const MIRROR: &str = "simple";

/// What the operator may need at most.
const MEMORY_BYTES_MAX: u64 = 120 << 20;
/// How soon a change must be in the status.
const TOLD_WITHIN: Duration = Duration::from_secs(10);
/// How soon what only the caches know must be there too: they are asked once in 25 s.
const TOLD_WITHIN_OF_CACHES: Duration = Duration::from_secs(35);
/// At most one status write in this time.
const WRITE_EVERY: Duration = Duration::from_secs(5);

fn start_operator(cluster: &Cluster, log: &str) -> Program {
    let arguments = [
        "run",
        "--identity=operator-0",
        "--admin=127.0.0.1:8080",
        &format!("--namespace={NAMESPACE}"),
        "--cache-node-image=larder.test/cache-node:1",
    ];
    cluster.run(log, &static_program::operator(), &arguments).unwrap()
}

/// Waits for a status, and tells how long it took.
async fn told(
    history: &History,
    what: &str,
    since: Instant,
    is_so: impl Fn(&serde_json::Value) -> bool,
) -> Duration {
    history.until(what, is_so).await;
    let took = since.elapsed();
    eprintln!("{what}: {:.1} s", took.as_secs_f64());
    took
}

fn memory(operator: &Program, when: &str) {
    let bytes = operator.memory_bytes_max().unwrap();
    eprintln!("memory {when}: {} MiB", bytes >> 20);
    assert!(bytes < MEMORY_BYTES_MAX, "{bytes} bytes {when}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_thousand_nodes() {
    let cluster = Cluster::simulated().await.unwrap();
    let fleet = Fleet::prepare(&cluster).await;
    let caches = Caches::start(&cluster).await;
    let operator = start_operator(&cluster, "operator-first");
    let started = Instant::now();
    let mirror = fleet.create_mirror().await;
    caches.work_for(&mirror);
    let history = History::watch(cluster.client(), MIRROR);
    let daemon_set = fleet.daemon_set().await;

    let created = Instant::now();
    fleet.roll_out(&daemon_set, NODES).await;
    eprintln!(
        "{NODES} nodes and pods made and ready: {:.1} s",
        created.elapsed().as_secs_f64()
    );
    told(&history, "rolled out", Instant::now(), |status| {
        is_whole(status) && status["nodes"]["updated"] == NODES && history::ready(status) == "True"
    })
    .await;
    memory(&operator, "after the rollout");

    flap(&fleet, &history).await;
    change_what_caches_say(&fleet, &caches, &history).await;
    memory(&operator, "at the end of the first operator");
    drop(operator);
    history.assert_writes_apart(WRITE_EVERY, started.elapsed());
    restart(&cluster, &fleet, &caches, &history).await;
}

fn is_whole(status: &serde_json::Value) -> bool {
    status["nodes"]["summary"] == format!("{NODES}/{NODES}")
}

/// Many pods go down and come up again, all at once.
async fn flap(fleet: &Fleet, history: &History) {
    for round in 1..=ROUNDS {
        fleet.set_ready(0..FLAPPING, false).await;
        let fewer = format!("{}/{NODES}", NODES - FLAPPING);
        let what = format!("round {round}, {FLAPPING} pods down");
        let down = told(history, &what, Instant::now(), |status| {
            status["nodes"]["summary"] == *fewer
        })
        .await;
        fleet.set_ready(0..FLAPPING, true).await;
        let what = format!("round {round}, {FLAPPING} pods up");
        let up = told(history, &what, Instant::now(), is_whole).await;
        assert!(down < TOLD_WITHIN && up < TOLD_WITHIN, "{down:?}, {up:?}");
    }
}

/// Nothing happens to pods, but caches report something else.
async fn change_what_caches_say(fleet: &Fleet, caches: &Caches, history: &History) {
    caches.report(&fleet::ip(7), "DiskFull");
    let since = Instant::now();
    let full = told(history, "a full disk", since, |status| {
        status["laggingNodes"][0]["name"] == *fleet::node(7)
            && status["laggingNodes"][0]["reason"] == "DiskFull"
    })
    .await;
    assert!(full < TOLD_WITHIN_OF_CACHES, "{full:?}");
    caches.clear();
    told(history, "the disk has room", Instant::now(), |status| {
        history::ready(status) == "True"
    })
    .await;

    let merge = Patch::Merge(json!({"spec": {"registries": [{"host": "docker.io"}, {"host": "quay.io"}]}}));
    fleet
        .mirrors()
        .patch(MIRROR, &PatchParams::default(), &merge)
        .await
        .unwrap();
    caches.load_generation(2);
    let since = Instant::now();
    let loaded = told(history, "a new generation", since, |status| {
        status["observedGeneration"] == 2 && status["nodes"]["updated"] == NODES
    })
    .await;
    assert!(loaded < TOLD_WITHIN_OF_CACHES, "{loaded:?}");
}

/// Another operator takes over: it has nothing new to say, until there is.
async fn restart(cluster: &Cluster, fleet: &Fleet, caches: &Caches, history: &History) {
    let before = (history.writes(), caches.polls());
    let restarted = Instant::now();
    let operator = start_operator(cluster, "operator-second");
    until("the new operator has asked every node", async || {
        caches.polls() - before.1 >= NODES
    })
    .await;
    eprintln!(
        "a new operator has asked everybody: {:.1} s",
        restarted.elapsed().as_secs_f64()
    );
    assert_eq!(history.writes(), before.0, "there is nothing new");
    fleet.set_ready(0..1, false).await;
    let fewer = format!("{}/{NODES}", NODES - 1);
    let since = Instant::now();
    let down = told(history, "one pod down", since, |status| {
        status["nodes"]["summary"] == *fewer
    })
    .await;
    assert!(down < TOLD_WITHIN, "{down:?}");
    memory(&operator, "of the second operator");
}
