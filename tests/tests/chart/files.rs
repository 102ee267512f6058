//! What is checked in is what helm takes, from a clone as from a package.

use larder_tests::charts;
use larder_tests::real::Helm;
use serde_json::{Value, json};

use crate::{NAMESPACE, RELEASE, larder, render};

#[tokio::test]
async fn helm_has_nothing_to_say_against_them() {
    let helm = Helm::offline().unwrap();
    for name in ["larder", "larder-crds"] {
        let chart = charts::chart(name);
        helm.run(&["lint", "--strict", chart.to_str().unwrap()])
            .await
            .unwrap();
    }
}

/// The whole chart is in its package, the definitions included.
#[tokio::test]
async fn a_package_renders_as_the_directory_does() {
    let helm = Helm::offline().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let (chart, to) = (larder(), dir.path().to_str().unwrap());
    let package = ["package", chart.to_str().unwrap(), "--destination", to];
    helm.run(&package).await.unwrap();
    let version = env!("CARGO_PKG_VERSION");
    let package = dir.path().join(format!("larder-{version}.tgz"));
    let of_package = helm.template(&package, RELEASE, NAMESPACE, &json!({})).await;
    assert_eq!(of_package.unwrap(), render(&json!({})).await);
}

/// Helm's own reading and writing changes nothing of the definition, and it outlives the release.
#[tokio::test]
async fn the_definition_is_rendered_as_it_was_generated() {
    let path = charts::repository().join("crds/registrymirrors.yaml");
    let generated = std::fs::read_to_string(path).unwrap();
    let generated: Value = serde_saphyr::from_str(&generated).unwrap();
    let rendered = render(&json!({})).await;
    let rendered = rendered.get("CustomResourceDefinition/registrymirrors.larder.dev");
    let rendered = rendered.unwrap();
    assert_eq!(
        rendered.pointer("/metadata/annotations/helm.sh~1resource-policy"),
        Some(&json!("keep"))
    );
    // Not `assert_eq`, which would print both.
    assert!(floats(&rendered["spec"]) == floats(&generated["spec"]));
}

/// The same with all numbers as floats: helm writes 1.0 as 1.
fn floats(value: &Value) -> Value {
    match value {
        Value::Number(number) => json!(number.as_f64()),
        Value::Array(list) => list.iter().map(floats).collect(),
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), floats(value)))
            .collect(),
        other => other.clone(),
    }
}

#[tokio::test]
async fn versions_are_those_of_the_programs() {
    let helm = Helm::offline().unwrap();
    let version = env!("CARGO_PKG_VERSION");
    for name in ["larder", "larder-crds"] {
        let chart = charts::chart(name);
        let shown = helm.run(&["show", "chart", chart.to_str().unwrap()]).await;
        let shown: Value = serde_saphyr::from_str(&shown.unwrap()).unwrap();
        assert_eq!(shown["version"], version);
        assert_eq!(shown["appVersion"], version);
        for dependency in shown["dependencies"].as_array().into_iter().flatten() {
            assert_eq!(dependency["version"], version);
        }
    }
}

/// Whatever the release is called, and two of them beside each other.
#[tokio::test]
async fn names_follow_the_release_and_stay_labels() {
    const LABEL_BYTES_MAX: usize = 63;
    let helm = Helm::offline().unwrap();
    let everything = json!({
        "caBundle": "-----BEGIN CERTIFICATE-----", "podMonitor": {"enabled": true}, "resourceQuota": {"enabled": true},
    });
    // The longest name of a release.
    let long = "a".repeat(53);
    for (release, operator) in [
        ("larder", "Deployment/larder-operator"),
        ("prod", "Deployment/prod-larder-operator"),
        ("my-larder", "Deployment/my-larder-operator"),
        (&long, &format!("Deployment/{}-operator", "a".repeat(40))),
    ] {
        let rendered = helm.template(&larder(), release, NAMESPACE, &everything).await;
        let rendered = rendered.unwrap();
        assert!(rendered.get(operator).is_some(), "{release}: no {operator}");
        for (name, object) in rendered.iter() {
            let own = object["metadata"]["name"].as_str().unwrap();
            assert!(own.len() <= LABEL_BYTES_MAX, "{name}");
        }
    }
}
