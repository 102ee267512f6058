//! What is read from pods, as kubelet, the scheduler and the DaemonSet's controller write them.

use serde_json::{Value, json};

use super::*;

fn pod(status: &Value) -> Pod {
    let required = json!({"nodeSelectorTerms": [
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node1"]}]},
    ]});
    serde_json::from_value(json!({
        "metadata": {
            "name": "larder-mirror-simple-x7k2p",
            "labels": {"larder.dev/mirror": "simple", "pod-template-generation": "7"},
            "creationTimestamp": "2026-11-21T10:00:00Z",
        },
        "spec": {
            "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}},
            "containers": [
                {"name": "node-config", "ports": [{"name": "metrics", "containerPort": 1}]},
                {"name": "cache", "ports": [
                    {"name": "registry", "containerPort": 5117},
                    {"name": "metrics", "containerPort": 5119},
                ]},
            ],
        },
        "status": status,
    }))
    .unwrap()
}

fn facts(status: &Value) -> PodFacts {
    PodFacts::of(&pod(status)).unwrap()
}

fn trouble(status: &Value) -> Option<(String, String)> {
    facts(status)
        .trouble
        .map(|trouble| (trouble.reason, trouble.message))
}

fn told(reason: &str, message: &str) -> Option<(String, String)> {
    Some((reason.to_owned(), message.to_owned()))
}

#[test]
fn a_pod_that_runs() {
    let status = json!({
        "phase": "Running", "hostIP": "10.0.0.1",
        "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": "True"}],
        "containerStatuses": [
            {"name": "cache", "image": "i", "imageID": "", "ready": true, "restartCount": 3},
            {"name": "node-config", "image": "i", "imageID": "", "ready": true, "restartCount": 1},
        ],
        "initContainerStatuses": [{
            "name": "prepare", "image": "i", "imageID": "", "ready": true, "restartCount": 0,
            "state": {"terminated": {"exitCode": 0, "reason": "Completed"}},
        }],
    });
    let facts = facts(&status);
    assert_eq!((&*facts.mirror, &*facts.node), ("simple", "node1"));
    assert!(facts.is_ready && !facts.is_leaving);
    assert_eq!(facts.template_generation, Some(7));
    assert_eq!(facts.restarts, 4);
    assert_eq!(facts.trouble, None);
    assert_eq!(facts.address, Some("10.0.0.1:5119".parse().unwrap()));
    let mut pod = pod(&status);
    pod.spec.as_mut().unwrap().node_name = Some("node2".to_owned());
    assert_eq!(PodFacts::of(&pod).unwrap().node, "node2");
    pod.status.as_mut().unwrap().host_ip = Some("fd00::7".to_owned());
    assert_eq!(
        PodFacts::of(&pod).unwrap().address,
        Some("[fd00::7]:5119".parse().unwrap())
    );
}

#[test]
fn a_pod_on_its_way_out_is_neither_ready_nor_asked() {
    let status = json!({
        "phase": "Running", "hostIP": "10.0.0.1", "conditions": [{"type": "Ready", "status": "True"}],
    });
    let mut pod = pod(&status);
    pod.metadata.deletion_timestamp = pod.metadata.creation_timestamp.clone();
    let facts = PodFacts::of(&pod).unwrap();
    assert!(facts.is_leaving && !facts.is_ready);
    assert_eq!(facts.address, None);
}

#[test]
fn a_pod_that_cannot_report_is_not_asked() {
    for status in [
        json!({"phase": "Pending", "hostIP": "10.0.0.1"}),
        json!({"phase": "Running"}),
        json!({"phase": "Running", "hostIP": "somewhere"}),
        json!({}),
    ] {
        assert_eq!(facts(&status).address, None, "{status}");
    }
    // The template of the clean-up has no cache.
    let mut pod = pod(&json!({"phase": "Running", "hostIP": "10.0.0.1"}));
    pod.spec.as_mut().unwrap().containers.pop();
    assert_eq!(PodFacts::of(&pod).unwrap().address, None);
}

#[test]
fn a_pod_of_no_mirror_is_none_of_ours() {
    let mut pod = pod(&json!({}));
    pod.metadata.labels = None;
    assert_eq!(PodFacts::of(&pod), None);
}

#[test]
fn a_pod_that_fits_nowhere() {
    let message = "0/5 nodes are available: 1 node(s) didn't have free ports for the requested pod ports, 4 node(s) \
                   didn't match Pod's node affinity/selector. preemption: 0/5 nodes are available: 5 Preemption is not \
                   helpful for scheduling.";
    let unscheduled = json!({"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message},
    ]});
    let expected = "node(s) didn't have free ports for the requested pod ports";
    assert_eq!(trouble(&unscheduled), told("Unschedulable", expected));
    let more_nodes = json!({"phase": "Pending", "conditions": [{
        "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": message.replace("0/5", "0/6").replace("4 node", "5 node"),
    }]});
    assert_eq!(
        trouble(&more_nodes),
        trouble(&unscheduled),
        "other nodes do not matter"
    );
}

fn waiting(reason: &str, message: &str, ready: bool, restarts: i32) -> Value {
    json!({"phase": "Pending", "containerStatuses": [{
        "name": "cache", "image": "larder/cache-node:1", "imageID": "", "ready": ready, "restartCount": restarts,
        "state": {"waiting": {"reason": reason, "message": message}},
        "lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": "no such flag\n"}},
    }]})
}

#[test]
fn an_image_that_cannot_be_pulled_reads_the_same_between_attempts() {
    let cause = "failed to pull: 403 Forbidden";
    let expected = told(
        "ImagePullBackOff",
        &format!("image \"larder/cache-node:1\": {cause}"),
    );
    assert_eq!(trouble(&waiting("ErrImagePull", cause, false, 0)), expected);
    let backing_off = format!("Back-off pulling image \"larder/cache-node:1\": ErrImagePull: {cause}");
    assert_eq!(
        trouble(&waiting("ImagePullBackOff", &backing_off, false, 0)),
        expected
    );
}

#[test]
fn a_container_that_crashes_reads_the_same_between_attempts() {
    let message = "container cache ended with 1 (Error: no such flag) and is restarted again and again";
    let expected = told("CrashLoopBackOff", message);
    for delay in ["10s", "5m0s"] {
        let backing_off = format!("back-off {delay} restarting failed container=cache");
        assert_eq!(
            trouble(&waiting("CrashLoopBackOff", &backing_off, false, 4)),
            expected
        );
    }
    let mut running = waiting("", "", false, 5);
    running["containerStatuses"][0]["state"] = json!({"running": {}});
    assert_eq!(trouble(&running), expected, "it runs, for now");
    running["containerStatuses"][0]["ready"] = json!(true);
    assert_eq!(trouble(&running), None, "it has recovered");
    let mut once = waiting("", "", false, 1);
    once["containerStatuses"][0]["state"] = json!({"running": {}});
    assert_eq!(trouble(&once), None, "once may happen");
}

#[test]
fn a_container_on_its_way_up_is_no_trouble_and_other_obstacles_are() {
    assert_eq!(trouble(&waiting("ContainerCreating", "", false, 0)), None);
    assert_eq!(trouble(&waiting("PodInitializing", "", false, 0)), None);
    let expected = told("CreateContainerError", "container cache: no space");
    assert_eq!(
        trouble(&waiting("CreateContainerError", "no space", false, 0)),
        expected
    );
}

#[test]
fn a_pod_that_was_evicted_or_refused() {
    let status =
        json!({"phase": "Failed", "reason": "Evicted", "message": "The node was low on resource: memory."});
    assert_eq!(
        trouble(&status),
        told("Evicted", "The node was low on resource: memory.")
    );
}
