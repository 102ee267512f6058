//! Nodes and pods that are objects and nothing else, made and patched as the DaemonSet's controller and kubelets would.

use std::ops::Range;
use std::path::Path;

use futures_util::{StreamExt as _, stream};
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Namespace, Node, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client};
use larder_tests::cluster::Cluster;
use larder_tests::wait::until;
use serde_json::{Value, json};

use super::{MIRROR, NAMESPACE};

/// Where the nodes' addresses are.
pub(crate) const ADDRESSES: &str = "10.64.0.0/16";
/// Requests under way at once.
const AT_ONCE: usize = 32;

/// The nodes and pods of one cluster.
pub(crate) struct Fleet {
    client: Client,
}

pub(crate) fn node(number: usize) -> String {
    format!("node-{number:04}")
}

pub(crate) fn ip(number: usize) -> String {
    format!("10.64.{}.{}", number / 250, number % 250 + 1)
}

fn pod(number: usize) -> String {
    format!("larder-mirror-{MIRROR}-{number:04}")
}

impl Fleet {
    /// Makes the definition and the namespace.
    pub(crate) async fn prepare(cluster: &Cluster) -> Self {
        let client = cluster.client();
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/registrymirrors.yaml");
        cluster
            .kubectl(&["apply", "--server-side", "-f", path.to_str().unwrap()])
            .await
            .unwrap();
        let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
        until("the definition is established", async || {
            let definition = definitions.get("registrymirrors.larder.dev").await.unwrap();
            let conditions = definition
                .status
                .and_then(|status| status.conditions)
                .unwrap_or_default();
            conditions
                .iter()
                .any(|known| known.type_ == "Established" && known.status == "True")
        })
        .await;
        let labels = json!({"pod-security.kubernetes.io/enforce": "privileged"});
        let namespace = json!({"metadata": {"name": NAMESPACE, "labels": labels}});
        let namespaces: Api<Namespace> = Api::all(client.clone());
        let namespace = serde_json::from_value(namespace).unwrap();
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        Self { client }
    }

    pub(crate) fn mirrors(&self) -> Api<DynamicObject> {
        mirrors(self.client.clone())
    }

    /// Makes the mirror and returns its UID.
    pub(crate) async fn create_mirror(&self) -> String {
        let mirror = json!({
            "apiVersion": "larder.dev/v1alpha1", "kind": "RegistryMirror", "metadata": {"name": MIRROR},
            "spec": {"registries": [{"host": "docker.io"}]},
        });
        let mirror = serde_json::from_value(mirror).unwrap();
        let made = self
            .mirrors()
            .create(&PostParams::default(), &mirror)
            .await
            .unwrap();
        made.metadata.uid.unwrap()
    }

    /// The DaemonSet, once the operator has made it.
    pub(crate) async fn daemon_set(&self) -> DaemonSet {
        let sets: Api<DaemonSet> = Api::namespaced(self.client.clone(), NAMESPACE);
        let name = format!("larder-mirror-{MIRROR}");
        let mut found = None;
        until("the operator has made the DaemonSet", async || {
            found = sets.get_opt(&name).await.unwrap();
            found.is_some()
        })
        .await;
        found.unwrap()
    }

    /// Makes all nodes and their pods, and has each become ready.
    pub(crate) async fn roll_out(&self, daemon_set: &DaemonSet, nodes: usize) {
        self.set_desired(daemon_set, nodes).await;
        let pods: Api<Pod> = self.pods();
        let all: Api<Node> = Api::all(self.client.clone());
        let create = PostParams::default();
        each(0..nodes, async |number| {
            let node = serde_json::from_value(json!({"metadata": {"name": node(number)}})).unwrap();
            all.create(&create, &node).await.unwrap();
            pods.create(&create, &self.pod(daemon_set, number)).await.unwrap();
            self.set_one_ready(number, true).await;
        })
        .await;
    }

    /// Has pods become ready, or no longer.
    pub(crate) async fn set_ready(&self, numbers: Range<usize>, ready: bool) {
        each(numbers, async |number| self.set_one_ready(number, ready).await).await;
    }

    async fn set_one_ready(&self, number: usize, ready: bool) {
        let ip = ip(number);
        let condition = |type_: &str, holds: bool| {
            let status = if holds { "True" } else { "False" };
            json!({"type": type_, "status": status})
        };
        let container = |name: &str| {
            json!({
                "name": name, "image": "larder.test/cache-node:1", "imageID": "", "ready": ready, "restartCount": 0,
                "state": {"running": {}},
            })
        };
        let status = json!({"status": {
            "phase": "Running", "hostIP": ip, "podIP": ip,
            "conditions": [condition("PodScheduled", true), condition("Ready", ready)],
            "containerStatuses": [container("cache"), container("node-config")],
        }});
        self.pods()
            .patch_status(&pod(number), &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
    }

    async fn set_desired(&self, daemon_set: &DaemonSet, nodes: usize) {
        let status = json!({"status": {
            "observedGeneration": daemon_set.metadata.generation, "desiredNumberScheduled": nodes,
            "currentNumberScheduled": nodes, "numberMisscheduled": 0, "numberReady": nodes,
        }});
        let sets: Api<DaemonSet> = Api::namespaced(self.client.clone(), NAMESPACE);
        let name = daemon_set.metadata.name.as_deref().unwrap();
        sets.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
    }

    /// The pod that the DaemonSet's controller would make for a node, already bound.
    fn pod(&self, daemon_set: &DaemonSet, number: usize) -> Pod {
        let template: Value = serde_json::to_value(&daemon_set.spec.as_ref().unwrap().template).unwrap();
        let mut metadata = template["metadata"].clone();
        metadata["name"] = pod(number).into();
        metadata["labels"]["pod-template-generation"] = "1".into();
        metadata["ownerReferences"] = json!([{
            "apiVersion": "apps/v1", "kind": "DaemonSet", "controller": true,
            "name": daemon_set.metadata.name, "uid": daemon_set.metadata.uid,
        }]);
        let mut spec = template["spec"].clone();
        spec["nodeName"] = node(number).into();
        serde_json::from_value(json!({"metadata": metadata, "spec": spec})).unwrap()
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }
}

pub(crate) fn mirrors(client: Client) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("larder.dev", "v1alpha1", "RegistryMirror");
    Api::all_with(client, &ApiResource::from_gvk(&kind))
}

async fn each(numbers: Range<usize>, act: impl AsyncFn(usize)) {
    stream::iter(numbers)
        .for_each_concurrent(AT_ONCE, |number| act(number))
        .await;
}
