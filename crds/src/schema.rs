//! The custom resource definition: what the types say, and what only the API server can check.
//!
//! Defaults stand outside of lists only. Tools that compare a manifest with the live object (Argo CD, Flux) compare
//! lists as a whole, so a default inside an item would look to them like a change that somebody made.

mod rules;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::CustomResourceExt as _;
use serde_json::{Map, Value, json};

use crate::RegistryMirror;

/// The types and the rules beside them do not fit together.
#[derive(Debug)]
pub struct SchemaError(String);

impl std::fmt::Display for SchemaError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the schema of RegistryMirror has no {}", self.0)
    }
}

impl std::error::Error for SchemaError {}

/// The definition of `RegistryMirror` as clusters get it.
///
/// # Errors
/// The rules name a field that the types do not have; a test sees to it that they do not.
pub fn custom_resource_definition() -> Result<CustomResourceDefinition, SchemaError> {
    let broken = |error: serde_json::Error| SchemaError(error.to_string());
    let mut definition = serde_json::to_value(RegistryMirror::crd()).map_err(broken)?;
    let schema = definition
        .pointer_mut("/spec/versions/0/schema/openAPIV3Schema")
        .ok_or_else(|| SchemaError("schema".to_owned()))?;
    drop_list_defaults(schema, false);
    for (path, additions) in rules::additions() {
        let Value::Object(additions) = additions else {
            continue;
        };
        extend(field(schema, path)?, additions);
    }
    serde_json::from_value(definition).map_err(broken)
}

/// The schema of the field at `path`, such as `spec.registries[].host`; the empty path is the object itself.
fn field<'a>(schema: &'a mut Value, path: &str) -> Result<&'a mut Map<String, Value>, SchemaError> {
    let missing = || SchemaError(path.to_owned());
    let mut place = schema;
    for part in path.split('.').filter(|part| !part.is_empty()) {
        let name = part.trim_end_matches("[]");
        let items = (part.len() - name.len()) / 2;
        place = place
            .get_mut("properties")
            .and_then(|fields| fields.get_mut(name))
            .ok_or_else(missing)?;
        for _ in 0..items {
            place = place.get_mut("items").ok_or_else(missing)?;
        }
    }
    place.as_object_mut().ok_or_else(missing)
}

/// What is required has no default.
fn extend(schema: &mut Map<String, Value>, additions: Map<String, Value>) {
    let required = additions.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        let fields = schema
            .get_mut("properties")
            .and_then(|fields| fields.get_mut(name));
        if let Some(Value::Object(field)) = fields {
            field.remove("default");
        }
    }
    schema.extend(additions);
}

fn drop_list_defaults(schema: &mut Value, in_list: bool) {
    let Value::Object(map) = schema else { return };
    if in_list {
        map.remove("default");
    }
    for (key, part) in map {
        match key.as_str() {
            "items" => drop_list_defaults(part, true),
            "properties" => {
                let fields = part.as_object_mut().into_iter().flatten();
                fields.for_each(|(_, field)| drop_list_defaults(field, in_list));
            }
            _ => {}
        }
    }
}

/// One rule in the Common Expression Language, and what a person is told who breaks it.
fn cel(rule: &str, message: &str) -> Value {
    json!({"rule": rule, "message": message})
}
