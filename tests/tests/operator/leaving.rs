//! How mirrors go, and what belongs to none.

use std::collections::BTreeMap;
use std::process::{Command, Output, Stdio};

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use kube::api::PostParams;
use larder_tests::operator;
use larder_tests::prelude::*;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::scene::{NAME, NAMESPACE, Scene, args, spec};

/// The name of objects of a mirror that is not there.
const ORPHAN: &str = "larder-mirror-gone";

pub(crate) async fn objects_of_no_mirror_are_there(scene: &Scene) {
    let labels = json!({"larder.dev/mirror": "gone", "app.kubernetes.io/managed-by": "larder-operator"});
    let metadata = json!({"name": ORPHAN, "labels": labels});
    let pods = json!({"app": "gone"});
    let template =
        json!({"metadata": {"labels": pods}, "spec": {"containers": [{"name": "a", "image": "a"}]}});
    create::<ServiceAccount>(scene, json!({"metadata": metadata})).await;
    create::<ConfigMap>(scene, json!({"metadata": metadata})).await;
    let service = json!({"metadata": metadata, "spec": {"clusterIP": "None"}});
    create::<Service>(scene, service).await;
    let daemon_set =
        json!({"metadata": metadata, "spec": {"selector": {"matchLabels": pods}, "template": template}});
    create::<DaemonSet>(scene, daemon_set).await;
}

async fn create<K>(scene: &Scene, object: Value)
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let object: K = serde_json::from_value(object).unwrap();
    let parameters = PostParams::default();
    scene.own::<K>().create(&parameters, &object).await.unwrap();
}

pub(crate) async fn it_removes_them(scene: &Scene) {
    until("what belongs to no mirror is gone", async || {
        scene
            .own::<ServiceAccount>()
            .get_opt(ORPHAN)
            .await
            .unwrap()
            .is_none()
            && scene.own::<ConfigMap>().get_opt(ORPHAN).await.unwrap().is_none()
            && scene.own::<Service>().get_opt(ORPHAN).await.unwrap().is_none()
            && scene.own::<DaemonSet>().get_opt(ORPHAN).await.unwrap().is_none()
    })
    .await;
}

pub(crate) async fn it_leaves_what_is_not_its_own(scene: &Scene) {
    let theirs = json!({"metadata": {"name": "larder-mirror-taken"}, "data": {"theirs": "kept"}});
    create::<ConfigMap>(scene, theirs).await;
    let mut mirror = kube::core::DynamicObject::new("taken", &crate::scene::mirror_kind());
    mirror.data = json!({"spec": spec("quay.io")});
    let parameters = PostParams::default();
    scene.mirrors.create(&parameters, &mirror).await.unwrap();
    until("the mirror says whose it is", async || {
        let (_, message) = scene.ready("taken").await;
        message.contains("larder-mirror-taken exists")
    })
    .await;
    let config_maps = scene.own::<ConfigMap>();
    let found = config_maps.get("larder-mirror-taken").await.unwrap();
    let kept = BTreeMap::from([("theirs".to_owned(), "kept".to_owned())]);
    assert_eq!(found.data, Some(kept));
    scene.delete("taken").await;
    until("that mirror is gone", async || !scene.exists("taken").await).await;
    assert!(
        config_maps
            .get_opt("larder-mirror-taken")
            .await
            .unwrap()
            .is_some()
    );
}

pub(crate) async fn it_withdraws_from_nodes_before_the_mirror_goes(scene: &Scene) {
    scene.delete("simple").await;
    until("the caches are to restore their nodes", async || {
        is_restoring(scene).await
    })
    .await;
    assert!(scene.exists("simple").await, "no node has acknowledged");
    let mut restored = false;
    until("the mirror is gone", async || {
        restored |= runs_a_restorer(scene).await;
        !scene.exists("simple").await
    })
    .await;
    assert!(restored, "the mirror went without a withdrawal");
    nothing_is_left(scene).await;
}

async fn is_restoring(scene: &Scene) -> bool {
    let daemon_set = scene.daemon_set().await.unwrap();
    let spec = serde_json::to_string(&daemon_set.spec).unwrap();
    spec.contains("--withdraw")
}

/// Runs the node's pods, and tells whether one of them does nothing but restore.
async fn runs_a_restorer(scene: &Scene) -> bool {
    let pods = scene.run_pods().await;
    let mut restorers = pods.iter().map(args);
    restorers.any(|args| args.contains(&"--withdraw".to_owned()) && !args.contains(&"serve".to_owned()))
}

async fn nothing_is_left(scene: &Scene) {
    until("nothing of it is left", async || {
        scene.run_pods().await.is_empty()
            && scene.daemon_set().await.is_none()
            && scene.document().await.is_empty()
            && scene.own::<Service>().get_opt(NAME).await.unwrap().is_none()
            && scene
                .own::<ServiceAccount>()
                .get_opt(NAME)
                .await
                .unwrap()
                .is_none()
    })
    .await;
}

/// The operator is gone and the node silent: at its deadline it lets the mirror go and says whom nobody could ask.
pub(crate) async fn a_cleanup_ends_at_its_deadline(scene: &Scene) {
    let (ended, said) = cleanup(scene, "3s").await;
    assert!(ended.status.success(), "{said}");
    assert!(!scene.exists("simple").await, "{said}");
    let events = scene.cluster.events("default").await.unwrap();
    let told = events
        .iter()
        .find(|event| event.reason.as_deref() == Some("WithdrawalIncomplete"));
    let message = told.and_then(|event| event.message.as_deref());
    assert!(
        message.is_some_and(|message| message.contains("not acknowledged by worker")),
        "{message:?}"
    );
    nothing_is_left(scene).await;
}

/// As when its pod is evicted: were it a success, helm would go on and remove the operator.
pub(crate) async fn a_cleanup_that_is_stopped_fails(scene: &Scene) {
    let mut cleanup = tokio::process::Command::from(hook(scene, "2m").await)
        .kill_on_drop(true)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    until("the mirror is being deleted", async || {
        let mirror = scene.mirrors.get("simple").await.unwrap();
        mirror.metadata.deletion_timestamp.is_some()
    })
    .await;
    let pid = i32::try_from(cleanup.id().unwrap()).unwrap();
    kill_process(Pid::from_raw(pid).unwrap(), Signal::TERM).unwrap();
    assert_eq!(cleanup.wait().await.unwrap().code(), Some(1));
    assert!(scene.exists("simple").await);
}

/// The operator is gone, so nothing moves.
pub(crate) async fn a_cleanup_does_the_work_itself(scene: &Scene) {
    let mut restored = false;
    let runs_pods = async {
        loop {
            restored |= runs_a_restorer(scene).await;
            tokio::task::yield_now().await;
        }
    };
    let (ended, said) = tokio::select! {
        ended = cleanup(scene, "2m") => ended,
        never = runs_pods => never,
    };
    assert!(ended.status.success(), "{said}");
    assert!(said.contains("nothing has moved for 30 s"), "{said}");
    assert!(!scene.exists("simple").await, "{said}");
    assert!(restored, "the mirror went without a withdrawal: {said}");
    nothing_is_left(scene).await;
}

/// Runs the chart's hook to its end; returns also what it said.
async fn cleanup(scene: &Scene, timeout: &str) -> (Output, String) {
    let ended = tokio::process::Command::from(hook(scene, timeout).await)
        .kill_on_drop(true)
        .output()
        .await
        .unwrap();
    let said = String::from_utf8_lossy(&ended.stderr).into_owned();
    (ended, said)
}

/// The chart's hook, with the flags and the token that the chart gives it.
async fn hook(scene: &Scene, timeout: &str) -> Command {
    let kubeconfig = scene.cluster.kubeconfig_of(NAMESPACE, "larder-cleanup");
    let flags = scene.flags("Job/larder-cleanup");
    operator::cleanup(&kubeconfig.await.unwrap(), &flags, timeout)
}
