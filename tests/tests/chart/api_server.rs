//! The chart on a real API server, in a namespace that holds all pods to Pod Security `restricted`. There are no nodes, because
//! nothing here needs a pod to run, but only to be admitted.

use std::io::Write as _;

use k8s_openapi::api::core::v1::Pod;
use kube::api::ListParams;
use kube::{Api, Client};
use larder_tests::cluster::Cluster;
use larder_tests::prelude::*;
use larder_tests::real::Helm;
use serde_json::json;

use crate::releases::Releases;
use crate::{NAMESPACE, policy, render, rights};

/// One cluster and one release for all, because each takes seconds; the steps follow a release's life.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_chart_on_a_real_api_server() {
    let cluster = Cluster::with_nodes(&[]).await.unwrap();
    let restricted = "pod-security.kubernetes.io/enforce=restricted";
    for arguments in [
        ["create", "namespace", NAMESPACE].as_slice(),
        &["label", "namespace", NAMESPACE, restricted],
    ] {
        cluster.kubectl(arguments).await.unwrap();
    }
    every_object_is_accepted(&cluster).await;

    let helm = Helm::new(cluster.kubeconfig()).unwrap();
    let releases = Releases::new(&cluster, &helm);
    releases.an_upgrade_changes_what_the_older_chart_made().await;
    releases.a_rollback_restores_it().await;
    releases.upgrade().await;
    a_pod_is_made(&cluster.client(), "operator").await;
    rights::the_operators_are_what_it_needs_and_no_more(&cluster).await;
    releases.the_mirror_of_the_notes_is_accepted().await;
    policy::the_operator_is_held_to_its_purpose(&cluster).await;
    releases.a_hook_that_cannot_end_removes_nothing().await;
    a_pod_is_made(&cluster.client(), "cleanup").await;
    let rights = rights::the_hooks_are_the_operators_and_to_delete_mirrors(&cluster);
    releases.while_a_hook_runs(rights).await;
    releases.an_uninstallation_keeps_definitions_and_mirrors().await;
    releases.it_installs_again().await;
}

/// With everything turned on but what needs another project's definitions.
async fn every_object_is_accepted(cluster: &Cluster) {
    let on = json!({"enabled": true});
    let values = json!({
        "caBundle": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
        "podDisruptionBudget": on, "networkPolicy": on, "resourceQuota": on,
    });
    for values in [json!({}), values] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for (_, object) in render(&values).await.iter() {
            writeln!(file, "---\n{object}").unwrap();
        }
        let path = file.path().to_str().unwrap();
        // Field by field: what the API server does not know, it refuses.
        let apply = [
            "apply",
            "--dry-run=server",
            "--validate=strict",
            "--filename",
            path,
        ];
        cluster.kubectl(&apply).await.unwrap();
    }
}

/// Nothing in the namespace keeps the pods of this component from being made.
async fn a_pod_is_made(client: &Client, component: &str) {
    let pods: Api<Pod> = Api::namespaced(client.clone(), NAMESPACE);
    let labelled = format!("app.kubernetes.io/component={component}");
    let labelled = ListParams::default().labels(&labelled);
    until(&format!("a pod of the {component} is made"), async || {
        !pods.list(&labelled).await.unwrap().items.is_empty()
    })
    .await;
}
