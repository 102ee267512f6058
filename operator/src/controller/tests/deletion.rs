//! How a mirror goes.

use super::*;
use crate::fixtures::Fault;

fn daemon_set() -> String {
    path("daemonsets", "simple")
}

/// What the DaemonSet's controller says of one node.
fn observe(server: &Server, desired: i64) {
    let mut daemon_set = server.get(&path("daemonsets", "simple")).unwrap();
    daemon_set["status"] = json!({
        "observedGeneration": daemon_set["metadata"]["generation"], "desiredNumberScheduled": desired,
        "currentNumberScheduled": desired, "numberReady": 0, "numberMisscheduled": 0,
    });
    server.put(&path("daemonsets", "simple"), daemon_set);
}

/// The pod of a template on the node `worker`.
fn pod(template: i64, is_ready: bool) -> Value {
    json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {"name": format!("pod-{template}"), "namespace": "pantry", "uid": format!("pod-{template}"), "labels": {
            "larder.dev/mirror": "simple", "app.kubernetes.io/component": "cache-node",
            "pod-template-generation": template.to_string(),
        }},
        "spec": {"nodeName": "worker", "containers": [{"name": "node-config"}]},
        "status": {"phase": "Running", "conditions": [
            {"type": "Ready", "status": if is_ready { "True" } else { "False" }}]},
    })
}

fn pod_path(template: i64) -> String {
    format!("/api/v1/namespaces/pantry/pods/pod-{template}")
}

fn node(ready: &str) -> Value {
    json!({"kind": "Node", "apiVersion": "v1", "metadata": {"name": "worker"},
        "status": {"conditions": [{"type": "Ready", "status": ready}]}})
}

/// As a person's `kubectl delete` does it.
fn delete(server: &Server) {
    let mut mirror = server.get(&simple()).unwrap();
    mirror["metadata"]["deletionTimestamp"] = jiff::Timestamp::now().to_string().into();
    server.put(&simple(), mirror);
}

fn is_restoring(server: &Server) -> bool {
    let daemon_set = server.get(&daemon_set());
    daemon_set.is_some_and(|daemon_set| daemon_set["spec"]["template"].to_string().contains("--withdraw"))
}

/// Deletes the mirror, and has the template that restores nodes wanted on so many of them.
async fn restoring_on(server: &Server, nodes: i64) {
    delete(server);
    server.until("it restores", is_restoring).await;
    observe(server, nodes);
}

async fn gone(server: &Server) {
    server
        .until("it is gone", |server| server.get(&simple()).is_none())
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_mirror_goes_when_a_ready_pod_of_the_restoring_template_is_on_its_node() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    server.put("/api/v1/nodes/worker", node("True"));
    observe(&server, 1);
    server.put(&pod_path(1), pod(1, true));
    settle().await;
    restoring_on(&server, 1).await;
    settle().await;
    assert!(
        server.get(&simple()).is_some(),
        "the pod is Ready, but of the former template"
    );
    server.remove(&pod_path(1));
    settle().await;
    assert!(server.get(&simple()).is_some(), "no pod at all");
    server.put(&pod_path(2), pod(2, false));
    settle().await;
    assert!(server.get(&simple()).is_some(), "not Ready");
    server.put(&pod_path(2), pod(2, true));
    gone(&server).await;
    assert_eq!(server.get(&daemon_set()), None);
    let deleted = server
        .asked()
        .into_iter()
        .find(|asked| asked.method == Method::DELETE)
        .unwrap();
    assert_eq!(deleted.path, daemon_set());
    assert_eq!(deleted.body["propagationPolicy"], "Foreground");
}

#[tokio::test(start_paused = true)]
async fn nodes_that_are_down_or_gone_are_not_waited_for() {
    for node in [Some(node("Unknown")), None] {
        let server = server();
        let _leading = server.lead();
        carried_out(&server).await;
        if let Some(node) = node {
            server.put("/api/v1/nodes/worker", node);
        }
        server.put(&pod_path(1), pod(1, false));
        restoring_on(&server, 1).await;
        gone(&server).await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_cannot_end_on_a_dead_node_is_not_waited_for() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    server.put("/api/v1/nodes/worker", node("Unknown"));
    let mut leaving = pod(1, false);
    leaving["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
    server.put(&pod_path(1), leaving);
    restoring_on(&server, 1).await;
    gone(&server).await;
}

#[tokio::test(start_paused = true)]
async fn after_five_minutes_the_rest_is_named_and_the_mirror_let_go() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    server.put("/api/v1/nodes/worker", node("True"));
    server.put(&pod_path(1), pod(1, false));
    restoring_on(&server, 1).await;
    settle().await;
    assert!(server.get(&simple()).is_some());
    // The clock on the wall does not follow fake time: it began long ago.
    let mut began = server.get(&daemon_set()).unwrap();
    let long_ago = jiff::Timestamp::now() - jiff::SignedDuration::from_secs(301);
    began["metadata"]["annotations"]["larder.dev/withdrawing-since"] = long_ago.to_string().into();
    server.put(&daemon_set(), began);
    gone(&server).await;
    let event = server
        .asked()
        .into_iter()
        .find(|asked| asked.method == Method::POST && asked.body["reason"] == "WithdrawalIncomplete")
        .unwrap();
    assert!(
        event.body["note"]
            .as_str()
            .unwrap()
            .contains("not acknowledged by worker"),
        "{event:?}"
    );
    assert_eq!(server.get(&daemon_set()), None);
}

#[tokio::test(start_paused = true)]
async fn the_restoring_pods_are_told_what_the_nodes_have_not_what_the_mirror_says_now() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    let mut changed = server.get(&simple()).unwrap();
    changed["spec"]["cache"] = json!({"path": "/etc/nowhere"});
    server.put(&simple(), changed);
    settle().await;
    delete(&server);
    server.until("it restores", is_restoring).await;
    let template = server.get(&daemon_set()).unwrap()["spec"]["template"].to_string();
    assert!(
        template.contains("/var/lib/larder") && !template.contains("nowhere"),
        "{template}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_namespace_that_goes_is_not_waited_for() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    let cause = Fault::Status(403, "forbidden: it is being terminated", "NamespaceTerminating");
    server.fail(Method::PATCH, &daemon_set(), 9, cause);
    delete(&server);
    gone(&server).await;
}

#[tokio::test(start_paused = true)]
async fn a_mirror_whose_daemon_set_has_gone_goes_too() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    server.fail(Method::PATCH, &daemon_set(), 9, Fault::Status(500, "no", ""));
    server.remove(&daemon_set());
    delete(&server);
    gone(&server).await;
}

#[tokio::test(start_paused = true)]
async fn an_unreadable_mirror_is_withdrawn_by_what_its_nodes_have() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    let mut newer = server.get(&simple()).unwrap();
    newer["spec"] = json!({"registries": [{"host": "quay.io", "mode": "Psychic"}]});
    server.put(&simple(), newer);
    settle().await;
    delete(&server);
    server.until("it restores", is_restoring).await;
}

#[tokio::test(start_paused = true)]
async fn errors_on_the_way_out_are_retried() {
    let server = server();
    let _leading = server.lead();
    carried_out(&server).await;
    server.fail(Method::DELETE, &daemon_set(), 2, Fault::Status(500, "no", ""));
    server.fail(Method::PATCH, &simple(), 2, Fault::Status(409, "modified", ""));
    restoring_on(&server, 0).await;
    gone(&server).await;
}
