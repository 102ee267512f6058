//! The custom resource definition in a real API server: what it accepts, what it refuses and why, what it adds.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

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

/// A specification that is refused, with a part of the reason.
type Refused = (Value, &'static str);

fn refused_hosts() -> Vec<Refused> {
    vec![
        (json!({}), "spec.registries: Required"),
        (json!({"registries": []}), "should have at least 1 items"),
        (json!({"registries": [{}]}), "host: Required"),
        (
            json!({"registries": [{"host": "quay.io"}, {"host": "quay.io"}]}),
            "Duplicate value",
        ),
        (
            json!({"registries": [{"host": "quay.io"}], "defaultRegistry": "docker.io"}),
            "defaultRegistry must be the host",
        ),
        (
            json!({"registries": [{"host": "registry-1.docker.io"}]}),
            "write docker.io",
        ),
        (
            json!({"registries": [{"host": "registry"}]}),
            "cannot name a host without a dot or a port",
        ),
        (json!({"registries": [{"host": "Quay.io"}]}), "should match"),
        (json!({"registries": [{"host": "../etc"}]}), "should match"),
        (
            json!({"registries": [{"host": "quay.io:123456"}]}),
            "should match",
        ),
    ]
}

fn refused_registries() -> Vec<Refused> {
    let registry = |fields: Value| {
        let mut registry = json!({"host": "quay.io"});
        registry
            .as_object_mut()
            .unwrap()
            .extend(fields.as_object().unwrap().clone());
        json!({"registries": [registry]})
    };
    let endpoint = |url: &str| registry(json!({"endpoints": [{"url": url}]}));
    let credential = |fields: Value| registry(json!({"credentials": [fields]}));
    vec![
        (registry(json!({"mode": "Cache"})), "Unsupported value"),
        (registry(json!({"fallback": "Never"})), "Unsupported value"),
        (registry(json!({"tags": {"ttl": "5 minutes"}})), "should match"),
        (registry(json!({"tags": {"serveStaleFor": "1d"}})), "should match"),
        (endpoint("ftp://quay.io"), "should match"),
        (endpoint("https://user:secret@quay.io"), "should match"),
        (endpoint("https://quay.io?a=b"), "should match"),
        (endpoint("https://quay.io/v2/"), "must not end with /v2"),
        (
            registry(json!({"endpoints": [{"url": "https://a.example"}, {"url": "https://b.example"}]})),
            "must have at most 1 item",
        ),
        (
            registry(json!({
                "endpoints": [{"url": "https://a.example"}],
                "tls": {"insecureSkipVerify": true},
            })),
            "write credentials, tls and trust at the endpoint",
        ),
        (credential(json!({"secretName": "hub"})), "repositories: Required"),
        (
            credential(json!({"secretName": "hub", "repositories": []})),
            "should have at least 1 items",
        ),
        (
            credential(json!({"secretName": "../hub", "repositories": ["**"]})),
            "should match",
        ),
        (
            registry(json!({"tls": {"caBundle": {}}})),
            "configMapName: Required",
        ),
    ]
}

fn refused_caches_and_nodes() -> Vec<Refused> {
    let node = |fields: Value| json!({"registries": [{"host": "quay.io"}], "node": fields});
    let cache = |fields: Value| json!({"registries": [{"host": "quay.io"}], "cache": fields});
    vec![
        (cache(json!({"path": "var/lib/larder"})), "should match"),
        (cache(json!({"path": "/"})), "should be at least 2 chars long"),
        (cache(json!({"path": "/var/lib/../larder"})), "must not hold"),
        (
            cache(json!({"verifyWholeUpTo": "much"})),
            "write a whole number of bytes",
        ),
        (
            cache(json!({"verifyWholeUpTo": -1})),
            "write a whole number of bytes",
        ),
        (
            cache(json!({"verifyWholeUpTo": "2Gi"})),
            "at most 1Gi is possible",
        ),
        (cache(json!({"deletionPolicy": "Keep"})), "Unsupported value"),
        (node(json!({"port": 5118})), "must differ"),
        (node(json!({"port": 0})), "should be greater than or equal to 1"),
        (
            node(json!({"metricsPort": 70000})),
            "should be less than or equal to 65535",
        ),
        (
            node(json!({"updateStrategy": {"rollingUpdate": {"maxSurge": 1}}})),
            "maxSurge is not possible",
        ),
        (
            node(json!({"containerd": {"configPath": "/etc/./containerd"}})),
            "must not hold",
        ),
        (
            node(json!({"containerd": {"existing": "Replace"}})),
            "Unsupported value",
        ),
        (
            node(json!({"tolerations": [{"key": 1}]})),
            "must be of type string",
        ),
        (
            node(
                json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {}}}}),
            ),
            "nodeSelectorTerms: Required",
        ),
    ]
}

fn accepted() -> Vec<Value> {
    vec![
        json!({"registries": [{"host": "docker.io"}, {"host": "localhost"}, {"host": "registry:5000"}, {"host": "10.0.0.1:5000"}, {"host": "[fd00::1]:5000"}]}),
        json!({"registries": [{"host": "quay.io"}], "defaultRegistry": "quay.io"}),
        json!({"registries": [{"host": "quay.io", "endpoints": [{"url": "https://a.example/quay", "tls": {"insecureSkipVerify": true}}]}]}),
        json!({"registries": [{"host": "quay.io", "tags": {"ttl": "1h30m", "serveStaleFor": "0s", "immutable": ["v*"]}}]}),
        json!({"registries": [{"host": "quay.io"}], "cache": {"verifyWholeUpTo": 0}}),
        json!({"registries": [{"host": "quay.io"}], "cache": {"verifyWholeUpTo": "1.5Mi", "path": "/a"}}),
        json!({"registries": [{"host": "quay.io"}], "node": {
            "port": 1, "adminPort": 2, "metricsPort": 3,
            "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "resources": {"limits": {"cpu": 1, "memory": "1Gi"}},
            "tolerations": [{"operator": "Exists"}],
        }}),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_api_server_knows_mirrors() {
    let (cluster, mirrors) = api_server().await;
    every_rule_refuses_what_it_should(&mirrors).await;
    for spec in accepted() {
        judge(&mirrors, "simple", &spec).await.unwrap();
    }
    the_examples_apply_and_do_not_drift(&cluster).await;
    defaults_appear(&mirrors).await;
    a_full_mirror_is_not_too_costly(&mirrors).await;
    the_columns_are_for_people(&cluster).await;
}

async fn every_rule_refuses_what_it_should(mirrors: &Api<DynamicObject>) {
    let mut said = BTreeSet::new();
    let refused = [refused_hosts(), refused_registries(), refused_caches_and_nodes()];
    for (spec, reason) in refused.concat() {
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
    let registries: Vec<_> = (0..64)
        .map(|i| json!({"host": format!("{}.{i}.example", "a".repeat(60)), "tags": {"immutable": vec!["v*"; 256]}}))
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
    let wide = cluster
        .kubectl(&["get", "larder", "--output=wide"])
        .await
        .unwrap();
    assert!(wide.lines().next().unwrap().ends_with("MESSAGE"), "{wide}");
}
