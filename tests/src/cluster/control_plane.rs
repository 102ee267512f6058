//! etcd, the API server, the controller manager and the scheduler: processes of one machine.

use std::net::Ipv4Addr;
use std::path::Path;

use anyhow::{Context as _, Result};
use http::Request;
use kube::Client;
use tokio::sync::Mutex;

use super::audit;
use super::machine::{Machine, Service};
use super::network::{self, API_SERVICE, PODS, SERVICES};
use super::pki::{self, Authority, MASTERS};
use super::place::Place;

/// The API server's port.
const API_PORT: u16 = 6443;
/// Where the components find certificates and kubeconfigs.
pub(super) const CONFIG_DIR: &str = "/etc/kubernetes";

/// Namespaces without a label of their own are held to Pod Security `baseline`, as careful clusters have it. A label turns
/// that off where pods need more (<https://kubernetes.io/docs/tasks/configure-pod-container/enforce-standards-admission-controller/>).
const ADMISSION: &str = "
apiVersion: apiserver.config.k8s.io/v1
kind: AdmissionConfiguration
plugins:
- name: PodSecurity
  configuration:
    apiVersion: pod-security.admission.config.k8s.io/v1
    kind: PodSecurityConfiguration
    defaults: {enforce: baseline, enforce-version: latest}
    exemptions: {namespaces: [kube-system]}
";

/// Which of Kubernetes' controllers run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Controllers {
    All,
    /// All but those that would mind that nodes have no kubelets, and the one whose work the test does.
    ForSimulatedNodes,
}

/// The running control plane. It forgets everything at its end.
#[derive(Debug)]
pub(super) struct ControlPlane {
    // Before the machine: services end first.
    services: Mutex<Vec<Service>>,
    pub(super) machine: Machine,
    ip: Ipv4Addr,
}

impl ControlPlane {
    /// Starts etcd and the API server, which take a few seconds until they answer.
    pub(super) fn start(place: &Place, machine: Machine, authority: &Authority) -> Result<Self> {
        let ip = network::control_plane_ip(place);
        let mut this = Self {
            services: Mutex::default(),
            machine,
            ip,
        };
        write_files(&this.machine.own(CONFIG_DIR), authority, ip)?;
        let etcd = this.serve(place, "etcd", &etcd_flags())?;
        let api_server = this.serve(place, "kube-apiserver", &api_server_flags(ip))?;
        this.services.get_mut().extend([etcd, api_server]);
        Ok(this)
    }

    /// Waits for the API server, then starts what needs it.
    pub(super) async fn start_controllers(
        &self,
        controllers: Controllers,
        place: &Place,
        authority: &Authority,
        client: &Client,
    ) -> Result<()> {
        let mut api_server = self.services.lock().await.pop().context("no API server")?;
        // Answers that everything is ready, the bootstrap roles included.
        let ready = async || {
            let request = Request::get("/readyz").body(Vec::new()).ok()?;
            client.request_text(request).await.ok()
        };
        api_server.up(ready).await?;
        self.services.lock().await.push(api_server);
        for name in ["kube-controller-manager", "kube-scheduler"] {
            let kubeconfig = self.machine.own(&format!("{CONFIG_DIR}/{name}.kubeconfig"));
            authority.write_kubeconfig(&kubeconfig, &self.url(), &format!("system:{name}"), None)?;
        }
        let more = [
            self.serve(
                place,
                "kube-controller-manager",
                &controller_manager_flags(controllers),
            )?,
            self.serve(place, "kube-scheduler", &scheduler_flags())?,
        ];
        self.services.lock().await.extend(more);
        Ok(())
    }

    /// The API server's URL.
    pub(super) fn url(&self) -> String {
        format!("https://{}:{API_PORT}", self.ip)
    }

    fn serve(&self, place: &Place, name: &str, flags: &[String]) -> Result<Service> {
        let mut command = self.machine.command(name);
        command.args(flags);
        Service::start(name, command, place.logs().join(format!("{name}.log")))
    }
}

fn write_files(dir: &Path, authority: &Authority, ip: Ipv4Addr) -> Result<()> {
    let names = [
        "kubernetes.default.svc",
        "kubernetes.default",
        "kubernetes",
        "localhost",
    ];
    let addresses = [ip, API_SERVICE, Ipv4Addr::LOCALHOST];
    let names: Vec<String> = names
        .map(str::to_owned)
        .into_iter()
        .chain(addresses.map(|ip| ip.to_string()))
        .collect();
    let serving = authority.issue("kube-apiserver", None, &names)?;
    let to_kubelets = authority.issue("kube-apiserver-kubelet-client", Some(MASTERS), &[])?;
    let (private, public) = pki::key_pair()?;
    for (name, text) in [
        ("ca.crt", authority.pem()),
        ("apiserver.crt", serving.certificate),
        ("apiserver.key", serving.key),
        ("to-kubelets.crt", to_kubelets.certificate),
        ("to-kubelets.key", to_kubelets.key),
        ("service-accounts.key", private),
        ("service-accounts.pub", public),
        ("admission.yaml", ADMISSION.to_owned()),
        ("audit.yaml", audit::POLICY.to_owned()),
    ] {
        std::fs::write(dir.join(name), text)?;
    }
    Ok(())
}

fn etcd_flags() -> Vec<String> {
    flags([
        "--data-dir=/run/etcd",
        "--listen-client-urls=http://127.0.0.1:2379",
        "--advertise-client-urls=http://127.0.0.1:2379",
        "--listen-peer-urls=http://127.0.0.1:2380",
        // Its content ends with the cluster.
        "--unsafe-no-fsync",
    ])
}

fn api_server_flags(ip: Ipv4Addr) -> Vec<String> {
    let mut all = flags([
        "--etcd-servers=http://127.0.0.1:2379",
        "--tls-cert-file=/etc/kubernetes/apiserver.crt",
        "--tls-private-key-file=/etc/kubernetes/apiserver.key",
        "--client-ca-file=/etc/kubernetes/ca.crt",
        "--kubelet-certificate-authority=/etc/kubernetes/ca.crt",
        "--kubelet-client-certificate=/etc/kubernetes/to-kubelets.crt",
        "--kubelet-client-key=/etc/kubernetes/to-kubelets.key",
        // Node names do not resolve.
        "--kubelet-preferred-address-types=InternalIP",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file=/etc/kubernetes/service-accounts.pub",
        "--service-account-signing-key-file=/etc/kubernetes/service-accounts.key",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction,OwnerReferencesPermissionEnforcement",
        "--admission-control-config-file=/etc/kubernetes/admission.yaml",
        "--audit-policy-file=/etc/kubernetes/audit.yaml",
        "--allow-privileged",
    ]);
    all.push(format!("--audit-log-path={CONFIG_DIR}/{}", audit::LOG));
    all.push(format!("--advertise-address={ip}"));
    all.push(format!("--secure-port={API_PORT}"));
    all.push(format!("--service-cluster-ip-range={SERVICES}"));
    all
}

fn controller_manager_flags(controllers: Controllers) -> Vec<String> {
    let mut all = flags([
        "--kubeconfig=/etc/kubernetes/kube-controller-manager.kubeconfig",
        "--service-account-private-key-file=/etc/kubernetes/service-accounts.key",
        "--root-ca-file=/etc/kubernetes/ca.crt",
        "--use-service-account-credentials",
        "--leader-elect=false",
        // Nodes' pods have fixed addresses, which the CNI configuration says.
        "--allocate-node-cidrs=false",
    ]);
    all.push(format!("--cluster-cidr={PODS}"));
    if controllers == Controllers::ForSimulatedNodes {
        let off = "-node-lifecycle-controller,-pod-garbage-collector-controller,-daemonset-controller";
        all.push(format!("--controllers=*,{off}"));
    }
    all
}

fn scheduler_flags() -> Vec<String> {
    flags([
        "--kubeconfig=/etc/kubernetes/kube-scheduler.kubeconfig",
        "--leader-elect=false",
    ])
}

fn flags<const N: usize>(flags: [&str; N]) -> Vec<String> {
    flags.map(str::to_owned).to_vec()
}
