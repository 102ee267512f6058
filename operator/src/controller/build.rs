//! Third step: the objects of a mirror, as they should be. Pure.

mod config_map;
mod daemon_set;
mod service;
mod service_account;

use std::collections::BTreeMap;
use std::marker::PhantomData;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use larder_crds::names::{CACHE_NODE_COMPONENT, COMPONENT_LABEL, FIELD_MANAGER, MIRROR_LABEL, OBJECT_PREFIX};
use larder_crds::{API_VERSION, KIND};

use super::validate::Validated;
use crate::cli::CacheOptions;

/// The label of all that the operator made, as opposed to what merely concerns a mirror.
pub const MANAGED_BY_LABEL: &str = "app.kubernetes.io/managed-by";

/// Built, and not applied yet.
#[derive(Clone, Copy, Debug)]
pub struct Prepared;

/// Found or applied: what the API server has.
#[derive(Clone, Copy, Debug)]
pub struct Applied;

/// A mirror's objects. Each is named [`object_name`].
#[derive(Clone, Debug)]
pub struct Resources<State> {
    /// The pods' identity, with which they can do nothing.
    pub service_account: ServiceAccount,
    /// The document that the nodes load.
    pub config_map: ConfigMap,
    /// Finds the nodes' metrics.
    pub service: Service,
    /// The caches.
    pub daemon_set: DaemonSet,
    pub(super) state: PhantomData<State>,
}

/// What the DaemonSet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Serving pulls.
    Serve,
    /// Leaving every node as it was found.
    Withdraw,
}

/// The name of all objects of the mirror `name`.
pub fn object_name(name: &str) -> String {
    format!("{OBJECT_PREFIX}{name}")
}

/// Builds the objects.
///
/// # Errors
/// When the document cannot be written as YAML, which no specification is known to cause.
pub fn build(
    mirror: &Validated,
    purpose: Purpose,
    options: &CacheOptions,
) -> Result<Resources<Prepared>, serde_saphyr::ser::Error> {
    Ok(Resources {
        service_account: service_account::build(mirror, options),
        config_map: config_map::build(mirror, options)?,
        service: service::build(mirror, options),
        daemon_set: daemon_set::build(mirror, purpose, options),
        state: PhantomData,
    })
}

/// What selects the pods; it can never change.
fn selector(mirror: &Validated) -> BTreeMap<String, String> {
    let labels = [
        (MIRROR_LABEL, mirror.document.metadata.name.as_str()),
        (COMPONENT_LABEL, CACHE_NODE_COMPONENT),
    ];
    labels
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .into()
}

fn labels(mirror: &Validated) -> BTreeMap<String, String> {
    let mut labels = selector(mirror);
    for (key, value) in [
        ("app.kubernetes.io/name", "larder"),
        (MANAGED_BY_LABEL, FIELD_MANAGER),
    ] {
        labels.insert(key.to_owned(), value.to_owned());
    }
    labels
}

fn metadata(mirror: &Validated, options: &CacheOptions) -> ObjectMeta {
    let name = &mirror.document.metadata.name;
    let owner = OwnerReference {
        api_version: API_VERSION.to_owned(),
        kind: KIND.to_owned(),
        name: name.clone(),
        uid: mirror.uid.clone(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    };
    ObjectMeta {
        name: Some(object_name(name)),
        namespace: Some(options.namespace.clone()),
        labels: Some(labels(mirror)),
        owner_references: Some(vec![owner]),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests;
