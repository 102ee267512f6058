//! The schema of the values knows exactly those that there are, and refuses all others.

use std::collections::BTreeSet;

use larder_tests::charts::documented;
use serde_json::{Value, json};

use crate::{at, read, refusal};

/// Helm's own.
const NOT_OURS: [&str; 2] = ["global", "larder-crds"];

/// Paths of the schema's values, and of the objects that hold them.
#[derive(Default)]
struct Paths {
    leaves: BTreeSet<String>,
    objects: Vec<String>,
}

impl Paths {
    fn of_schema() -> Self {
        let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
        let mut paths = Self::default();
        paths.collect(&schema, &schema, "");
        paths
    }

    fn collect(&mut self, schema: &Value, part: &Value, path: &str) {
        let part = match part["$ref"].as_str() {
            Some(reference) => schema.pointer(reference.trim_start_matches('#')).unwrap(),
            None => part,
        };
        let Some(properties) = part["properties"].as_object() else {
            self.leaves.insert(path.to_owned());
            return;
        };
        self.objects.push(path.to_owned());
        for (key, property) in properties {
            if !NOT_OURS.contains(&key.as_str()) {
                self.collect(schema, property, &below(path, key));
            }
        }
    }
}

fn below(path: &str, key: &str) -> String {
    if path.is_empty() {
        key.to_owned()
    } else {
        format!("{path}.{key}")
    }
}

/// The values that there are, by their paths; what is below them is Kubernetes'.
pub(crate) fn leaves() -> BTreeSet<String> {
    Paths::of_schema().leaves
}

#[test]
fn values_comments_and_schema_name_the_same() {
    let yaml = read("values.yaml");
    let described = documented(&yaml).unwrap();
    let described: BTreeSet<_> = described.into_iter().map(|value| value.path).collect();
    let leaves = leaves();
    assert_eq!(described, leaves);

    // Nothing is in the file that no comment describes.
    let values: Value = serde_saphyr::from_str(&yaml).unwrap();
    let mut undescribed = Vec::new();
    undescribed_in(&values, "", &leaves, &mut undescribed);
    assert!(undescribed.is_empty(), "{undescribed:?}");
}

fn undescribed_in(value: &Value, path: &str, leaves: &BTreeSet<String>, found: &mut Vec<String>) {
    match value.as_object() {
        _ if leaves.contains(path) => {}
        Some(map) if !map.is_empty() => {
            for (key, value) in map {
                undescribed_in(value, &below(path, key), leaves, found);
            }
        }
        _ => found.push(path.to_owned()),
    }
}

#[tokio::test]
async fn unknown_keys_are_refused_everywhere() {
    let objects = Paths::of_schema().objects;
    assert!(objects.len() > 10, "{objects:?}");
    for object in objects.iter().map(String::as_str).chain(["larder-crds"]) {
        let refused = refusal(&at(&[(&below(object, "typo"), json!("x"))])).await;
        assert!(
            refused.contains("additional properties 'typo' not allowed"),
            "{object}: {refused}"
        );
    }
}

/// What would only fail on a node, or open more of it than was meant.
#[tokio::test]
async fn senseless_values_are_refused() {
    for (path, value) in [
        ("allowedHostPaths", json!([])),
        ("allowedHostPaths", json!(["/"])),
        ("allowedHostPaths", json!(["var/lib/larder"])),
        ("allowedHostPaths", json!(["/var/lib/../.."])),
        ("allowedHostPaths", json!(["/var/lib/larder/"])),
        ("caBundle", json!("corp-ca")),
        ("cacheNode.image.digest", json!("sha256:abc")),
        ("cacheNode.image.tag", json!("a b")),
        ("cacheNode.image.pullPolicy", json!("Sometimes")),
        ("cacheNode.priorityClassName", json!("")),
        ("operator.replicas", json!("1")),
        ("cleanup.timeoutSeconds", json!(1)),
        ("fullnameOverride", json!("Larder")),
        ("podMonitor.interval", json!("30")),
    ] {
        let refused = refusal(&at(&[(path, value.clone())])).await;
        let place = format!("at '/{}", path.replace('.', "/"));
        assert!(refused.contains(&place), "{path} = {value}: {refused}");
    }
}
