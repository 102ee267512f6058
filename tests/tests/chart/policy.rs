//! The API server takes a cache's DaemonSet from the operator, and nothing that does more to a node.

use k8s_openapi::api::admissionregistration::v1::ValidatingAdmissionPolicy;
use k8s_openapi::api::apps::v1::DaemonSet;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use larder_tests::cluster::Cluster;
use larder_tests::prelude::*;
use operator::controller::build::Purpose;
use serde_json::{Value, json};

use crate::NAMESPACE;
use crate::operator_flags::daemon_set;

/// The account that the operator runs as.
pub(crate) const OPERATOR: &str = "system:serviceaccount:larder-system:larder-operator";
/// The account that the hook runs as.
pub(crate) const CLEANUP: &str = "system:serviceaccount:larder-system:larder-cleanup";

const POD: &str = "/spec/template/spec";

/// What would do more to a node than a cache needs: where in the DaemonSet, what, and what the API server then says.
fn tamperings() -> Vec<(&'static str, Value, &'static str)> {
    let image = "must run ghcr.io/larder-dev/cache-node:";
    let capabilities = "must drop all capabilities";
    let path = "must lie at or below one of /var/lib/larder, /etc/containerd";
    let token = "must not have a service account's token";
    let shared = "must not share its node's processes or IPC";
    let volume = "a volume must be";
    let privileged = json!({"privileged": true, "capabilities": {"drop": ["ALL"]}});
    let added =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["SYS_ADMIN"]}});
    let more = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["CHOWN", "SYS_ADMIN"]}});
    let chown =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}});
    let host = |path: &str| json!({"name": "more", "hostPath": {"path": path}});
    let another = json!({"name": "another", "image": "registry.test/miner:1", "securityContext": {
        "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
    }});
    let projected =
        json!({"name": "more", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}}]}});
    vec![
        ("/containers/0/image", json!("registry.test/miner:1"), image),
        (
            "/initContainers/0/image",
            json!("ghcr.io/larder-dev/cache-node:latest"),
            image,
        ),
        ("/containers/-", another, image),
        ("/containers/0/securityContext", privileged, capabilities),
        ("/containers/1/securityContext", added, capabilities),
        ("/initContainers/0/securityContext", more, capabilities),
        ("/containers/1/securityContext", chown, capabilities),
        ("/containers/0/securityContext", json!({}), capabilities),
        ("/volumes/-", host("/"), path),
        ("/volumes/-", host("/etc"), path),
        ("/volumes/-", host("/etc/containerd-more"), path),
        ("/volumes/-", host("/run/containerd"), path),
        ("/volumes/-", projected, volume),
        ("/volumes/-", json!({"name": "more", "downwardAPI": {}}), volume),
        ("/automountServiceAccountToken", json!(true), token),
        ("/serviceAccountName", json!("default"), token),
        ("/hostPID", json!(true), shared),
        ("/hostIPC", json!(true), shared),
    ]
}

pub(crate) async fn the_operator_is_held_to_its_purpose(cluster: &Cluster) {
    expressions_are_well_typed(cluster.client()).await;
    let serving = daemon_set(cluster, Purpose::Serve).await;
    let withdrawing = daemon_set(cluster, Purpose::Withdraw).await;
    let with = |pointer: &str, value: Value| tampered(&serving, pointer, value);
    for account in [OPERATOR, CLEANUP] {
        let daemon_sets = daemon_sets(cluster.client_as(account).await.unwrap());
        // The API server works by a policy a moment after it was changed, as the upgrade before this has.
        let sharing = with("/hostPID", json!(true));
        until("the policy holds", async || {
            apply(&daemon_sets, &sharing, true).await.is_err()
                && apply(&daemon_sets, &serving, true).await.is_ok()
        })
        .await;
        apply(&daemon_sets, &withdrawing, true).await.unwrap();
        for (pointer, value, said) in tamperings() {
            let refused = apply(&daemon_sets, &with(pointer, value), true).await;
            refused_with(refused, said, pointer);
        }
        let mut named = serving.clone();
        named["metadata"]["name"] = json!("another");
        let refused = apply(&daemon_sets, &named, true).await;
        refused_with(refused, "named larder-mirror-* only", "/metadata/name");
    }
    an_update_is_refused_too(cluster, &serving).await;
    // It binds the operator only.
    let everybodys = daemon_sets(cluster.client());
    apply(&everybodys, &with("/hostPID", json!(true)), true)
        .await
        .unwrap();
}

async fn an_update_is_refused_too(cluster: &Cluster, serving: &Value) {
    let operators = daemon_sets(cluster.client_as(OPERATOR).await.unwrap());
    apply(&operators, serving, false).await.unwrap();
    for (pointer, value, said) in tamperings() {
        let refused = apply(&operators, &tampered(serving, pointer, value), false).await;
        refused_with(refused, said, pointer);
    }
    let name = serving["metadata"]["name"].as_str().unwrap();
    operators.delete(name, &DeleteParams::default()).await.unwrap();
}

/// The API server itself looks for expressions that cannot work with the types that they are about.
async fn expressions_are_well_typed(client: Client) {
    let policies: Api<ValidatingAdmissionPolicy> = Api::all(client);
    let mut warnings = None;
    until("the policy's expressions are checked", async || {
        let policy = policies.get("larder-operator").await.unwrap();
        let checked = policy.status.and_then(|status| status.type_checking);
        warnings = checked.map(|checked| checked.expression_warnings.unwrap_or_default());
        warnings.is_some()
    })
    .await;
    assert_eq!(warnings, Some(Vec::new()));
}

/// 403 is what the operator tries again, since another release of the chart may allow it; 422 would be the mirror's fault.
fn refused_with(refused: kube::Result<DaemonSet>, said: &str, what: &str) {
    match refused {
        Err(kube::Error::Api(status)) => {
            assert_eq!(status.code, 403, "{what}: {status:?}");
            assert!(status.message.contains(said), "{what}: {}", status.message);
        }
        other => panic!("{what}: {other:?}"),
    }
}

fn daemon_sets(client: Client) -> Api<DaemonSet> {
    Api::namespaced(client, NAMESPACE)
}

async fn apply(daemon_sets: &Api<DaemonSet>, object: &Value, dry_run: bool) -> kube::Result<DaemonSet> {
    let params = PatchParams {
        dry_run,
        ..PatchParams::apply("larder-operator").force()
    };
    let name = object["metadata"]["name"].as_str().unwrap();
    daemon_sets.patch(name, &params, &Patch::Apply(object)).await
}

/// The DaemonSet with this at a pointer below its pod; `-` adds to a list.
fn tampered(object: &Value, pointer: &str, value: Value) -> Value {
    let mut object = object.clone();
    let (place, last) = pointer.rsplit_once('/').unwrap();
    match object.pointer_mut(&format!("{POD}{place}")).unwrap() {
        Value::Array(list) if last == "-" => list.push(value),
        place => place[last] = value,
    }
    object
}
