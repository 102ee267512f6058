//! The custom resource definition in a real API server: what it accepts, what it refuses and why, what it adds.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

#[path = "crd/cases.rs"]
mod cases;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use larder_tests::cluster::Cluster;
use larder_tests::prelude::*;
use serde_json::{Value, json};

fn crds() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds")
}

fn definition() -> Value {
    serde_saphyr::from_str(&std::fs::read_to_string(crds().join("registrymirrors.yaml")).unwrap()).unwrap()
}

/// A cluster without nodes whose API server knows mirrors.
async fn api_server() -> (Cluster, Api<DynamicObject>) {
    let cluster = Cluster::with_nodes(&[]).await.unwrap();
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let apply = PatchParams::apply("tests");
    let name = "registrymirrors.larder.dev";
    definitions
        .patch(name, &apply, &Patch::Apply(definition()))
        .await
        .unwrap();
    until("the definition is established", async || {
        let definition = definitions.get(name).await.unwrap();
        let conditions = definition
            .status
            .unwrap_or_default()
            .conditions
            .unwrap_or_default();
        conditions
            .iter()
            .any(|c| c.type_ == "Established" && c.status == "True")
    })
    .await;
    let mirrors = mirrors(cluster.client());
    (cluster, mirrors)
}

fn mirrors(client: Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("larder.dev", "v1alpha1", "RegistryMirror");
    Api::all_with(client, &ApiResource::from_gvk(&kind))
}

fn mirror(name: &str, spec: &Value) -> DynamicObject {
    let document = json!({
        "apiVersion": "larder.dev/v1alpha1",
        "kind": "RegistryMirror",
        "metadata": {"name": name},
        "spec": spec,
    });
    serde_json::from_value(document).unwrap()
}

/// What the API server says of a mirror, without keeping it. Unknown fields are errors, as they are for kubectl.
async fn judge(mirrors: &Api<DynamicObject>, name: &str, spec: &Value) -> Result<(), String> {
    let parameters = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    match mirrors.create(&parameters, &mirror(name, spec)).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 422 => Err(status.message),
        Err(error) => panic!("{error}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_knows_mirrors() {
    let (cluster, mirrors) = api_server().await;
    every_rule_refuses_what_it_should(&mirrors).await;
    for spec in cases::accepted() {
        judge(&mirrors, "simple", &spec).await.unwrap();
    }
    the_examples_apply_and_do_not_drift(&cluster).await;
    defaults_appear(&mirrors).await;
    a_full_mirror_is_not_too_costly(&mirrors).await;
    the_columns_are_for_people(&cluster).await;
}

async fn every_rule_refuses_what_it_should(mirrors: &Api<DynamicObject>) {
    let mut said = BTreeSet::new();
    for (spec, reason) in cases::refused() {
        let message = judge(mirrors, "simple", &spec).await.err().unwrap_or_default();
        assert!(message.contains(reason), "{spec}: {message}");
        said.insert(message);
    }
    let simple = json!({"registries": [{"host": "quay.io"}]});
    for name in ["a".repeat(41), "a.b".to_owned()] {
        let message = judge(mirrors, &name, &simple).await.unwrap_err();
        assert!(message.contains("must be a DNS label"), "{message}");
        said.insert(message);
    }
    judge(mirrors, &"a".repeat(40), &simple).await.unwrap();
    let mut rules = Vec::new();
    collect_rules(&definition(), &mut rules);
    assert!(!rules.is_empty());
    for rule in rules {
        assert!(
            said.iter().any(|said| said.contains(&rule)),
            "no case breaks the rule: {rule}"
        );
    }
}

/// The messages of all rules, wherever they stand.
fn collect_rules(schema: &Value, rules: &mut Vec<String>) {
    match schema {
        Value::Object(map) => {
            let own = map.get("x-kubernetes-validations").and_then(Value::as_array);
            rules.extend(
                own.into_iter()
                    .flatten()
                    .map(|rule| rule["message"].as_str().unwrap().to_owned()),
            );
            map.values().for_each(|part| collect_rules(part, rules));
        }
        Value::Array(items) => items.iter().for_each(|item| collect_rules(item, rules)),
        _ => {}
    }
}

async fn the_examples_apply_and_do_not_drift(cluster: &Cluster) {
    let mut examples: Vec<_> = std::fs::read_dir(crds().join("examples"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    examples.sort();
    assert!(examples.len() >= 5);
    for example in &examples {
        let file = example.to_str().unwrap();
        cluster
            .kubectl(&["apply", "--server-side", "--filename", file])
            .await
            .unwrap();
        // Exits with 1 where the live object differs from what the manifest would make of it.
        cluster
            .kubectl(&["diff", "--server-side", "--filename", file])
            .await
            .unwrap();
        // What an older kind of comparison looks at: whole lists, as written.
        for document in
            serde_saphyr::from_multiple::<Value>(&std::fs::read_to_string(example).unwrap()).unwrap()
        {
            let name = document["metadata"]["name"].as_str().unwrap();
            let live = mirrors(cluster.client()).get(name).await.unwrap();
            assert_eq!(
                live.data["spec"]["registries"], document["spec"]["registries"],
                "{file}"
            );
            // A node accepts what the API server does.
            cache_node::config::Config::parse(&serde_json::to_string(&document).unwrap()).unwrap();
        }
        cluster.kubectl(&["delete", "--filename", file]).await.unwrap();
    }
}

async fn defaults_appear(mirrors: &Api<DynamicObject>) {
    let spec = json!({"registries": [{"host": "quay.io"}]});
    let live = mirrors
        .create(&PostParams::default(), &mirror("simple", &spec))
        .await
        .unwrap();
    let expected = json!({
        "registries": [{"host": "quay.io"}],
        "cache": {"path": "/var/lib/larder", "deletionPolicy": "Delete"},
        "node": {
            "port": 5117, "adminPort": 5118, "metricsPort": 5119,
            "containerd": {"configPath": "/etc/containerd/certs.d", "configDir": "/etc/containerd", "existing": "Leave"},
        },
    });
    assert_eq!(live.data["spec"], expected);
}

/// The API server bounds what rules may cost.
async fn a_full_mirror_is_not_too_costly(mirrors: &Api<DynamicObject>) {
    let patterns = vec!["v*"; 256];
    let registries: Vec<_> = (0..64)
        .map(|i| {
            json!({
                "host": format!("{}.{i}.example", "a".repeat(60)),
                "repositories": {"allow": patterns, "deny": patterns},
                "pins": patterns,
                "tags": {"immutable": patterns},
            })
        })
        .collect();
    let last = registries[63]["host"].clone();
    judge(
        mirrors,
        "full",
        &json!({"registries": registries, "defaultRegistry": last}),
    )
    .await
    .unwrap();
}

async fn the_columns_are_for_people(cluster: &Cluster) {
    let table = cluster.kubectl(&["get", "rmir"]).await.unwrap();
    let header: Vec<_> = table.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header, ["NAME", "READY", "REASON", "NODES", "REGISTRIES", "AGE"]);
    let capacity = r#"{"spec": {"cache": {"capacity": "25%"}}}"#;
    cluster
        .kubectl(&["patch", "rmir", "simple", "--type=merge", "--patch", capacity])
        .await
        .unwrap();
    let wide = cluster
        .kubectl(&["get", "larder", "--output=wide"])
        .await
        .unwrap();
    let header: Vec<_> = wide.lines().next().unwrap().split_whitespace().collect();
    assert_eq!(header[6..], ["CAPACITY", "MESSAGE"]);
    let row: Vec<_> = wide.lines().nth(1).unwrap().split_whitespace().collect();
    assert!(row.contains(&"25%"), "{wide}");
}
