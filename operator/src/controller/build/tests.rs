use std::path::Path;

use serde::Serialize;
use serde_json::{Value, json};

use super::*;
use crate::controller::validate::validate;
use crate::fixtures::{mirror, options};

/// Set to any value, the test writes the file instead.
const REGENERATE: &str = "LARDER_REGENERATE";

fn built_with(spec: Value, purpose: Purpose, options: &CacheOptions) -> Value {
    let validated = validate(&mirror(spec), options).unwrap();
    let Resources {
        service_account,
        config_map,
        service,
        daemon_set,
        state: PhantomData,
    } = build(&validated, purpose, options).unwrap();
    json!({"serviceAccount": service_account, "configMap": config_map, "service": service, "daemonSet": daemon_set})
}

fn built(spec: Value) -> Value {
    built_with(spec, Purpose::Serve, &options())
}

/// The pod of a mirror whose `spec.node` this is.
fn pod(node: Value) -> Value {
    let built = built(json!({"registries": [{"host": "quay.io"}], "node": node}));
    built["daemonSet"]["spec"]["template"]["spec"].clone()
}

fn named<'a>(list: &'a Value, name: &str) -> &'a Value {
    let found = list.as_array().unwrap().iter().find(|one| one["name"] == name);
    found.unwrap_or(&Value::Null)
}

fn args(container: &Value) -> Vec<&str> {
    let args = container["args"].as_array().unwrap();
    args.iter().map(|arg| arg.as_str().unwrap()).collect()
}

fn full() -> Value {
    json!({
        "registries": [
            {"host": "docker.io", "credentials": [{"secretName": "hub", "repositories": ["**"]}]},
            {"host": "corp.test", "tls": {"caBundle": {"configMapName": "corp-ca"}}, "endpoints": [
                {"url": "https://mirror.test", "credentials": [
                    {"secretName": "hub", "repositories": ["a/*"]}, {"secretName": "ours", "repositories": ["b/*"]},
                ]},
            ]},
        ],
    })
}

fn golden(name: &str, built: &Value) {
    let yaml = |value: &Value| {
        #[derive(Serialize)]
        struct Whole<'a>(&'a Value);
        serde_saphyr::to_string(&Whole(value)).unwrap()
    };
    let text = yaml(built);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/controller/build/tests/{name}.yaml"));
    if std::env::var_os(REGENERATE).is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "{} differs; look at what LARDER_REGENERATE=1 makes of it:\n{text}",
        path.display()
    );
}

#[test]
fn the_objects_are_these() {
    golden("serve", &built(full()));
}

#[test]
fn the_objects_of_a_withdrawal_are_these() {
    let built = built_with(full(), Purpose::Withdraw, &options());
    golden("withdraw", &built["daemonSet"]["spec"]);
}

#[test]
fn what_pods_reload_changes_no_template() {
    let template = |spec| built(spec)["daemonSet"].clone();
    let before = template(json!({"registries": [{"host": "quay.io"}]}));
    let changes = [
        json!({"registries": [{"host": "gcr.io"}, {"host": "ghcr.io", "mode": "CacheOnly", "fallback": "None"}]}),
        json!({"registries": [{"host": "quay.io", "tags": {"ttl": "1m"}, "trust": {"realms": ["a.test"]}}]}),
        json!({"registries": [{"host": "quay.io"}], "defaultRegistry": "quay.io"}),
        json!({"registries": [{"host": "quay.io"}], "cache": {"verifyWholeUpTo": "2Mi", "deletionPolicy": "Retain"}}),
        json!({"registries": [{"host": "quay.io", "repositories": {"allow": ["a/*"], "deny": ["a/b"]}, "pins": ["a/c"]}]}),
        json!({"registries": [{"host": "quay.io"}], "cache": {"capacity": "25%", "minFree": 0, "pinnedMax": "1Gi"}}),
        json!({"registries": [{"host": "quay.io"}], "node": {"containerd": {"existing": "Prepend"}}}),
    ];
    for change in changes {
        assert_eq!(template(change.clone()), before, "{change}");
        assert_ne!(
            built(change)["configMap"],
            built(json!({"registries": [{"host": "quay.io"}]}))["configMap"]
        );
    }
}

#[test]
fn the_order_of_registries_changes_no_template() {
    let mut reversed = full();
    reversed["registries"].as_array_mut().unwrap().reverse();
    assert_eq!(built(full())["daemonSet"], built(reversed)["daemonSet"]);
}

#[test]
fn ports_are_what_the_mirror_says_everywhere() {
    let node = json!({"port": 6001, "adminPort": 6002, "metricsPort": 6003});
    let pod = pod(node.clone());
    let cache = named(&pod["containers"], "cache");
    for arg in [
        "--listen=127.0.0.1:6001",
        "--admin=127.0.0.1:6002",
        "--metrics=$(NODE_IP):6003",
    ] {
        assert!(args(cache).contains(&arg), "{arg}");
    }
    let declared: Vec<_> = cache["ports"]
        .as_array()
        .unwrap()
        .iter()
        .map(|port| {
            (
                port["containerPort"].clone(),
                port["hostPort"].clone(),
                port["hostIP"].clone(),
            )
        })
        .collect();
    let loopback = json!("127.0.0.1");
    let expected = [(6001, loopback.clone()), (6002, loopback), (6003, Value::Null)];
    assert_eq!(
        declared,
        expected.map(|(port, ip)| (port.into(), port.into(), ip))
    );
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        assert_eq!(cache[probe]["httpGet"]["port"], 6002, "{probe}");
        assert_eq!(cache[probe]["httpGet"]["host"], "127.0.0.1", "{probe}");
    }
    assert!(args(named(&pod["containers"], "node-config")).contains(&"--cache=http://127.0.0.1:6001"));
    let service = &built(json!({"registries": [], "node": node}))["service"];
    assert_eq!(service["spec"]["ports"][0]["port"], 6003);
}

#[test]
fn a_node_selector_keeps_to_linux() {
    let pod = pod(json!({"nodeSelector": {"pool": "a", "kubernetes.io/os": "windows"}}));
    assert_eq!(
        pod["nodeSelector"],
        json!({"pool": "a", "kubernetes.io/os": "linux"})
    );
}

#[test]
fn every_way_to_a_node_excludes_virtual_ones() {
    let exclusions = json!([
        {"key": "type", "operator": "NotIn", "values": ["virtual-kubelet"]},
        {"key": "eks.amazonaws.com/compute-type", "operator": "NotIn", "values": ["fargate"]},
    ]);
    let terms = |asked: Value| {
        let required = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": asked}}});
        let pod = pod(json!({"affinity": required}));
        pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
            .clone()
    };
    let none = pod(json!({}));
    let required = &none["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    assert_eq!(
        required["nodeSelectorTerms"],
        json!([{"matchExpressions": exclusions}])
    );
    let asked = json!({"key": "pool", "operator": "In", "values": ["a"]});
    let of_both = terms(json!([
        {"matchExpressions": [asked]},
        {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]},
    ]));
    let mut first = vec![asked];
    first.extend(exclusions.as_array().unwrap().clone());
    assert_eq!(of_both[0]["matchExpressions"], json!(first));
    assert_eq!(of_both[1]["matchExpressions"], exclusions);
    // Matches no node, and must not begin to match all.
    assert_eq!(terms(json!([{}]))[0]["matchExpressions"], json!([]));
    let other = json!({"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"topologyKey": "kubernetes.io/hostname"}]}});
    assert_eq!(
        pod(json!({"affinity": other}))["affinity"]["podAntiAffinity"],
        other["podAntiAffinity"]
    );
}

#[test]
fn tolerations_are_all_or_those_asked_for() {
    assert_eq!(pod(json!({}))["tolerations"], json!([{"operator": "Exists"}]));
    let asked = json!([{"key": "gpu", "operator": "Exists", "effect": "NoSchedule"}]);
    assert_eq!(pod(json!({"tolerations": asked}))["tolerations"], asked);
}

#[test]
fn resources_are_the_caches() {
    let asked = json!({"requests": {"cpu": "250m"}, "limits": {"memory": "1Gi"}});
    let pod = pod(json!({"resources": asked}));
    assert_eq!(named(&pod["containers"], "cache")["resources"], asked);
    assert_ne!(named(&pod["containers"], "node-config")["resources"], asked);
}

#[test]
fn a_tenth_of_the_nodes_is_replaced_at_a_time_unless_the_mirror_says_otherwise() {
    let strategy = |asked: Value| {
        let built = built(json!({"registries": [], "node": {"updateStrategy": asked}}));
        built["daemonSet"]["spec"]["updateStrategy"].clone()
    };
    let tenth = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "10%"}});
    assert_eq!(strategy(json!({})), tenth);
    assert_eq!(strategy(json!({"type": "RollingUpdate"})), tenth);
    assert_eq!(strategy(json!({"type": "OnDelete"})), json!({"type": "OnDelete"}));
    let asked = json!({"rollingUpdate": {"maxUnavailable": 3}});
    let expected = json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 3}});
    assert_eq!(strategy(asked), expected);
}

#[test]
fn labels_and_annotations_are_added_but_replace_none_of_ours() {
    let node = json!({
        "podLabels": {"team": "a", "larder.dev/mirror": "other", "app.kubernetes.io/component": "x"},
        "podAnnotations": {"note": "b"},
        "serviceAccountAnnotations": {"role": "c"},
    });
    let built = built(json!({"registries": [], "node": node}));
    let daemon_set = &built["daemonSet"]["spec"];
    let labels = &daemon_set["template"]["metadata"]["labels"];
    assert_eq!(labels["team"], "a");
    for (key, value) in daemon_set["selector"]["matchLabels"].as_object().unwrap() {
        assert_eq!(labels[key], *value, "{key}");
    }
    assert_eq!(labels["larder.dev/mirror"], "simple");
    assert_eq!(daemon_set["template"]["metadata"]["annotations"]["note"], "b");
    assert_eq!(
        built["serviceAccount"]["metadata"]["annotations"],
        json!({"role": "c"})
    );
}

#[test]
fn host_paths_are_the_mirrors() {
    let spec = json!({
        "registries": [],
        "cache": {"path": "/var/lib/larder/a"},
        "node": {"containerd": {"configPath": "/etc/containerd/hosts", "configDir": "/etc/containerd/b"}},
    });
    let built = built(spec);
    let volumes = &built["daemonSet"]["spec"]["template"]["spec"]["volumes"];
    for (name, path) in [
        ("cache", "/var/lib/larder/a"),
        ("certs-d", "/etc/containerd/hosts"),
        ("containerd", "/etc/containerd/b"),
    ] {
        assert_eq!(named(volumes, name)["hostPath"]["path"], path);
    }
}

#[test]
fn the_operators_own_options_are_in_the_pod() {
    let mut options = options();
    options.image_pull_policy = "Always".to_owned();
    options.image_pull_secret = vec!["pull".to_owned()];
    options.ca_bundle_config_map = Some("corp".to_owned());
    options.priority_class = "high".to_owned();
    options.selinux_options = serde_json::from_value(json!({"type": "spc_t"})).unwrap();
    let built = built_with(json!({"registries": []}), Purpose::Serve, &options);
    let pod = &built["daemonSet"]["spec"]["template"]["spec"];
    assert_eq!(pod["imagePullSecrets"], json!([{"name": "pull"}]));
    assert_eq!(pod["priorityClassName"], "high");
    assert_eq!(pod["securityContext"]["seLinuxOptions"], json!({"type": "spc_t"}));
    let all = [&pod["containers"], &pod["initContainers"]];
    for container in all.into_iter().flat_map(|list| list.as_array().unwrap()) {
        assert_eq!(container["imagePullPolicy"], "Always");
        assert_eq!(container["image"], "registry.test/cache-node:9");
    }
    let cache = named(&pod["containers"], "cache");
    assert!(args(cache).contains(&"--ca-bundle=/etc/larder/ca/ca.crt"));
    assert_eq!(named(&cache["volumeMounts"], "ca")["mountPath"], "/etc/larder/ca");
    assert_eq!(named(&pod["volumes"], "ca")["configMap"]["optional"], true);
}

#[test]
fn a_withdrawal_needs_no_secret_and_purges_only_where_it_should() {
    let mut spec = full();
    let withdraw = |spec: Value| built_with(spec, Purpose::Withdraw, &options())["daemonSet"]["spec"].clone();
    let delete = withdraw(spec.clone());
    assert!(!delete.to_string().contains("secret"), "{delete}");
    assert_eq!(
        delete["updateStrategy"]["rollingUpdate"]["maxUnavailable"],
        "100%"
    );
    let pod = &delete["template"]["spec"];
    assert_eq!(named(&pod["initContainers"], "purge")["args"][0], "purge");
    assert_eq!(pod["containers"].as_array().unwrap().len(), 1);
    assert!(args(&pod["containers"][0]).contains(&"--withdraw"));
    spec["cache"] = json!({"deletionPolicy": "Retain"});
    let retain = withdraw(spec);
    assert_eq!(retain["template"]["spec"]["initContainers"], Value::Null);
    assert!(!retain.to_string().contains("/var/lib/larder"), "{retain}");
    assert_eq!(retain["selector"], delete["selector"]);
}
