//! The cluster library does what it says.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use larder_tests::cluster::{Cluster, HelperPod, KUBERNETES_VARIABLE, NAMESPACE};
use larder_tests::prelude::*;

/// The minor of Kubernetes that is run unless [`KUBERNETES_VARIABLE`] names another.
const MINOR: &str = "1.36";

/// One cluster for all that looks and changes nothing that others would see.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_pods_services_and_names_are_those_of_a_real_cluster() {
    let cluster = Cluster::start().await.unwrap();
    nodes_are_of_the_release_that_was_asked_for(&cluster).await;
    pods_and_services_are_reached_across_nodes(&cluster).await;
    the_loopback_is_the_nodes_own(&cluster).await;
    names_are_those_of_the_nodes_hosts_file(&cluster).await;
    namespaces_are_held_to_baseline_unless_a_label_says_otherwise(&cluster).await;
    a_failure_keeps_the_logs_and_nothing_else(cluster).await;
}

async fn nodes_are_of_the_release_that_was_asked_for(cluster: &Cluster) {
    let names: Vec<&str> = cluster.nodes().iter().map(|node| node.name()).collect();
    assert_eq!(names, ["node1", "node2", "node3"]);
    let set = std::env::var(KUBERNETES_VARIABLE).unwrap_or_default();
    let release = format!("v{}.", set.strip_prefix("kubernetes-").unwrap_or(MINOR));
    let api_server = cluster.client().apiserver_version().await.unwrap().git_version;
    assert!(api_server.starts_with(&release), "{api_server}");
    let kubelets = [
        "get",
        "nodes",
        "--output=jsonpath={.items[*].status.nodeInfo.kubeletVersion}",
    ];
    assert_eq!(
        cluster.kubectl(&kubelets).await.unwrap(),
        [&*api_server; 3].join(" ")
    );
}

/// A server on the pod network of one node, by its own address and by a Service's, from the others.
async fn pods_and_services_are_reached_across_nodes(cluster: &Cluster) {
    let server = HelperPod::new("server", &["serve", "0.0.0.0:8080", "hello"]).on(cluster.node(1));
    let address = cluster.start_pod(&server).await.unwrap();
    let expose = ["expose", "pod", "server", "--port=80", "--target-port=8080"];
    cluster.kubectl(&expose).await.unwrap();
    let service = ["get", "service", "server", "--output=jsonpath={.spec.clusterIP}"];
    let service = cluster.kubectl(&service).await.unwrap();
    for url in [format!("http://{address}:8080/"), format!("http://{service}/")] {
        let client = HelperPod::new("client", &["get", &url]);
        let on_host = client.clone().on(cluster.node(3)).host_network();
        for client in [client.on(cluster.node(2)), on_host] {
            let finished = cluster.run_pod(&client).await.unwrap();
            assert!(
                finished.exit_code == 0 && finished.output.ends_with("hello"),
                "{url}: {finished:?}"
            );
        }
    }
    let in_pod = ["/helper", "get", "http://127.0.0.1:8080/"];
    assert!(cluster.exec("server", &in_pod).await.unwrap().ends_with("hello"));
    until("Kubernetes tells that the server was started", async || {
        let events = cluster.events(NAMESPACE).await.unwrap();
        events.iter().any(|event| {
            event.reason.as_deref() == Some("Started")
                && event.involved_object.name.as_deref() == Some("server")
        })
    })
    .await;
}

async fn the_loopback_is_the_nodes_own(cluster: &Cluster) {
    let server = HelperPod::new("on-host", &["serve", "127.0.0.1:8081", "mine"]);
    let server = server.on(cluster.node(2)).host_network();
    assert_eq!(
        cluster.start_pod(&server).await.unwrap(),
        cluster.node(2).ip().to_string()
    );
    for (number, reached) in [(2, true), (3, false)] {
        let client = HelperPod::new("client", &["get", "http://127.0.0.1:8081/"]);
        let client = client.on(cluster.node(number)).host_network();
        let finished = cluster.run_pod(&client).await.unwrap();
        assert_eq!(finished.exit_code == 0, reached, "node{number}: {finished:?}");
    }
}

async fn names_are_those_of_the_nodes_hosts_file(cluster: &Cluster) {
    let ip = cluster.host_ip();
    cluster.add_host("everywhere.example", ip).unwrap();
    cluster.node(3).add_host("there.example", ip).unwrap();
    for (number, name, known) in [
        (1, "everywhere.example", true),
        (3, "there.example", true),
        (1, "there.example", false),
    ] {
        let lookup = HelperPod::new("lookup", &["lookup", name])
            .on(cluster.node(number))
            .host_network();
        let finished = cluster.run_pod(&lookup).await.unwrap();
        assert_eq!(
            finished.output.contains(&ip.to_string()),
            known,
            "{name} on node{number}: {finished:?}"
        );
    }
}

async fn namespaces_are_held_to_baseline_unless_a_label_says_otherwise(cluster: &Cluster) {
    cluster
        .kubectl(&["create", "namespace", "unlabelled"])
        .await
        .unwrap();
    let on_host = r#"--overrides={"spec": {"hostNetwork": true, "automountServiceAccountToken": false}}"#;
    for (namespace, refused) in [("unlabelled", true), (NAMESPACE, false), ("kube-system", false)] {
        let pod = [
            "run",
            "careless",
            "--image=none",
            "--dry-run=server",
            on_host,
            "--namespace",
            namespace,
        ];
        until("the namespace has its service account", async || {
            let accounts = ["get", "serviceaccount", "default", "--namespace", namespace];
            cluster.kubectl(&accounts).await.is_ok()
        })
        .await;
        let run = cluster.kubectl(&pod).await;
        let baseline = run.as_ref().is_err_and(|error| {
            error
                .to_string()
                .contains(r#"violates PodSecurity "baseline:latest""#)
        });
        assert_eq!(
            (run.is_err(), baseline),
            (refused, refused),
            "{namespace}: {run:?}"
        );
    }
}

async fn a_failure_keeps_the_logs_and_nothing_else(cluster: Cluster) {
    let (dir, logs) = (cluster.dir().to_owned(), cluster.logs());
    let failed = tokio::spawn(async { panic!("as a test does that fails") }).await;
    assert!(failed.is_err());
    drop(cluster);
    let mut left: Vec<_> = std::fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    left.sort();
    assert_eq!(left, ["keep-logs", "logs"]);
    for log in [
        "etcd",
        "kube-apiserver",
        "node1-containerd",
        "node2-kubelet",
        "node3-kube-proxy",
    ] {
        let log = std::fs::metadata(logs.join(format!("{log}.log"))).unwrap();
        assert!(log.len() > 0);
    }
    std::fs::remove_dir_all(dir).unwrap();
}
