//! What the operator may do: all of it is needed, and nothing else.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::Api;
use kube::api::{DeleteParams, PostParams};
use larder_tests::cluster::Audited;
use larder_tests::prelude::*;
use serde_json::Value;

use crate::scene::{NAME, Scene};

const OPERATOR: &str = "system:serviceaccount:larder-system:larder-operator";
const CLEANUP: &str = "system:serviceaccount:larder-system:larder-cleanup";
/// No request, but asked when an owner is set: see [`owners_need_the_right_to_their_finalizers`].
const FINALIZERS: [&str; 4] = ["", "larder.dev", "registrymirrors/finalizers", "update"];

/// Namespace (empty: of the cluster), group, resource and verb.
type Right = [String; 4];

/// Without this right the API server refuses objects whose owner cannot go before them, and the mirror says so. As soon as
/// the right is there, they are made.
pub(crate) async fn owners_need_the_right_to_their_finalizers(scene: &Scene) {
    let roles: Api<ClusterRole> = Api::all(scene.client());
    let mut role = roles.get("larder-operator").await.unwrap();
    let rules = role.rules.as_mut().unwrap();
    let [_, _, finalizers, _] = FINALIZERS;
    rules.retain(|rule| {
        !rule
            .resources
            .iter()
            .flatten()
            .any(|resource| resource == finalizers)
    });
    roles
        .replace("larder-operator", &PostParams::default(), &role)
        .await
        .unwrap();
    let as_operator = format!("--as={OPERATOR}");
    let may = ["auth", "can-i", "update", finalizers, &as_operator];
    until("the right is gone", async || {
        scene.cluster.kubectl(&may).await.is_err()
    })
    .await;
    let services = scene.own::<Service>();
    services.delete(NAME, &DeleteParams::default()).await.unwrap();
    until("the mirror says what is refused", async || {
        let (reason, message) = scene.ready("simple").await;
        reason == "ApplyRefused" && message.contains("blockOwnerDeletion")
    })
    .await;
    scene.apply_rights().await;
    until("the Service is there again", async || {
        services.get_opt(NAME).await.unwrap().is_some()
    })
    .await;
    until("the mirror is carried out again", async || {
        scene.ready("simple").await.0 != "ApplyRefused"
    })
    .await;
}

/// At the end: every verb of every rule was used, nothing that was asked was forbidden, and Secrets were no part of it.
pub(crate) fn all_rights_were_used_and_none_was_missing(scene: &Scene) {
    let audited = scene.cluster.audited().unwrap();
    let used = |user: &str| -> BTreeSet<Right> {
        let asked = audited.iter().filter(|asked| asked.user == user);
        asked.flat_map(rights).collect()
    };
    let forbidden: Vec<_> = audited.iter().filter(|asked| asked.is_forbidden).collect();
    assert!(forbidden.is_empty(), "{forbidden:#?}");

    let mut by_operator = used(OPERATOR);
    by_operator.insert(FINALIZERS.map(str::to_owned));
    let bound = [
        "ClusterRole/larder-operator",
        "Role/larder-operator",
        "Role/larder-operator-events",
    ];
    let granted: BTreeSet<Right> = bound.iter().flat_map(|role| self::granted(scene, role)).collect();
    assert!(granted.iter().all(|[_, _, resource, _]| resource != "secrets"));
    let unused: Vec<_> = granted.difference(&by_operator).collect();
    assert!(unused.is_empty(), "{unused:#?}");

    // The hook has the same, for the case that it must do the same; and one of its own.
    let own = self::granted(scene, "ClusterRole/larder-cleanup");
    let by_hook = used(CLEANUP);
    assert!(own.iter().all(|right| by_hook.contains(right)), "{own:?}");
}

fn granted(scene: &Scene, role: &str) -> Vec<Right> {
    let role = scene.chart.get(role).unwrap();
    let namespace = role["metadata"]["namespace"].as_str().unwrap_or_default();
    let texts = |rule: &Value, field: &str| -> Vec<String> {
        let texts = rule[field].as_array().unwrap();
        texts
            .iter()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect()
    };
    let mut granted = Vec::new();
    for rule in role["rules"].as_array().unwrap() {
        for group in texts(rule, "apiGroups") {
            for resource in texts(rule, "resources") {
                for verb in texts(rule, "verbs") {
                    granted.push([namespace.to_owned(), group.clone(), resource.clone(), verb]);
                }
            }
        }
    }
    granted
}

/// What a request needed.
fn rights(asked: &Audited) -> Vec<Right> {
    let right = |verb: &str| [&asked.namespace, &asked.group, &asked.resource, verb].map(str::to_owned);
    let mut rights = vec![right(&asked.verb)];
    // An apply that finds nothing must also be allowed to create.
    if asked.verb == "patch" && asked.code == 201 {
        rights.push(right("create"));
    }
    rights
}
