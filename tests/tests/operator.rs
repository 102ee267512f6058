//! The operator's program against a real control plane, with exactly the rights that the chart gives it. There are no
//! kubelets: the test does what they would do.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

#[path = "operator/leaving.rs"]
mod leaving;
#[path = "operator/rights.rs"]
mod rights;
#[path = "operator/scene.rs"]
mod scene;

use std::time::{Duration, Instant};

use anyhow::Result;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams};
use larder_tests::operator::OperatorProcess;
use larder_tests::prelude::*;
use scene::{NAME, NAMESPACE, Scene, spec};
use serde_json::json;

/// How long mirrors may be without a leader.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_are_carried_out_kept_so_and_withdrawn() -> Result<()> {
    let scene = Scene::new().await;
    it_waits_for_the_definition_and_gives_up_the_lease(&scene).await;
    leaving::objects_of_no_mirror_are_there(&scene).await;
    let first = scene.operator("operator-1").await;
    leaving::it_removes_them(&scene).await;
    it_makes_the_objects_and_reloads_without_a_new_template(&scene).await;
    it_puts_right_what_others_change(&scene).await;
    it_says_what_is_wrong_with_a_specification(&scene).await;
    leaving::it_leaves_what_is_not_its_own(&scene).await;
    rights::owners_need_the_right_to_their_finalizers(&scene).await;
    let second = another_takes_over(&scene, first).await;
    it_says_why_pods_cannot_be_created(&scene).await;
    leaving::it_withdraws_from_nodes_before_the_mirror_goes(&scene).await;

    a_cache_runs(&scene).await;
    second.terminate().await?;
    leaving::a_cleanup_ends_at_its_deadline(&scene).await;
    let third = scene.operator("operator-3").await;
    a_cache_runs(&scene).await;
    third.terminate().await?;
    leaving::a_cleanup_that_is_stopped_fails(&scene).await;
    leaving::a_cleanup_does_the_work_itself(&scene).await;
    rights::all_rights_were_used_and_none_was_missing(&scene);
    Ok(())
}

async fn it_waits_for_the_definition_and_gives_up_the_lease(scene: &Scene) {
    let operator = scene.operator("operator-0").await;
    until("it says what it waits for", async || {
        let (status, said) = operator.readyz().await.unwrap_or_default();
        status == 503 && said.contains("CustomResourceDefinition registrymirrors.larder.dev")
    })
    .await;
    scene.define().await;
    until("it is ready", async || {
        operator.readyz().await.unwrap_or_default().0 == 200
    })
    .await;
    operator.terminate().await.unwrap();
    assert_eq!(holder(scene).await, "");
}

/// Who leads; empty when nobody does.
async fn holder(scene: &Scene) -> String {
    let lease = scene.own::<Lease>().get("larder-operator").await.unwrap();
    lease
        .spec
        .and_then(|spec| spec.holder_identity)
        .unwrap_or_default()
}

async fn it_makes_the_objects_and_reloads_without_a_new_template(scene: &Scene) {
    scene.apply(spec("quay.io")).await;
    until("the DaemonSet is there", async || {
        scene.daemon_set().await.is_some()
    })
    .await;
    let account = scene.own::<ServiceAccount>().get(NAME).await.unwrap();
    assert_eq!(account.automount_service_account_token, Some(false));
    let service = scene.own::<Service>().get(NAME).await.unwrap();
    assert_eq!(service.spec.unwrap().cluster_ip.as_deref(), Some("None"));
    let before = scene.daemon_set().await.unwrap();
    scene.apply(spec("gcr.io")).await;
    until("the document is the new one", async || {
        let document = scene.document().await;
        document.contains("gcr.io") && document.contains("generation: 2")
    })
    .await;
    until("its status is about it", async || {
        let mirror = scene.mirrors.get("simple").await.unwrap();
        mirror.data["status"]["observedGeneration"] == 2
    })
    .await;
    let after = scene.daemon_set().await.unwrap();
    assert_eq!(before.metadata.generation, after.metadata.generation);
    // Each was applied once, and the document once more.
    let audited = scene.cluster.audited().unwrap();
    let applied = |resource: &str| {
        let asked = audited.iter().filter(|asked| asked.resource == resource);
        asked.filter(|asked| asked.verb == "patch").count()
    };
    let kinds = ["serviceaccounts", "configmaps", "services", "daemonsets"];
    assert_eq!(kinds.map(applied), [1, 2, 1, 1]);
}

async fn it_puts_right_what_others_change(scene: &Scene) {
    let parameters = PatchParams::default();
    let foreign = Patch::Merge(json!({"data": {"mirror.yaml": "nonsense"}}));
    let config_maps = scene.own::<ConfigMap>();
    config_maps.patch(NAME, &parameters, &foreign).await.unwrap();
    until("the document is ours again", async || {
        scene.document().await.contains("gcr.io")
    })
    .await;

    let foreign = Patch::Merge(json!({"spec": {"template": {"spec": {"hostNetwork": false}}}}));
    let daemon_sets = scene.own::<DaemonSet>();
    daemon_sets.patch(NAME, &parameters, &foreign).await.unwrap();
    until("the pods are as they were", async || {
        let daemon_set = scene.daemon_set().await.unwrap();
        let pod = daemon_set.spec.unwrap().template.spec.unwrap();
        pod.host_network == Some(true)
    })
    .await;

    let parameters = DeleteParams::default();
    let accounts = scene.own::<ServiceAccount>();
    accounts.delete(NAME, &parameters).await.unwrap();
    scene.own::<Service>().delete(NAME, &parameters).await.unwrap();
    daemon_sets.delete(NAME, &parameters).await.unwrap();
    until("all are there again", async || {
        let service = scene.own::<Service>().get_opt(NAME).await.unwrap();
        let account = accounts.get_opt(NAME).await.unwrap();
        let daemon_set = scene.daemon_set().await;
        let is_there = daemon_set.is_some_and(|found| found.metadata.deletion_timestamp.is_none());
        service.is_some() && account.is_some() && is_there
    })
    .await;
}

/// Twice, since what is said again is said in another way.
async fn it_says_what_is_wrong_with_a_specification(scene: &Scene) {
    let mut wrong = spec("gcr.io");
    wrong["cache"] = json!({"path": "/etc/larder"});
    for _ in 0..2 {
        scene.apply(wrong.clone()).await;
        until("it says so", async || {
            let (reason, message) = scene.ready("simple").await;
            reason == "SpecRefused" && message.contains("/etc/larder")
        })
        .await;
        scene.apply(spec("gcr.io")).await;
        until("it is carried out again", async || {
            scene.ready("simple").await.0 != "SpecRefused"
        })
        .await;
    }
}

async fn another_takes_over(scene: &Scene, leader: OperatorProcess) -> OperatorProcess {
    assert_eq!(holder(scene).await, "operator-1");
    let other = scene.operator("operator-2").await;
    until("the other stands by", async || {
        other.readyz().await.unwrap_or_default().0 == 200
    })
    .await;
    let killed = Instant::now();
    leader.kill();
    scene.apply(spec("ghcr.io")).await;
    until("the other works", async || {
        scene.document().await.contains("ghcr.io")
    })
    .await;
    let taken_over = killed.elapsed();
    assert!(taken_over < TAKEN_OVER_WITHIN, "{taken_over:?}");
    assert_eq!(holder(scene).await, "operator-2");
    other
}

/// The namespace has no label, and is held to `baseline`.
async fn it_says_why_pods_cannot_be_created(scene: &Scene) {
    scene.add_node().await;
    let label = "pod-security.kubernetes.io/enforce=privileged";
    until("it says what to do", async || {
        scene.run_pods().await;
        let (reason, message) = scene.ready("simple").await;
        reason == "FailedCreate" && message.contains(label)
    })
    .await;
    let arguments = ["label", "--overwrite", "namespace", NAMESPACE, label];
    scene.cluster.kubectl(&arguments).await.unwrap();
    until("a cache runs", async || scene.serves().await).await;
}

async fn a_cache_runs(scene: &Scene) {
    scene.apply(spec("quay.io")).await;
    until("a cache runs", async || scene.serves().await).await;
}
