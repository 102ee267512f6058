use serde_json::json;

use super::*;
use crate::fixtures::{mirror, options};

fn judge(node: Value) -> Result<Validated, Vec<String>> {
    let spec = json!({"registries": [{"host": "quay.io"}], "node": node});
    validate(&mirror(spec), &options()).map_err(|Invalid(wrong)| wrong)
}

fn wrong(node: Value) -> String {
    judge(node).unwrap_err().join("\n")
}

#[test]
fn the_document_is_the_mirror_with_its_identity() {
    let validated = judge(json!({})).unwrap();
    let document = validated.document;
    assert_eq!(
        (document.api_version.as_str(), document.kind.as_str()),
        (API_VERSION, KIND)
    );
    assert_eq!(document.metadata.name, "simple");
    assert_eq!(document.metadata.uid.as_deref(), Some("uid-simple"));
    assert_eq!(document.metadata.generation, Some(3));
    assert_eq!(document.spec.registries[0].host, "quay.io");
}

#[test]
fn host_paths_must_lie_where_the_operator_allows() {
    for path in ["/var/lib/larder", "/var/lib/larder/quay", "/etc/containerd"] {
        let spec = json!({"registries": [], "cache": {"path": path}});
        assert!(validate(&mirror(spec), &options()).is_ok(), "{path}");
    }
    for path in [
        "/etc",
        "/",
        "",
        "var/lib/larder",
        "/var/lib/larder/../x",
        "/var/lib/larderer",
        "/var/lib/larder/",
        "/var/lib/larder/./x",
        "/var/lib//larder",
    ] {
        let spec = json!({"registries": [], "cache": {"path": path}});
        let error = validate(&mirror(spec), &options()).unwrap_err().to_string();
        assert!(error.starts_with("spec.cache.path: "), "{path}: {error}");
    }
    let said = wrong(json!({"containerd": {"configPath": "/root", "configDir": "/home"}}));
    assert!(
        said.contains("spec.node.containerd.configPath: /root does not lie under"),
        "{said}"
    );
    assert!(said.contains("spec.node.containerd.configDir: /home"), "{said}");
    assert!(said.contains("allowedHostPaths"), "{said}");
}

#[test]
fn everything_wrong_is_said_at_once() {
    let said = wrong(json!({"port": 0, "adminPort": 70000, "affinity": {"x": 1}}));
    assert_eq!(said.lines().count(), 3, "{said}");
}

#[test]
fn ports_must_differ() {
    let said = wrong(json!({"port": 5118}));
    assert_eq!(said, "spec.node.adminPort: 5118 is also spec.node.port");
}

#[test]
fn what_kubernetes_does_not_know_is_refused_and_not_lost() {
    for node in [
        json!({"affinity": {"nodeAfinity": {}, "podAffinity": {"x": [1]}}}),
        json!({"affinity": {"nodeAffinity": "everywhere"}}),
        json!({"tolerations": [{"operator": "Exists", "efect": "NoSchedule"}]}),
        json!({"resources": {"requests": {"cpu": []}}}),
        json!({"resources": {"request": {"cpu": "1"}}}),
        json!({"updateStrategy": {"rollingUpdate": {"maxUnavailible": 1}}}),
    ] {
        let said = wrong(node.clone());
        assert!(said.starts_with("spec.node."), "{node}: {said}");
    }
}

#[test]
fn what_kubernetes_knows_is_taken_however_it_is_written() {
    let node = json!({
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["a"]}]},
        ]}}, "podAffinity": {}, "podAntiAffinity": null},
        "tolerations": [{"operator": "Exists", "tolerationSeconds": 30}],
        "resources": {"requests": {"cpu": 1, "memory": "1Gi"}, "limits": {}},
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 3}},
    });
    judge(node).unwrap();
}

#[test]
fn sizes_are_quantities() {
    for text in ["0", "1048576", "1Mi", "1.5Gi", "10k"] {
        assert!(is_quantity(text), "{text}");
    }
    for text in ["", "Mi", "1 Mi", "1MiB", "-1", "1.2.3", "ten"] {
        assert!(!is_quantity(text), "{text}");
    }
    let spec = json!({"registries": [], "cache": {"verifyWholeUpTo": "big"}});
    let said = validate(&mirror(spec), &options()).unwrap_err().to_string();
    assert_eq!(
        said,
        r#"spec.cache.verifyWholeUpTo: "big" is not a size such as 1Mi"#
    );
}

#[test]
fn names_that_objects_cannot_bear_are_refused() {
    for name in ["a".repeat(41), "a.b".to_owned()] {
        let mut mirror = mirror(json!({"registries": []}));
        mirror.metadata.name = Some(name);
        assert!(validate(&mirror, &options()).is_err());
    }
}
