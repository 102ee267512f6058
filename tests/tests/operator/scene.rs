//! The cluster: a control plane with the chart's rights and policy, and one node that the test plays.

use std::path::PathBuf;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt as _};
use larder_tests::charts;
use larder_tests::cluster::Cluster;
use larder_tests::operator::OperatorProcess;
use larder_tests::real::Helm;
use larder_tests::real::helm::Manifests;
use serde_json::{Value, json};

/// The release's namespace; the release is `larder`.
pub(crate) const NAMESPACE: &str = "larder-system";
/// The name of the mirror's objects.
pub(crate) const NAME: &str = "larder-mirror-simple";
const NODE: &str = "worker";
/// Kinds of the chart's that are applied. The rest would need nodes, and the test starts the programs itself.
const KINDS: [&str; 7] = [
    "ServiceAccount",
    "ClusterRole",
    "ClusterRoleBinding",
    "Role",
    "RoleBinding",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionPolicyBinding",
];

pub(crate) struct Scene {
    pub(crate) cluster: Cluster,
    pub(crate) mirrors: Api<DynamicObject>,
    /// What the chart makes of its defaults.
    pub(crate) chart: Manifests,
    operators: PathBuf,
}

impl Scene {
    /// The definition is not there yet, and the namespace is held to Pod Security `baseline`.
    pub(crate) async fn new() -> Self {
        let cluster = Cluster::with_nodes(&[]).await.unwrap();
        cluster
            .kubectl(&["create", "namespace", NAMESPACE])
            .await
            .unwrap();
        let helm = Helm::offline().unwrap();
        let (chart, defaults) = (charts::chart("larder"), json!({}));
        let chart = helm
            .template(&chart, "larder", NAMESPACE, &defaults)
            .await
            .unwrap();
        apply_all(&cluster, &chart, &KINDS).await;
        let operators = cluster.kubeconfig_of(NAMESPACE, "larder-operator").await.unwrap();
        let mirrors = Api::all_with(cluster.client(), &mirror_kind());
        Self {
            cluster,
            mirrors,
            chart,
            operators,
        }
    }

    pub(crate) async fn apply_rights(&self) {
        apply_all(&self.cluster, &self.chart, &KINDS).await;
    }

    pub(crate) async fn define(&self) {
        apply_all(&self.cluster, &self.chart, &["CustomResourceDefinition"]).await;
    }

    /// An operator with the flags and the token that the chart gives it.
    pub(crate) async fn operator(&self, identity: &str) -> OperatorProcess {
        let flags = self.flags("Deployment/larder-operator");
        OperatorProcess::start(identity, &self.operators, &flags, &self.cluster.logs())
            .await
            .unwrap()
    }

    /// What the chart tells a program about its caches.
    pub(crate) fn flags(&self, workload: &str) -> Vec<String> {
        let workload = self.chart.get(workload).unwrap();
        let arguments = workload.pointer("/spec/template/spec/containers/0/args").unwrap();
        let arguments: Vec<String> = serde_json::from_value(arguments.clone()).unwrap();
        let own = ["run", "cleanup", "--identity=", "--admin=", "--timeout="];
        let is_own = |argument: &String| own.iter().any(|own| argument.starts_with(own));
        arguments
            .into_iter()
            .filter(|argument| !is_own(argument))
            .collect()
    }

    pub(crate) async fn apply(&self, spec: Value) {
        let mirror = json!({
            "apiVersion": "larder.dev/v1alpha1", "kind": "RegistryMirror",
            "metadata": {"name": "simple"}, "spec": spec,
        });
        let parameters = PatchParams::apply("a-person").force();
        self.mirrors
            .patch("simple", &parameters, &Patch::Apply(mirror))
            .await
            .unwrap();
    }

    pub(crate) async fn delete(&self, mirror: &str) {
        let parameters = DeleteParams::default();
        self.mirrors.delete(mirror, &parameters).await.unwrap();
    }

    pub(crate) async fn exists(&self, mirror: &str) -> bool {
        self.mirrors.get_opt(mirror).await.unwrap().is_some()
    }

    /// Reason and message of the condition Ready; empty where there is none.
    pub(crate) async fn ready(&self, mirror: &str) -> (String, String) {
        let mirror = self.mirrors.get(mirror).await.unwrap();
        let conditions = mirror.data["status"]["conditions"].as_array().cloned();
        let mut conditions = conditions.unwrap_or_default().into_iter();
        let ready = conditions
            .find(|condition| condition["type"] == "Ready")
            .unwrap_or_default();
        let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
        (text("reason"), text("message"))
    }

    pub(crate) fn own<K>(&self) -> Api<K>
    where
        K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>,
    {
        Api::namespaced(self.client(), NAMESPACE)
    }

    pub(crate) fn client(&self) -> Client {
        self.cluster.client()
    }

    /// The document that the nodes load; empty where there is none.
    pub(crate) async fn document(&self) -> String {
        let config_map = self.own::<ConfigMap>().get_opt(NAME).await.unwrap();
        let data = config_map.and_then(|config_map| config_map.data);
        data.and_then(|mut data| data.remove("mirror.yaml"))
            .unwrap_or_default()
    }

    pub(crate) async fn daemon_set(&self) -> Option<DaemonSet> {
        self.own::<DaemonSet>().get_opt(NAME).await.unwrap()
    }

    pub(crate) async fn add_node(&self) {
        let labels = json!({"kubernetes.io/os": "linux"});
        let node: Node =
            serde_json::from_value(json!({"metadata": {"name": NODE, "labels": labels}})).unwrap();
        let nodes: Api<Node> = Api::all(self.client());
        nodes.create(&PostParams::default(), &node).await.unwrap();
        let resources = json!({"cpu": "4", "memory": "8Gi", "pods": "110"});
        self.patch_node(json!({"capacity": resources, "allocatable": resources}))
            .await;
    }

    async fn patch_node(&self, mut status: Value) {
        status["conditions"] = json!([{"type": "Ready", "status": "True", "reason": "Test", "message": "",
            "lastHeartbeatTime": now(), "lastTransitionTime": now()}]);
        let nodes: Api<Node> = Api::all(self.client());
        let patch = Patch::Merge(json!({"status": status}));
        nodes
            .patch_status(NODE, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// What a kubelet does: the node is Ready; pods that should end are gone, all others are Ready. Returns the pods.
    pub(crate) async fn run_pods(&self) -> Vec<Pod> {
        self.patch_node(json!({})).await;
        let pods = self.own::<Pod>();
        let all = pods.list(&ListParams::default()).await.unwrap().items;
        for pod in &all {
            if pod.metadata.deletion_timestamp.is_some() {
                let now = DeleteParams::default().grace_period(0);
                // It may be gone already.
                let _ = pods.delete(&pod.name_any(), &now).await;
            } else if pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()) {
                let ready = json!({"type": "Ready", "status": "True", "lastTransitionTime": now()});
                let status = json!({"status": {"phase": "Running", "conditions": [ready]}});
                let _ = pods
                    .patch_status(&pod.name_any(), &PatchParams::default(), &Patch::Merge(status))
                    .await;
            }
        }
        all
    }

    /// Whether a cache runs on the node.
    pub(crate) async fn serves(&self) -> bool {
        let pods = self.run_pods().await;
        pods.iter().any(|pod| args(pod).contains(&"serve".to_owned()))
    }
}

/// Applies the objects of these kinds, as helm does.
async fn apply_all(cluster: &Cluster, chart: &Manifests, kinds: &[&str]) {
    let objects = chart.iter();
    let wanted = objects.filter(|(name, _)| kinds.iter().any(|kind| name.split('/').next() == Some(*kind)));
    let items: Vec<_> = wanted.map(|(_, object)| object).collect();
    assert!(!items.is_empty(), "{kinds:?}");
    let file = tempfile::NamedTempFile::new().unwrap();
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items});
    serde_json::to_writer(&file, &list).unwrap();
    let path = file.path().to_str().unwrap();
    let apply = ["apply", "--server-side", "--force-conflicts", "--filename", path];
    cluster.kubectl(&apply).await.unwrap();
}

pub(crate) fn mirror_kind() -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk("larder.dev", "v1alpha1", "RegistryMirror"))
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

pub(crate) fn spec(host: &str) -> Value {
    json!({"registries": [{"host": host}]})
}

/// All that its containers are told.
pub(crate) fn args(pod: &Pod) -> Vec<String> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    containers
        .flat_map(|container| container.args.clone().unwrap_or_default())
        .collect()
}
