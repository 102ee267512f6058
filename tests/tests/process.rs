//! The process: its command line, its listeners, its configuration and how that is changed, and what it tells.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot work must fail the test at once"
)]

#[path = "process/command_line.rs"]
mod command_line;
#[path = "process/conditions.rs"]
mod conditions;
#[path = "process/identity.rs"]
mod identity;
#[path = "process/listeners.rs"]
mod listeners;
#[path = "process/logs.rs"]
mod logs;
#[path = "process/machine.rs"]
mod machine;
#[path = "process/probes.rs"]
mod probes;
#[path = "process/reload.rs"]
mod reload;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::process::{Output, Stdio};
use std::time::Duration;

use cache_node::app::Limits;
use larder_tests::prelude::*;
use tokio::process::{Child, Command};

/// The program, with nothing of this process's environment that it reads.
fn cache_node(arguments: &[&str]) -> Command {
    let mut command = Command::new(larder_tests::program::cache_node());
    command
        .env_clear()
        .args(arguments)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// Runs the program to its end; returns its exit code, standard output and standard error.
async fn run(arguments: &[&str]) -> (i32, String, String) {
    said(cache_node(arguments).output().await.unwrap())
}

fn said(output: Output) -> (i32, String, String) {
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (
        output.status.code().unwrap(),
        text(output.stdout),
        text(output.stderr),
    )
}

/// A node that looks at its files often enough for a test.
async fn attentive_node(config: &MirrorConfig) -> InProcessNode {
    let limits = Limits {
        poll: Duration::from_millis(20),
        ..Limits::default()
    };
    InProcessNode::start(config, limits).await
}

/// What stands on a node: reason, registry and object of each condition.
async fn standing(node: &InProcessNode) -> Vec<(String, String, String)> {
    let report = node.conditions().await;
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let conditions = report["conditions"].as_array().unwrap().iter();
    conditions
        .map(|c| (text(&c["reason"]), text(&c["registry"]), text(&c["object"])))
        .collect()
}

/// Waits until exactly these stand but for what `node-config`, which does not run here, should have said.
async fn until_standing(node: &InProcessNode, expected: &[(&str, &str, &str)]) {
    until(&format!("{expected:?} on the board"), async || {
        let standing = standing(node).await;
        let heard = standing.iter().filter(|(reason, ..)| reason != "NodeConfigStale");
        let heard: BTreeSet<_> = heard
            .map(|(reason, registry, object)| (&reason[..], &registry[..], &object[..]))
            .collect();
        heard == expected.iter().copied().collect()
    })
    .await;
}

/// Starts the program and leaves it running; its output is collected when it ends.
fn spawn(command: &mut Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// An address of `ip` that was free just now.
fn free(ip: &str) -> String {
    TcpListener::bind((ip, 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .to_string()
}

/// Waits until the program is ready at this admin address.
async fn until_ready(admin: &str) {
    until("ready", async || {
        let answer = Call::get(&format!("http://{admin}/readyz")).try_send().await;
        answer.is_ok_and(|answer| answer.status == 200)
    })
    .await;
}

/// The status of a tag's manifest asked of the registry `ns` through the node at `base`.
async fn status(base: &str, ns: &str) -> u16 {
    let url = format!("{base}/v2/acme/app/manifests/v1?ns={ns}");
    Call::get(&url).send().await.status
}

/// A registry with an image at `acme/app:v1`.
async fn registry_with_image() -> FakeRegistry {
    let up = FakeRegistry::builder().start().await;
    ImageBuilder::new().build().push_to(&up, "acme/app", "v1");
    up
}
