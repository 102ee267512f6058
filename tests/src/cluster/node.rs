//! One node: containerd, kubelet and kube-proxy in a machine of their own.

use std::fs::File;
use std::io::Write as _;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::control_plane::ControlPlane;
use super::disk;
use super::identity::{self, KUBELET_DIR};
use super::machine::{self, Machine, Service};
use super::network;
use super::place::Place;
use super::runtime::{self, CERTS_DIR, ConfigPath, Containerd};
use crate::process::run;
use crate::real::tool_set;
use crate::wait::until_some;

/// What a node may have differently from others.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeOptions {
    /// Its container runtime.
    pub containerd: Containerd,
    /// How that is told where `hosts.toml` files are.
    pub config_path: ConfigPath,
    /// How often kubelet brings changed ConfigMaps and Secrets into pods, in seconds; its default is a minute.
    pub sync_frequency_s: Option<u16>,
}

/// The programs that make a machine a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Component {
    /// The container runtime. Containers go on without it.
    Containerd,
    /// Kubernetes' agent. Pods go on without it.
    Kubelet,
    /// What makes Services reachable. What it has set up stays without it.
    KubeProxy,
}

impl Component {
    fn program(self) -> &'static str {
        match self {
            Self::Containerd => "containerd",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
        }
    }
}

/// What a node knows of its cluster.
#[derive(Debug)]
pub(super) struct Site {
    // In this order: the place is given back last.
    pub(super) control_plane: ControlPlane,
    pub(super) place: Place,
    pub(super) nodes: u8,
    pub(super) kubernetes: String,
}

/// A node of the cluster. Its disk outlives its machine, as a real one's does.
#[derive(Debug)]
pub struct Node {
    pub(super) number: u8,
    name: String,
    pub(super) options: NodeOptions,
    power: Mutex<Option<Power>>,
    pub(super) site: Arc<Site>,
}

/// What a node has while it is on.
#[derive(Debug)]
pub(super) struct Power {
    // In this order: services end before their machine.
    services: Vec<(Component, Service)>,
    pub(super) machine: Machine,
}

impl Node {
    /// A node that is off.
    pub(super) fn new(number: u8, options: NodeOptions, site: Arc<Site>) -> Self {
        Self {
            number,
            name: name(number),
            options,
            power: Mutex::new(None),
            site,
        }
    }

    /// Its name in Kubernetes: `node1`, `node2` and so on.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the cluster's network.
    pub fn ip(&self) -> Ipv4Addr {
        network::node_ip(&self.site.place, self.number)
    }

    /// Its directory of `hosts.toml` files, as this process can read and write it, also while the node is off.
    pub fn certs_dir(&self) -> PathBuf {
        self.own(CERTS_DIR)
    }

    /// The log of one of its components.
    pub fn log(&self, component: Component) -> PathBuf {
        self.log_of(component.program())
    }

    /// Switches the node on: a machine, in it containerd, then kubelet and kube-proxy. The node becomes Ready later.
    ///
    /// # Errors
    /// Where it is on already, or containerd does not come up.
    pub async fn power_on(&self) -> Result<()> {
        self.boot().await?;
        self.start(Component::Kubelet).await?;
        self.start(Component::KubeProxy).await
    }

    /// The first half of [`Self::power_on`], for which no API server is needed.
    pub(super) async fn boot(&self) -> Result<()> {
        let mut power = self.power.lock().await;
        ensure!(power.is_none(), "{} is on already", self.name);
        let programs = [
            self.options.containerd.programs()?,
            tool_set(&self.site.kubernetes)?,
        ];
        self.remove_cgroups().await?;
        let machine = Machine::start(&self.dir(), &self.log_of("machine"), &programs)?;
        make_cgroup(&self.site.place.cgroup(&self.name))?;
        std::fs::create_dir_all(self.own(CERTS_DIR))?;
        let config = self.own(runtime::CONFIG_FILE);
        // A reboot changes no file of the disk.
        if !config.try_exists()? {
            std::fs::write(config, self.options.containerd.config(self.options.config_path))?;
        }
        let network = self.own("/etc/cni/net.d");
        std::fs::create_dir_all(&network)?;
        std::fs::write(
            network.join("pods.conflist"),
            runtime::cni_config(&network::node_pods(self.number)),
        )?;
        network::connect_node(&self.site, &machine, self.number).await?;
        if self.cache_disk().try_exists()? {
            disk::attach(&machine, &self.cache_disk()).await?;
        }
        *power = Some(Power {
            services: Vec::new(),
            machine,
        });
        drop(power);
        self.start(Component::Containerd).await
    }

    /// Removes what a reboot would: containers' cgroups from before, each of which a kubelet studies for seconds.
    async fn remove_cgroups(&self) -> Result<()> {
        let own = self.site.place.cgroup(&self.name);
        let removed = until_some(async || {
            let mut find = Command::new("find");
            find.args(["/sys/fs/cgroup", "-type", "d", "("])
                .args(["-path", &format!("*/{own}"), "-o", "-path", &format!("*/{own}/*")])
                .args([")", "-delete"]);
            // A cgroup can be in use until its last process is all gone, and others come and go.
            Ok(run(find).await.ok())
        });
        removed.await.with_context(|| format!("cgroups of {own}"))?;
        Ok(())
    }

    /// A power cut: everything on the node ends at once. Its disk stays.
    pub async fn power_off(&self) {
        *self.power.lock().await = None;
    }

    /// Like [`Self::power_off`], but does not wait for the end.
    pub(super) fn cut_power(&self) {
        if let Ok(power) = self.power.try_lock()
            && let Some(power) = power.as_ref()
        {
            power.machine.cut_power();
        }
    }

    /// Starts a component. containerd answers when this returns.
    ///
    /// # Errors
    /// Where the node is off, the component runs already, or containerd does not come up.
    pub async fn start(&self, component: Component) -> Result<()> {
        let mut power = self.power().await?;
        let runs = power.services.iter().any(|(running, _)| *running == component);
        ensure!(!runs, "{component:?} runs already on {}", self.name);
        let mut command = power.machine.command(component.program());
        match component {
            Component::Containerd => command.args(["--config", runtime::CONFIG_FILE]),
            Component::Kubelet => command.args(identity::kubelet_flags(&self.name, self.ip())),
            Component::KubeProxy => command.arg(format!("--config={KUBELET_DIR}/kube-proxy.json")),
        };
        let mut service = Service::start(component.program(), command, self.log(component))?;
        if component == Component::Containerd {
            let machine = &power.machine;
            service
                .up(async || machine.run("ctr", &["version"]).await.ok())
                .await?;
        }
        power.services.push((component, service));
        Ok(())
    }

    /// Stops a component with SIGTERM and waits for its end.
    ///
    /// # Errors
    /// Where it does not run, or does not end.
    pub async fn stop(&self, component: Component) -> Result<()> {
        self.take(component).await?.stop().await
    }

    /// Ends a component with SIGKILL.
    ///
    /// # Errors
    /// Where it does not run.
    pub async fn kill(&self, component: Component) -> Result<()> {
        drop(self.take(component).await?);
        Ok(())
    }

    /// Runs a program on the node, outside of any container, and returns what it wrote.
    ///
    /// # Errors
    /// With its output, where the program fails; where the node is off.
    pub async fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let mut command = self.power().await?.machine.command(program);
        command.args(arguments);
        Ok(run(command).await?.text())
    }

    /// `path` on the node as this process can open it, mounts of the node included, while it is on.
    ///
    /// # Errors
    /// Where the node is off.
    pub async fn inside(&self, path: &str) -> Result<PathBuf> {
        Ok(self.power().await?.machine.inside(path))
    }

    /// Imports an OCI archive into its containerd, as `ctr images import` does.
    ///
    /// # Errors
    /// With what `ctr` said.
    pub async fn load_image(&self, archive: &Path) -> Result<()> {
        let archive = archive.to_str().context("a path that is no text")?;
        self.run("ctr", &["--namespace", "k8s.io", "images", "import", archive])
            .await?;
        Ok(())
    }

    /// Makes `name` mean `ip` on this node.
    ///
    /// # Errors
    /// Where its hosts file cannot be written.
    pub fn add_host(&self, name: &str, ip: Ipv4Addr) -> Result<()> {
        let mut hosts = File::options()
            .create(true)
            .append(true)
            .open(self.own("/etc/hosts"))?;
        writeln!(hosts, "{ip} {name}").context("hosts file")
    }

    /// A directory or file of the node's own disk.
    pub(super) fn own(&self, path: &str) -> PathBuf {
        machine::own(&self.dir(), path)
    }

    pub(super) fn dir(&self) -> PathBuf {
        self.site.place.dir().join(&self.name)
    }

    fn log_of(&self, program: &str) -> PathBuf {
        self.site
            .place
            .logs()
            .join(format!("{}-{program}.log", self.name))
    }

    /// When its kubelet was started, while that runs.
    pub(super) async fn kubelet_started(&self) -> Option<Timestamp> {
        let power = self.power().await.ok()?;
        let kubelet = power
            .services
            .iter()
            .find(|(running, _)| *running == Component::Kubelet);
        kubelet.map(|(_, service)| service.started)
    }

    /// Its first process, while it is on.
    pub(super) async fn pid(&self) -> Option<u32> {
        Some(self.power().await.ok()?.machine.pid())
    }

    pub(super) async fn power(&self) -> Result<MappedMutexGuard<'_, Power>> {
        MutexGuard::try_map(self.power.lock().await, Option::as_mut)
            .ok()
            .with_context(|| format!("{} is off", self.name))
    }

    async fn take(&self, component: Component) -> Result<Service> {
        let mut power = self.power().await?;
        let position = power
            .services
            .iter()
            .position(|(running, _)| *running == component);
        let position = position.with_context(|| format!("{component:?} does not run on {}", self.name))?;
        Ok(power.services.swap_remove(position).1)
    }
}

/// Makes the cgroup below which kubelet makes those of pods: in each hierarchy of version 1, or in the one of version 2.
fn make_cgroup(name: &str) -> Result<()> {
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").try_exists()? {
        for controller in ["cpu", "cpuset", "io", "memory", "pids"] {
            // kubelet says it when one that it needs is missing.
            let _ = std::fs::write(root.join("cgroup.subtree_control"), format!("+{controller}"));
        }
        return Ok(std::fs::create_dir_all(root.join(name))?);
    }
    for hierarchy in std::fs::read_dir(root)? {
        let hierarchy = hierarchy?.path();
        if hierarchy.join("tasks").try_exists()? {
            std::fs::create_dir_all(hierarchy.join(name))?;
        }
    }
    Ok(())
}

/// The name of the node with this number.
pub(super) fn name(number: u8) -> String {
    format!("node{number}")
}
