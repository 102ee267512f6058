//! A real Kubernetes cluster on this machine: etcd, the control plane, and nodes with containerd, kubelet and kube-proxy,
//! each node a network, mount and PID namespace. It starts in seconds, needs root and the programs of `make tools`,
//! and leaves nothing behind, however the process that started it ends.
//!
//! ```no_run
//! # async fn example() -> anyhow::Result<()> {
//! use larder_tests::cluster::{Cluster, Component};
//!
//! let cluster = Cluster::start().await?;
//! let node = cluster.node(1);
//! node.kill(Component::Kubelet).await?;
//! node.start(Component::Kubelet).await?;
//! cluster.ready().await
//! # }
//! ```

mod audit;
mod control_plane;
mod cri;
mod disk;
mod failure;
mod faults;
mod identity;
mod images;
mod machine;
mod network;
mod node;
mod pki;
mod place;
mod pods;
mod runtime;
mod simulated;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Event, Node as KubernetesNode};
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config, ResourceExt as _};

use control_plane::{ControlPlane, Controllers};
use failure::NamesLogs;
use machine::Machine;
use node::Site;
use pki::{Authority, MASTERS};
use place::Place;

use crate::process::run;
use crate::real::tool_set;
use crate::wait::until_some;

pub use audit::Audited;
pub use cri::{NodeImage, Pulled};
pub use disk::CACHE_DIR;
pub use faults::Peer;
pub use images::HELPER_IMAGE;
pub use node::{Component, Node, NodeOptions};
pub use place::CLUSTERS_DIR;
pub use pods::{Finished, HelperPod, NAMESPACE};
pub use runtime::{ConfigPath, Containerd};
pub use simulated::Program;

/// Nodes of a cluster of which nothing else is asked.
const NODES: usize = 3;
/// The set of `tests/tools` whose Kubernetes a cluster runs, unless [`KUBERNETES_VARIABLE`] names another.
const KUBERNETES: &str = "kubernetes";
/// Names the set of `tests/tools` whose Kubernetes clusters run, e.g. `kubernetes-1.34`.
pub const KUBERNETES_VARIABLE: &str = "LARDER_CLUSTER_KUBERNETES";

/// What Kubernetes' times leave out.
const WHOLE_SECOND: Duration = Duration::from_secs(1);

/// A running cluster. Dropping it ends all of it; so does the end of this process.
pub struct Cluster {
    // In this order: nodes end before what they need.
    nodes: Vec<Node>,
    client: Client,
    kubeconfig: PathBuf,
    _names_logs: NamesLogs,
    site: Arc<Site>,
}

impl Cluster {
    /// Starts a cluster of three like nodes and waits until they are Ready.
    ///
    /// # Errors
    /// With the log of what did not come up.
    pub async fn start() -> Result<Self> {
        Self::with_nodes(&[NodeOptions::default(); NODES]).await
    }

    /// Starts a cluster of these nodes and waits until they are Ready.
    ///
    /// # Errors
    /// With the log of what did not come up; where this is not root, or there are more nodes than addresses.
    pub async fn with_nodes(options: &[NodeOptions]) -> Result<Self> {
        Self::start_with(options, Controllers::All).await
    }

    async fn start_with(options: &[NodeOptions], controllers: Controllers) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "a cluster needs root");
        let kubernetes = std::env::var(KUBERNETES_VARIABLE).unwrap_or_else(|_| KUBERNETES.to_owned());
        let place = Place::take()?;
        let names_logs = NamesLogs::of(&place);
        let authority = Authority::default();
        let programs = [tool_set("etcd")?, tool_set(&kubernetes)?];
        let machine = Machine::start(
            &place.dir().join("control-plane"),
            &place.logs().join("control-plane-machine.log"),
            &programs,
        )?;
        network::connect_control_plane(&place, &machine).await?;
        let control_plane = ControlPlane::start(&place, machine, &authority)?;
        let kubeconfig = place.dir().join("kubeconfig");
        authority.write_kubeconfig(&kubeconfig, &control_plane.url(), "admin", Some(MASTERS))?;
        let client = Client::try_from(config(&kubeconfig).await?)?;
        let site = Arc::new(Site {
            control_plane,
            place,
            nodes: options.len().try_into()?,
            kubernetes,
        });
        let nodes = (1..)
            .zip(options)
            .map(|(number, options)| Node::new(number, *options, Arc::clone(&site)));
        let this = Self {
            nodes: nodes.collect(),
            client,
            kubeconfig,
            _names_logs: names_logs,
            site,
        };
        let started = this.bring_up(&authority, controllers).await;
        if started.is_err() {
            this.site.place.keep_logs();
        }
        started.with_context(|| format!("the cluster did not start; logs: {}", this.logs().display()))?;
        Ok(this)
    }

    async fn bring_up(&self, authority: &Authority, controllers: Controllers) -> Result<()> {
        let site = &self.site;
        for node in &self.nodes {
            let cgroup = site.place.cgroup(node.name());
            let dir = node.own(identity::KUBELET_DIR);
            identity::write(
                &dir,
                authority,
                &site.control_plane.url(),
                node.name(),
                node.ip(),
                &cgroup,
                node.options.sync_frequency_s,
            )?;
        }
        // What needs no API server starts while that does.
        let boot = futures_util::future::try_join_all(self.nodes.iter().map(Node::boot));
        let controllers =
            site.control_plane
                .start_controllers(controllers, &site.place, authority, &self.client);
        tokio::try_join!(boot, controllers)?;
        for archive in images::write(site.place.dir())? {
            self.load_image(&archive).await?;
        }
        for node in &self.nodes {
            node.start(Component::Kubelet).await?;
            node.start(Component::KubeProxy).await?;
        }
        self.ready().await?;
        self.pods_admitted().await
    }

    /// The nodes; the first is `node1`.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node with this number; the first is 1. Panics when there is none.
    pub fn node(&self, number: usize) -> &Node {
        &self.nodes[number - 1]
    }

    /// A client that may do everything.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// A client that may do what this user may, for example `system:serviceaccount:NAMESPACE:NAME`.
    ///
    /// # Errors
    /// Where none can be made of the kubeconfig file.
    pub async fn client_as(&self, user: &str) -> Result<Client> {
        let mut config = config(&self.kubeconfig).await?;
        config.auth_info.impersonate = Some(user.to_owned());
        Ok(Client::try_from(config)?)
    }

    /// A kubeconfig file whose user may do everything.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The address by which nodes and pods reach this machine: upstream registries listen there.
    pub fn host_ip(&self) -> Ipv4Addr {
        network::host_ip(&self.site.place)
    }

    /// The directory of all that the cluster writes; it ends with the cluster.
    pub fn dir(&self) -> &Path {
        self.site.place.dir()
    }

    /// The first process of each machine: the control plane's, then those of the nodes that are on.
    pub async fn machines(&self) -> Vec<u32> {
        let mut machines = vec![self.site.control_plane.machine.pid()];
        for node in &self.nodes {
            machines.extend(node.pid().await);
        }
        machines
    }

    /// The directory of all components' logs.
    pub fn logs(&self) -> PathBuf {
        self.site.place.logs()
    }

    /// Keeps [`Self::logs`] when the cluster ends. A panic while it runs does that too.
    pub fn keep_logs(&self) {
        self.site.place.keep_logs();
    }

    /// Waits until all nodes are Ready whose kubelet runs, and it has been in touch with the API server since its start:
    /// else a node would count as Ready for as long as nobody has noticed that it was not.
    ///
    /// # Errors
    /// Names the nodes that are not within a minute.
    pub async fn ready(&self) -> Result<()> {
        let mut waiting = Vec::new();
        let ready = until_some(async || {
            // Errors are part of starting.
            let seen = self.seen().await.unwrap_or_default();
            waiting.clear();
            for node in &self.nodes {
                let Some(started) = node.kubelet_started().await else {
                    continue;
                };
                if seen.get(node.name()).is_none_or(|seen| *seen < started) {
                    waiting.push(node.name());
                }
            }
            Ok(waiting.is_empty().then_some(()))
        })
        .await;
        ready.with_context(|| format!("not Ready: {waiting:?}; logs: {}", self.logs().display()))
    }

    /// When the API server last heard from each node that is Ready.
    async fn seen(&self) -> Result<BTreeMap<String, Timestamp>> {
        let nodes: Api<KubernetesNode> = Api::all(self.client());
        let leases: Api<Lease> = Api::namespaced(self.client(), "kube-node-lease");
        let every = ListParams::default();
        let (nodes, leases) = tokio::try_join!(nodes.list(&every), leases.list(&every))?;
        let mut seen: BTreeMap<String, Timestamp> = nodes
            .iter()
            .filter_map(|node| Some((node.name_any(), ready_heartbeat(node)?)))
            .collect();
        // kubelet renews its lease every ten seconds, but the heartbeat only when something has changed.
        for lease in leases {
            let renewed = lease.spec.as_ref().and_then(|spec| spec.renew_time.as_ref());
            if let (Some(renewed), Some(heard)) = (renewed, seen.get_mut(&lease.name_any())) {
                *heard = renewed.0.max(*heard);
            }
        }
        Ok(seen)
    }

    /// Imports an OCI archive into the containerd of every node.
    ///
    /// # Errors
    /// With what `ctr` said.
    pub async fn load_image(&self, archive: &Path) -> Result<()> {
        futures_util::future::try_join_all(self.nodes.iter().map(|node| node.load_image(archive))).await?;
        Ok(())
    }

    /// Makes `name` mean `ip` on every node, as the nodes' DNS would; pods with `dnsPolicy: Default` on the host's network
    /// see it too.
    ///
    /// # Errors
    /// Where a hosts file cannot be written.
    pub fn add_host(&self, name: &str, ip: Ipv4Addr) -> Result<()> {
        self.nodes.iter().try_for_each(|node| node.add_host(name, ip))
    }

    /// All Events of a namespace, the oldest first.
    ///
    /// # Errors
    /// Where the API server does not answer.
    pub async fn events(&self, namespace: &str) -> Result<Vec<Event>> {
        let events: Api<Event> = Api::namespaced(self.client(), namespace);
        let mut events = events.list(&ListParams::default()).await?.items;
        events.sort_by_key(|event| event.metadata.creation_timestamp.clone());
        Ok(events)
    }

    /// Runs `kubectl` with [`Self::kubeconfig`]; returns what it wrote.
    ///
    /// # Errors
    /// With what `kubectl` said.
    pub async fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new(tool_set(&self.site.kubernetes)?.join("kubectl"));
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(arguments);
        Ok(run(command).await?.text())
    }
}

impl Drop for Cluster {
    /// All machines end at once; the drops of the fields then wait for each.
    fn drop(&mut self) {
        self.nodes.iter().for_each(Node::cut_power);
        self.site.control_plane.machine.cut_power();
    }
}

/// When a node that is Ready last said so with its status.
fn ready_heartbeat(node: &KubernetesNode) -> Option<Timestamp> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    let ready = ready.filter(|condition| condition.status == "True")?;
    let heartbeat = ready.last_heartbeat_time.as_ref()?.0;
    // Both are told in whole seconds. A node that is as new as its heartbeat has not started twice.
    let is_new = node.metadata.creation_timestamp.as_ref()?.0 == heartbeat;
    Some(if is_new {
        heartbeat + WHOLE_SECOND
    } else {
        heartbeat
    })
}

async fn config(kubeconfig: &Path) -> Result<Config> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    Ok(Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?)
}
