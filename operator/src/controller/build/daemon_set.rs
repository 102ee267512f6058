//! The DaemonSet: one pod per node with the cache and the keeper of the runtime's configuration, or, when the mirror goes,
//! with what restores the node.
//!
//! What the pods can reload (the document) is not part of the template, so that it restarts nothing.

mod affinity;
mod containers;
mod volumes;

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetSpec, DaemonSetUpdateStrategy, RollingUpdateDaemonSet};
use k8s_openapi::api::core::v1::{
    LocalObjectReference, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile, Toleration,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use larder_crds::names::{CACHE_CONTAINER, CACHE_UID, NODE_CONFIG_CONTAINER};

use super::{Purpose, Validated, labels, metadata, object_name, selector};
use crate::cli::CacheOptions;

/// How many pods are replaced at a time unless the mirror says otherwise.
const MAX_UNAVAILABLE: &str = "10%";
/// How many of those that only restore nodes: there is nothing left to keep available.
const MAX_UNAVAILABLE_WITHDRAWING: &str = "100%";
/// Time for pulls to drain and for the runtime's configuration to be withdrawn.
const TERMINATION_GRACE_SECONDS: i64 = 45;
/// Tells kubectl whose log is meant.
const DEFAULT_CONTAINER_ANNOTATION: &str = "kubectl.kubernetes.io/default-container";

pub(super) fn build(mirror: &Validated, purpose: Purpose, options: &CacheOptions) -> DaemonSet {
    let spec = DaemonSetSpec {
        selector: LabelSelector {
            match_labels: Some(selector(mirror)),
            ..LabelSelector::default()
        },
        template: PodTemplateSpec {
            metadata: Some(pod_metadata(mirror, purpose)),
            spec: Some(pod(mirror, purpose, options)),
        },
        update_strategy: Some(update_strategy(mirror, purpose)),
        ..DaemonSetSpec::default()
    };
    DaemonSet {
        metadata: metadata(mirror, options),
        spec: Some(spec),
        ..DaemonSet::default()
    }
}

fn pod_metadata(mirror: &Validated, purpose: Purpose) -> ObjectMeta {
    let node = &mirror.document.spec.node;
    let main = match purpose {
        Purpose::Serve => CACHE_CONTAINER,
        Purpose::Withdraw => NODE_CONFIG_CONTAINER,
    };
    let mut annotations = BTreeMap::from([(DEFAULT_CONTAINER_ANNOTATION.to_owned(), main.to_owned())]);
    annotations.extend(node.pod_annotations.clone());
    // The user's labels come first: none of them may take ours away.
    let mut all = node.pod_labels.clone();
    all.extend(labels(mirror));
    ObjectMeta {
        labels: Some(all),
        annotations: Some(annotations),
        ..ObjectMeta::default()
    }
}

fn pod(mirror: &Validated, purpose: Purpose, options: &CacheOptions) -> PodSpec {
    let mut node_selector = mirror.document.spec.node.node_selector.clone();
    node_selector.insert("kubernetes.io/os".to_owned(), "linux".to_owned());
    let secrets = options
        .image_pull_secret
        .iter()
        .map(|name| LocalObjectReference { name: name.clone() });
    let secrets: Vec<_> = secrets.collect();
    PodSpec {
        service_account_name: Some(object_name(&mirror.document.metadata.name)),
        automount_service_account_token: Some(false),
        enable_service_links: Some(false),
        host_network: Some(true),
        // Pulling the cluster's DNS server must not need the cluster's DNS server.
        dns_policy: Some("Default".to_owned()),
        priority_class_name: Some(options.priority_class.clone()),
        node_selector: Some(node_selector),
        affinity: Some(affinity::of(&mirror.affinity)),
        tolerations: Some(tolerations(mirror)),
        image_pull_secrets: (!secrets.is_empty()).then_some(secrets),
        termination_grace_period_seconds: Some(TERMINATION_GRACE_SECONDS),
        security_context: Some(PodSecurityContext {
            fs_group: Some(CACHE_UID),
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..SeccompProfile::default()
            }),
            se_linux_options: options.selinux_options.clone(),
            ..PodSecurityContext::default()
        }),
        init_containers: containers::init(mirror, purpose, options),
        containers: containers::main(mirror, purpose, options),
        volumes: Some(volumes::all(mirror, purpose, options)),
        ..PodSpec::default()
    }
}

/// By default all taints: a node that is tainted pulls images too.
fn tolerations(mirror: &Validated) -> Vec<Toleration> {
    if !mirror.tolerations.is_empty() {
        return mirror.tolerations.clone();
    }
    vec![Toleration {
        operator: Some("Exists".to_owned()),
        ..Toleration::default()
    }]
}

fn update_strategy(mirror: &Validated, purpose: Purpose) -> DaemonSetUpdateStrategy {
    let rolling = |max_unavailable: &str| DaemonSetUpdateStrategy {
        type_: Some("RollingUpdate".to_owned()),
        rolling_update: Some(RollingUpdateDaemonSet {
            max_unavailable: Some(IntOrString::String(max_unavailable.to_owned())),
            max_surge: None,
        }),
    };
    let asked = &mirror.update_strategy;
    match purpose {
        Purpose::Withdraw => rolling(MAX_UNAVAILABLE_WITHDRAWING),
        Purpose::Serve if asked.type_.as_deref().unwrap_or("RollingUpdate") != "RollingUpdate" => {
            asked.clone()
        }
        Purpose::Serve if asked.rolling_update.is_none() => rolling(MAX_UNAVAILABLE),
        Purpose::Serve => DaemonSetUpdateStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: asked.rolling_update.clone(),
        },
    }
}
