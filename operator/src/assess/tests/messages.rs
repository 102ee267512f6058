//! For each thing that goes wrong, what `kubectl get rmir` shows.

use super::*;
use larder_crds::report::Reason;

/// Ready must be False for this reason, its message hold these words, and the nodes be so many.
fn assert_told(world: &World, reason: &str, words: &[&str], summary: &str) {
    let status = world.status();
    let ready = find(&status, "Ready").unwrap();
    assert_eq!(
        (&*ready.status, &*ready.reason),
        ("False", reason),
        "{}",
        ready.message
    );
    for word in words {
        assert!(
            ready.message.contains(word),
            "{word:?} is not in {:?}",
            ready.message
        );
    }
    assert_eq!(status.nodes.summary, summary);
    let degraded = find(&status, "Degraded").unwrap();
    assert_eq!((&*degraded.status, &degraded.message), ("True", &ready.message));
}

#[test]
fn a_missing_secret() {
    let missing = [("CredentialsMissing", "docker.io", "hub")];
    let world = World::of(3).with(1, &missing).with(3, &missing);
    let message = "2 of 3 nodes: Secret \"hub\" for docker.io is missing in namespace larder-system or has none of the \
                   keys .dockerconfigjson, username and password, token; create it with: kubectl create secret \
                   docker-registry hub --namespace larder-system --docker-username=USER --docker-password=PASSWORD";
    let status = world.status();
    assert_eq!(
        shown(&status, "Ready"),
        format!("False CredentialsMissing: {message}")
    );
    assert_eq!(
        shown(&status, "CredentialsResolved"),
        format!("False CredentialsMissing: {message}")
    );
    assert!(shown(&status, "NodesConfigured").starts_with("True"));
    assert_eq!(status.nodes.summary, "3/3", "the other registries work");
    let assessed = world.assess_after(Some(&World::of(3).status()), LATER);
    assert_eq!(
        notices(&assessed),
        [(true, "CredentialsMissing")],
        "once, though two conditions say it"
    );
    let elsewhere = World::of(1).with(1, &[("CredentialsMissing", "r.corp:5000", "corp")]);
    assert_told(
        &elsewhere,
        "CredentialsMissing",
        &["--docker-server=r.corp:5000 "],
        "1/1",
    );
}

#[test]
fn wrong_credentials() {
    let world = World::of(1).with(1, &[("CredentialsRefused", "docker.io", "hub")]);
    let words = ["1 of 1 nodes (node1): docker.io refuses the credentials of Secret \"hub\""];
    assert_told(&world, "CredentialsRefused", &words, "1/1");
    assert!(shown(&world.status(), "CredentialsResolved").starts_with("False CredentialsRefused"));
}

#[test]
fn an_upstream_that_does_not_answer() {
    let world = World::of(1).with(1, &[("UpstreamUnreachable", "quay.io", "")]);
    assert_told(
        &world,
        "UpstreamUnreachable",
        &["quay.io", "do not answer"],
        "1/1",
    );
}

#[test]
fn config_path_unset() {
    let world = World::of(2).with(2, &[("ConfigPathUnset", "", "")]);
    let words = [
        "(node2)",
        "set config_path = \"/etc/containerd/certs.d\"",
        "restart",
    ];
    assert_told(&world, "ConfigPathUnset", &words, "1/2");
    assert!(shown(&world.status(), "NodesConfigured").starts_with("False ConfigPathUnset"));
}

#[test]
fn two_mirrors_that_want_the_same_registry() {
    let mut world = World::of(1).with(1, &[("HostOwned", "docker.io", "uid-2")]);
    world.others = vec![Arc::new(mirror("other", "uid-2")), Arc::new(world.mirror.clone())];
    let words = [
        "mirrors \"simple\" and \"other\" both serve docker.io",
        "\"other\" was first",
    ];
    assert_told(&world, "HostOwned", &words, "1/1");
    world.others.clear();
    assert_told(&world, "HostOwned", &["another mirror, with UID uid-2,"], "1/1");
}

#[test]
fn two_mirrors_that_want_the_same_port() {
    let message = "node(s) didn't have free ports for the requested pod ports";
    let mut world = World::of(2).with_trouble(1, "Unschedulable", message);
    assert_told(
        &world,
        "PortConflict",
        &["another pod has one of the ports 5117, 5118, 5119"],
        "1/2",
    );
    let mut elsewhere = mirror("elsewhere", "uid-3");
    (
        elsewhere.spec.node.port,
        elsewhere.spec.node.admin_port,
        elsewhere.spec.node.metrics_port,
    ) = (1, 2, 3);
    world.others = vec![
        Arc::new(elsewhere),
        Arc::new(mirror("other", "uid-2")),
        Arc::new(world.mirror.clone()),
    ];
    assert_told(
        &world,
        "PortConflict",
        &["mirrors \"simple\" and \"other\" both want ports"],
        "1/2",
    );
}

#[test]
fn a_full_disk_on_one_node() {
    let world = World::of(3).with(2, &[("DiskFull", "", "")]);
    assert_told(
        &world,
        "DiskFull",
        &["1 of 3 nodes (node2): the disk of /var/lib/larder"],
        "3/3",
    );
    let lagging = &world.status().lagging_nodes;
    assert_eq!(lagging.len(), 1);
    assert_eq!((&*lagging[0].name, &*lagging[0].reason), ("node2", "DiskFull"));
}

#[test]
fn pods_that_cannot_be_created() {
    let mut world = World::of(0);
    world.daemon_set = Some(daemon_set(2));
    world.failed_creation = Some(
        "Error creating: pods \"larder-mirror-simple-x7k2p\" is forbidden: violates PodSecurity \
         \"baseline:latest\": host namespaces (hostNetwork=true)",
    );
    let words = [
        "pods cannot be created: violates PodSecurity",
        "enforce=privileged",
    ];
    assert_told(&world, "FailedCreate", &words, "0/2");
    assert!(
        !shown(&world.status(), "Ready").contains("x7k2p"),
        "each attempt has another name"
    );
    world.failed_creation =
        Some("Error creating: pods \"a\" is forbidden: exceeded quota: q, requested: pods=1");
    assert_told(
        &world,
        "FailedCreate",
        &["exceeded quota: q", "ResourceQuota"],
        "0/2",
    );
    world.failed_creation = Some("Error creating: Internal error occurred");
    assert_told(
        &world,
        "FailedCreate",
        &["pods cannot be created: Internal error occurred"],
        "0/2",
    );
}

#[test]
fn pods_that_do_not_run() {
    let world = World::of(3).with_trouble(1, "ImagePullBackOff", "image \"x/y:1\": 403 Forbidden");
    assert_told(
        &world,
        "ImagePullBackOff",
        &["cannot be pulled: image \"x/y:1\": 403"],
        "2/3",
    );
    let world = World::of(3).with_trouble(1, "CrashLoopBackOff", "container cache ended with 1 (Error)");
    assert_told(
        &world,
        "CrashLoopBackOff",
        &["container cache ended with 1"],
        "2/3",
    );
    let world = World::of(3).with_trouble(1, "Unschedulable", "Insufficient memory");
    assert_told(
        &world,
        "Unschedulable",
        &["cannot be scheduled: Insufficient memory"],
        "2/3",
    );
}

#[test]
fn nodes_that_do_not_answer() {
    let unreachable = || Answer::Unreachable("10.0.0.1:5119".to_owned());
    let world = World::of(2).without_report(1, true, unreachable());
    assert_told(&world, "NodeUnreachable", &["10.0.0.1:5119", "port 5119"], "2/2");
    let world = World::of(2).without_report(1, false, unreachable());
    assert_told(
        &world,
        "PodNotReady",
        &["kubectl describe pods", "larder.dev/mirror=simple"],
        "1/2",
    );
    let mut world = World::of(2).with_trouble(1, "CrashLoopBackOff", "ended");
    world.survey.nodes[0].answer = unreachable();
    assert!(!shown(&world.status(), "Ready").contains("NodeUnreachable"));
}

#[test]
fn what_most_nodes_have_comes_first_and_the_rest_is_named() {
    let world = World::of(3)
        .with(1, &[("RateLimited", "docker.io", ""), ("DiskFull", "", "")])
        .with(
            2,
            &[("RateLimited", "docker.io", ""), ("RateLimited", "quay.io", "")],
        )
        .with(
            3,
            &[
                ("CredentialsMissing", "docker.io", "hub"),
                ("ForeignHosts", "quay.io", ""),
            ],
        );
    let status = world.status();
    let ready = shown(&status, "Ready");
    assert!(
        ready.starts_with("False RateLimited: 2 of 3 nodes: docker.io limits requests"),
        "{ready}"
    );
    let also = "; also CredentialsMissing (docker.io) on 1; also RateLimited (quay.io) on 1; also DiskFull on 1; and more";
    assert!(ready.ends_with(also), "{ready}");
    let reasons: Vec<_> = status.lagging_nodes.iter().map(|node| &*node.reason).collect();
    assert_eq!(reasons, ["RateLimited", "RateLimited", "CredentialsMissing"]);
    assert!(status.lagging_nodes[0].message.ends_with("; also DiskFull"));
}

#[test]
fn every_known_reason_has_a_sentence_of_its_own_that_fits() {
    for reason in Reason::ALL {
        let long = format!("{}.example", "r".repeat(245));
        let world = World::of(1).with(1, &[(reason.as_str(), &long, &long)]);
        let status = world.status();
        let ready = find(&status, "Ready").unwrap();
        assert_eq!(ready.reason, reason.as_str());
        assert!(!ready.message.contains("nodes report"), "{}", ready.message);
        assert!(ready.message.len() <= MESSAGE_BYTES_MAX);
        assert!(status.lagging_nodes[0].message.len() <= MESSAGE_BYTES_MAX);
    }
}

#[test]
fn a_reason_of_a_newer_node_is_shown_as_it_is() {
    let world = World::of(1).with(1, &[("MoonPhaseWrong", "quay.io", "")]);
    assert_told(
        &world,
        "MoonPhaseWrong",
        &["nodes report MoonPhaseWrong (quay.io)"],
        "1/1",
    );
}

#[test]
fn whatever_a_stranger_reports_makes_a_valid_status() {
    let hostile = format!("\u{7}4 x\n{}", "é".repeat(2_000));
    let world = World::of(1).with(1, &[(&hostile, &hostile, &hostile)]);
    let status = world.status();
    let ready = find(&status, "Ready").unwrap();
    assert_eq!(ready.reason, "Unknown4x");
    assert!(ready.message.len() <= MESSAGE_BYTES_MAX && !ready.message.contains('\n'));
    let lagging = &status.lagging_nodes[0];
    assert!(lagging.reason.len() <= 64 && lagging.message.len() <= MESSAGE_BYTES_MAX);
}

#[test]
fn reasons_do_not_hold_up_a_rollout() {
    let findings = Reason::ALL.map(|reason| (reason.as_str(), "docker.io", "hub"));
    let world = World::of(1).with(1, &findings);
    assert_eq!(world.status().nodes.updated, 1);
}
