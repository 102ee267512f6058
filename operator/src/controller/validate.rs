//! Second step: what the specification asks for, or everything that is wrong with it. Pure.
//!
//! The schema has checked what a schema can; this checks what depends on the operator's own settings and what the schema
//! leaves open. The nodes check the rest when they load the document.

use std::path::{Component, Path};

use k8s_openapi::api::apps::v1::DaemonSetUpdateStrategy;
use k8s_openapi::api::core::v1::{Affinity, ResourceRequirements, Toleration};
use larder_crds::names::MIRROR_NAME_BYTES_MAX;
use larder_crds::{API_VERSION, Document, KIND, Metadata, Node, Quantity, RegistryMirror};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::cli::CacheOptions;

/// A mirror that objects can be built from.
#[derive(Clone, Debug)]
pub struct Validated {
    /// What the nodes get.
    pub document: Document,
    /// The mirror's own identity.
    pub uid: String,
    /// `spec.node.affinity`.
    pub affinity: Affinity,
    /// `spec.node.tolerations`.
    pub tolerations: Vec<Toleration>,
    /// `spec.node.resources`.
    pub resources: ResourceRequirements,
    /// `spec.node.updateStrategy`.
    pub update_strategy: DaemonSetUpdateStrategy,
}

/// Everything that is wrong with a specification, each with its field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Invalid(pub Vec<String>);

/// Checks the specification.
///
/// # Errors
/// With everything that is wrong with it.
pub fn validate(mirror: &RegistryMirror, options: &CacheOptions) -> Result<Validated, Invalid> {
    let mut wrong = Vec::new();
    let metadata = &mirror.metadata;
    let name = metadata.name.clone().unwrap_or_default();
    let uid = metadata.uid.clone().unwrap_or_default();
    if name.len() > MIRROR_NAME_BYTES_MAX || name.contains('.') {
        wrong.push(format!(
            "metadata.name: must have at most {MIRROR_NAME_BYTES_MAX} characters and no dot"
        ));
    }
    let spec = &mirror.spec;
    let node = &spec.node;
    for (field, path) in [
        ("spec.cache.path", &spec.cache.path),
        ("spec.node.containerd.configPath", &node.containerd.config_path),
        ("spec.node.containerd.configDir", &node.containerd.config_dir),
    ] {
        check_host_path(field, path, options, &mut wrong);
    }
    check_ports(node, &mut wrong);
    if let Some(Quantity(text)) = &spec.cache.verify_whole_up_to
        && !is_quantity(text)
    {
        wrong.push(format!(
            "spec.cache.verifyWholeUpTo: {text:?} is not a size such as 1Mi"
        ));
    }
    let affinity = typed("spec.node.affinity", &node.affinity, &mut wrong);
    let tolerations = typed("spec.node.tolerations", &node.tolerations, &mut wrong);
    let resources = typed("spec.node.resources", &node.resources, &mut wrong);
    let update_strategy = typed("spec.node.updateStrategy", &node.update_strategy, &mut wrong);
    if !wrong.is_empty() {
        return Err(Invalid(wrong));
    }
    let metadata = Metadata {
        name,
        uid: Some(uid.clone()),
        generation: metadata.generation,
    };
    let document = Document {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        metadata,
        spec: spec.clone(),
    };
    Ok(Validated {
        document,
        uid,
        affinity,
        tolerations,
        resources,
        update_strategy,
    })
}

/// These are written to as root, or read by a program that runs as root: only where the cluster's owner said.
fn check_host_path(field: &str, path: &str, options: &CacheOptions, wrong: &mut Vec<String>) {
    let plain = path.starts_with('/')
        && !path.ends_with('/')
        && !path.contains("//")
        && Path::new(path)
            .components()
            .all(|part| matches!(part, Component::RootDir | Component::Normal(_)))
        && !path.split('/').any(|part| part == ".");
    let allowed = &options.allowed_host_path;
    if !plain {
        wrong.push(format!(
            "{field}: {path:?} must be an absolute path without `.`, `..` or a trailing slash"
        ));
    } else if !allowed.iter().any(|allowed| Path::new(path).starts_with(allowed)) {
        let allowed: Vec<_> = allowed.iter().map(|path| path.display().to_string()).collect();
        wrong.push(format!(
            "{field}: {path} does not lie under {}, the paths that the operator allows (allowedHostPaths)",
            allowed.join(" or ")
        ));
    }
}

fn check_ports(node: &Node, wrong: &mut Vec<String>) {
    let ports = [
        ("spec.node.port", node.port),
        ("spec.node.adminPort", node.admin_port),
        ("spec.node.metricsPort", node.metrics_port),
    ];
    for (index, (field, port)) in ports.iter().enumerate() {
        if !(1..=65535).contains(port) {
            wrong.push(format!("{field}: {port} is not a port"));
        }
        for (other, same) in &ports[..index] {
            if same == port {
                wrong.push(format!("{field}: {port} is also {other}"));
            }
        }
    }
}

/// A field that has a type of Kubernetes. What that type does not know would be lost without a word, and is refused.
fn typed<T: Default + DeserializeOwned + Serialize>(
    field: &str,
    raw: &impl Serialize,
    wrong: &mut Vec<String>,
) -> T {
    let read = || -> serde_json::Result<(T, bool)> {
        let raw = serde_json::to_value(raw)?;
        let value: T = serde_json::from_value(raw.clone())?;
        let kept = serde_json::to_value(&value)?;
        let is_whole = holds(&kept, &raw);
        Ok((value, is_whole))
    };
    match read() {
        Ok((value, true)) => return value,
        Ok((_, false)) => wrong.push(format!("{field}: has fields that Kubernetes does not know here")),
        Err(error) => wrong.push(format!("{field}: {error}")),
    }
    T::default()
}

/// Whether `kept` has all that `raw` has; nulls and what is empty need not be kept.
fn holds(kept: &Value, raw: &Value) -> bool {
    match (kept, raw) {
        (_, Value::Null) => true,
        (Value::Object(kept), Value::Object(raw)) => raw
            .iter()
            .all(|(key, raw)| holds(kept.get(key).unwrap_or(&Value::Null), raw)),
        (Value::Array(kept), Value::Array(raw)) => {
            kept.len() == raw.len() && kept.iter().zip(raw).all(|(kept, raw)| holds(kept, raw))
        }
        (Value::Null, Value::Object(raw)) => raw.is_empty(),
        (Value::Null, Value::Array(raw)) => raw.is_empty(),
        // A quantity may be written as a number, and is kept as text.
        (Value::String(kept), Value::Number(raw)) => *kept == raw.to_string(),
        (kept, raw) => kept == raw,
    }
}

fn is_quantity(text: &str) -> bool {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let suffix = text.get(digits.len()..).unwrap_or_default();
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let all_digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    const SUFFIXES: [&str; 14] = [
        "", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    !whole.is_empty() && all_digits(whole) && all_digits(fraction) && SUFFIXES.contains(&suffix)
}

#[cfg(test)]
mod tests;
