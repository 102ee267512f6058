//! Pods of the helper program, to look at the cluster from inside.

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
use kube::Api;
use kube::api::{DeleteParams, LogParams, PostParams};
use serde_json::json;

use super::{Cluster, HELPER_IMAGE, Node};
use crate::wait::until_some;

/// Where helper pods run.
pub const NAMESPACE: &str = "default";

/// What a helper pod shall be.
#[derive(Clone, Debug)]
pub struct HelperPod {
    name: String,
    image: String,
    arguments: Vec<String>,
    node: Option<String>,
    host_network: bool,
    host_path: Option<String>,
    restart: bool,
}

impl HelperPod {
    /// A pod on the pod network of any node that runs `/helper` with these arguments.
    pub fn new(name: &str, arguments: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            image: HELPER_IMAGE.to_owned(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            node: None,
            host_network: false,
            host_path: None,
            restart: false,
        }
    }

    /// Of this image, whose entry point is the helper program too.
    pub fn image(mut self, image: &str) -> Self {
        image.clone_into(&mut self.image);
        self
    }

    /// On this node, even if the scheduler would not have it there.
    pub fn on(mut self, node: &Node) -> Self {
        self.node = Some(node.name().to_owned());
        self
    }

    /// On the node's own network.
    pub fn host_network(mut self) -> Self {
        self.host_network = true;
        self
    }

    /// With this directory of its node, under the same path.
    pub fn host_path(mut self, path: &str) -> Self {
        self.host_path = Some(path.to_owned());
        self
    }

    /// Started again whenever it ends, as servers are.
    pub fn restarted(mut self) -> Self {
        self.restart = true;
        self
    }

    fn manifest(&self) -> Result<Pod> {
        let volumes = self
            .host_path
            .iter()
            .map(|path| json!({"name": "host", "hostPath": {"path": path}}));
        let mounts = self
            .host_path
            .iter()
            .map(|path| json!({"name": "host", "mountPath": path}));
        let container = json!({
            "name": "helper", "image": self.image, "args": self.arguments, "volumeMounts": mounts.collect::<Vec<_>>(),
        });
        let pod = json!({
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": self.name, "labels": {"app": self.name}},
            "spec": {
                "containers": [container],
                "volumes": volumes.collect::<Vec<_>>(),
                "nodeName": self.node,
                "hostNetwork": self.host_network,
                "dnsPolicy": "Default",
                "restartPolicy": if self.restart { "Always" } else { "Never" },
                "automountServiceAccountToken": false,
                "terminationGracePeriodSeconds": 1,
            },
        });
        Ok(serde_json::from_value(pod)?)
    }
}

/// How a helper pod has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finished {
    /// Its exit code.
    pub exit_code: i32,
    /// What it wrote.
    pub output: String,
}

impl Cluster {
    /// Runs a helper pod to its end, and removes it.
    ///
    /// # Errors
    /// Where it does not end within a minute; the error tells its last state.
    pub async fn run_pod(&self, pod: &HelperPod) -> Result<Finished> {
        self.create_pod(pod).await?;
        let exit_code = self
            .await_pod(&pod.name, |pod| {
                let state = pod
                    .status
                    .as_ref()?
                    .container_statuses
                    .as_ref()?
                    .first()?
                    .state
                    .as_ref()?;
                Some(state.terminated.as_ref()?.exit_code)
            })
            .await?;
        let output = self.pods().logs(&pod.name, &LogParams::default()).await?;
        // Nothing of it runs any more, so there is nothing to wait for.
        let at_once = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        self.pods().delete(&pod.name, &at_once).await?;
        Ok(Finished {
            exit_code,
            output: output.trim().to_owned(),
        })
    }

    /// Starts a helper pod and waits until it runs; returns its address.
    ///
    /// # Errors
    /// Where it does not run within a minute; the error tells its last state.
    pub async fn start_pod(&self, pod: &HelperPod) -> Result<String> {
        self.create_pod(pod).await?;
        self.await_pod(&pod.name, |pod| {
            let status = pod.status.as_ref()?;
            let ready = status
                .container_statuses
                .as_ref()?
                .iter()
                .all(|container| container.ready);
            ready.then(|| status.pod_ip.clone())?
        })
        .await
    }

    /// Runs a program in a running pod's container, and returns what it wrote.
    ///
    /// # Errors
    /// With its output, where it fails.
    pub async fn exec(&self, pod: &str, command: &[&str]) -> Result<String> {
        self.kubectl(&[&["exec", pod, "--"], command].concat()).await
    }

    /// Removes a pod, and waits until it is gone.
    ///
    /// # Errors
    /// Where there is none, or it is not gone within a minute.
    pub async fn delete_pod(&self, name: &str) -> Result<()> {
        self.pods().delete(name, &DeleteParams::default()).await?;
        let gone = until_some(async || Ok(self.pods().get_opt(name).await?.is_none().then_some(())));
        gone.await.with_context(|| format!("the pod {name} is not gone"))
    }

    async fn create_pod(&self, pod: &HelperPod) -> Result<()> {
        self.pods()
            .create(&PostParams::default(), &pod.manifest()?)
            .await?;
        Ok(())
    }

    /// Waits until `seen` finds in a pod what it looks for.
    async fn await_pod<T>(&self, name: &str, seen: impl Fn(&Pod) -> Option<T>) -> Result<T> {
        let mut last = None;
        let found = until_some(async || {
            let pod = self.pods().get(name).await?;
            let found = seen(&pod);
            last = pod.status;
            Ok(found)
        })
        .await;
        let Err(error) = found else { return found };
        let events = self.events(NAMESPACE).await?;
        let messages: Vec<_> = events
            .into_iter()
            .filter(|event| event.involved_object.name.as_deref() == Some(name))
            .filter_map(|event| event.message)
            .collect();
        let status = serde_json::to_string(&last)?;
        Err(error.context(format!(
            "pod {name}: {status}; events: {messages:#?}; logs: {}",
            self.logs().display()
        )))
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client(), NAMESPACE)
    }

    /// Waits for the account without which the API server admits no pod, and allows helper pods their node's network and
    /// files.
    pub(super) async fn pods_admitted(&self) -> Result<()> {
        let privileged = [
            "label",
            "namespace",
            NAMESPACE,
            "pod-security.kubernetes.io/enforce=privileged",
        ];
        self.kubectl(&privileged).await?;
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client(), NAMESPACE);
        let made = until_some(async || Ok(accounts.get_opt("default").await?.map(drop)));
        made.await.context("the service account `default`")
    }
}
