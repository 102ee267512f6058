//! What the chart's roles allow, as the API server judges it.

use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use kube::Api;
use kube::api::PostParams;
use larder_tests::cluster::Cluster;
use larder_tests::prelude::*;

use crate::{NAMESPACE, policy};

/// A request: verb, group, resource with subresource, namespace (`""`: none or all), and name (`""`: any).
type Asked = (
    &'static str,
    &'static str,
    &'static str,
    &'static str,
    &'static str,
);

const EVERY_VERB: [&str; 8] = [
    "get",
    "list",
    "watch",
    "create",
    "update",
    "patch",
    "delete",
    "deletecollection",
];

const ALLOWED: [Asked; 18] = [
    ("watch", "larder.dev", "registrymirrors", "", ""),
    ("patch", "larder.dev", "registrymirrors", "", "default"),
    (
        "update",
        "larder.dev",
        "registrymirrors/finalizers",
        "",
        "default",
    ),
    ("patch", "larder.dev", "registrymirrors/status", "", "default"),
    ("get", "", "nodes", "", "node1"),
    ("create", "apps", "daemonsets", NAMESPACE, ""),
    ("patch", "apps", "daemonsets", NAMESPACE, "larder-mirror-default"),
    ("delete", "apps", "daemonsets", NAMESPACE, "larder-mirror-default"),
    ("patch", "", "configmaps", NAMESPACE, "larder-mirror-default"),
    ("create", "", "serviceaccounts", NAMESPACE, ""),
    ("delete", "", "services", NAMESPACE, "larder-mirror-default"),
    ("watch", "", "pods", NAMESPACE, ""),
    ("list", "", "events", NAMESPACE, ""),
    ("create", "coordination.k8s.io", "leases", NAMESPACE, ""),
    (
        "get",
        "coordination.k8s.io",
        "leases",
        NAMESPACE,
        "larder-operator",
    ),
    (
        "update",
        "coordination.k8s.io",
        "leases",
        NAMESPACE,
        "larder-operator",
    ),
    ("create", "events.k8s.io", "events", "default", ""),
    ("patch", "events.k8s.io", "events", "default", ""),
];

const REFUSED: [Asked; 21] = [
    ("create", "larder.dev", "registrymirrors", "", ""),
    ("update", "larder.dev", "registrymirrors", "", "default"),
    ("delete", "larder.dev", "registrymirrors", "", "default"),
    ("list", "", "nodes", "", ""),
    ("patch", "", "nodes", "", "node1"),
    ("get", "", "nodes/proxy", "", "node1"),
    ("create", "apps", "daemonsets", "kube-system", ""),
    ("create", "apps", "deployments", NAMESPACE, ""),
    ("create", "", "pods", NAMESPACE, ""),
    ("create", "", "pods/exec", NAMESPACE, ""),
    ("get", "", "pods/log", NAMESPACE, ""),
    ("list", "", "pods", "", ""),
    ("get", "", "configmaps", "kube-system", ""),
    ("create", "", "serviceaccounts/token", NAMESPACE, ""),
    ("delete", "", "namespaces", NAMESPACE, NAMESPACE),
    ("get", "", "namespaces", NAMESPACE, NAMESPACE),
    ("update", "coordination.k8s.io", "leases", NAMESPACE, "another"),
    ("list", "coordination.k8s.io", "leases", "", ""),
    (
        "create",
        "rbac.authorization.k8s.io",
        "rolebindings",
        NAMESPACE,
        "",
    ),
    ("impersonate", "", "serviceaccounts", NAMESPACE, ""),
    (
        "delete",
        "admissionregistration.k8s.io",
        "validatingadmissionpolicies",
        "",
        "larder-operator",
    ),
];

const DELETE_MIRRORS: Asked = ("delete", "larder.dev", "registrymirrors", "", "default");

pub(crate) async fn the_operators_are_what_it_needs_and_no_more(cluster: &Cluster) {
    for request in ALLOWED {
        assert!(may(cluster, policy::OPERATOR, request).await, "must: {request:?}");
    }
    for request in REFUSED {
        assert!(
            !may(cluster, policy::OPERATOR, request).await,
            "must not: {request:?}"
        );
    }
    reads_no_secrets(cluster, policy::OPERATOR).await;
}

/// While the release is uninstalled.
pub(crate) async fn the_hooks_are_the_operators_and_to_delete_mirrors(cluster: &Cluster) {
    until("the hook may delete mirrors", async || {
        may(cluster, policy::CLEANUP, DELETE_MIRRORS).await
    })
    .await;
    for request in ALLOWED {
        assert!(may(cluster, policy::CLEANUP, request).await, "must: {request:?}");
    }
    for request in REFUSED.into_iter().filter(|request| *request != DELETE_MIRRORS) {
        assert!(
            !may(cluster, policy::CLEANUP, request).await,
            "must not: {request:?}"
        );
    }
    reads_no_secrets(cluster, policy::CLEANUP).await;
}

async fn reads_no_secrets(cluster: &Cluster, account: &str) {
    for namespace in [NAMESPACE, "default", ""] {
        for verb in EVERY_VERB {
            let request = (verb, "", "secrets", namespace, "");
            assert!(!may(cluster, account, request).await, "{request:?}");
        }
    }
}

async fn may(cluster: &Cluster, account: &str, request: Asked) -> bool {
    let (verb, group, resource, namespace, name) = request;
    let (resource, subresource) = resource.split_once('/').unwrap_or((resource, ""));
    let attributes = ResourceAttributes {
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: Some(subresource.to_owned()),
        namespace: Some(namespace.to_owned()),
        name: Some(name.to_owned()),
        ..ResourceAttributes::default()
    };
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(account.to_owned()),
            resource_attributes: Some(attributes),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let reviews: Api<SubjectAccessReview> = Api::all(cluster.client());
    let review = reviews.create(&PostParams::default(), &review).await;
    review.unwrap().status.unwrap().allowed
}
