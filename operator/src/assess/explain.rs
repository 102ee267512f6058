//! Puts what stands on nodes into sentences that a person can act on.

use larder_crds::report::Reason;
use larder_crds::{RegistryMirror, Spec};

/// Which of the mirror's conditions a complaint is about, besides `Ready` and `Degraded`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Area {
    Credentials,
    NodeConfig,
    Other,
}

/// Something that keeps pulls on a node from going through its cache. Ordered by what it is, for grouping.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Complaint {
    /// In one word.
    pub(super) reason: String,
    pub(super) registry: String,
    pub(super) object: String,
    /// What differs between nodes: a message of Kubernetes, an address.
    pub(super) detail: String,
}

/// The cache on a node has not answered.
pub(super) const NODE_UNREACHABLE: &str = "NodeUnreachable";
/// The pod is not ready, and nothing says why.
pub(super) const POD_NOT_READY: &str = "PodNotReady";
/// Another pod has the node's ports.
pub(super) const PORT_CONFLICT: &str = "PortConflict";

/// Reasons from pods; those that come first say more about the others.
const POD_REASONS: [&str; 4] = [
    "ImagePullBackOff",
    PORT_CONFLICT,
    "Unschedulable",
    "CrashLoopBackOff",
];

/// What sentences are made from.
pub(super) struct Explainer<'a> {
    pub(super) namespace: &'a str,
    pub(super) mirror: &'a RegistryMirror,
    /// The names and UIDs of all mirrors, with their specifications.
    pub(super) others: Vec<Other<'a>>,
}

/// Another mirror.
pub(super) struct Other<'a> {
    pub(super) name: &'a str,
    pub(super) uid: &'a str,
    pub(super) spec: &'a Spec,
}

impl Complaint {
    pub(super) fn new(reason: &str, detail: &str) -> Self {
        Self {
            reason: reason.to_owned(),
            registry: String::new(),
            object: String::new(),
            detail: detail.to_owned(),
        }
    }

    fn known(&self) -> Option<Reason> {
        Reason::from_report(&self.reason)
    }

    pub(super) fn area(&self) -> Area {
        use Reason as R;
        match self.known() {
            Some(R::CredentialsMissing | R::CredentialsRefused | R::CaBundleMissing) => Area::Credentials,
            Some(R::UpstreamUnreachable | R::RateLimited | R::DiskFull | R::ConfigInvalid) | None => {
                Area::Other
            }
            Some(
                R::NodeConfigStale
                | R::PortTaken
                | R::CacheUnhealthy
                | R::ConfigPathUnset
                | R::ConfigPathElsewhere
                | R::RuntimeConfigUnreadable
                | R::ForeignHosts
                | R::HostsContested
                | R::HostOwned
                | R::CertsDirReadOnly
                | R::CertsDirUnwritable,
            ) => Area::NodeConfig,
        }
    }

    /// Whether no pull at all goes through the cache of a node where this stands.
    pub(super) fn is_total(&self) -> bool {
        use Reason as R;
        matches!(
            self.known(),
            Some(
                R::NodeConfigStale
                    | R::PortTaken
                    | R::CacheUnhealthy
                    | R::ConfigPathUnset
                    | R::ConfigPathElsewhere
                    | R::CertsDirReadOnly
                    | R::CertsDirUnwritable
            )
        )
    }

    /// Of two that stand on as many nodes, the one with the lower rank says more.
    pub(super) fn rank(&self) -> usize {
        let in_pods = POD_REASONS.iter().position(|known| *known == self.reason);
        let in_reports = || {
            let known = Reason::ALL.iter().position(|known| known.as_str() == self.reason);
            known.map(|position| POD_REASONS.len() + position)
        };
        in_pods.or_else(in_reports).unwrap_or(usize::MAX)
    }

    /// In a few words, where there is no room for a sentence.
    pub(super) fn label(&self) -> String {
        match (self.registry.as_str(), self.object.as_str()) {
            ("", "") => self.reason.clone(),
            ("", about) | (about, _) => format!("{} ({about})", self.reason),
        }
    }
}

impl Explainer<'_> {
    /// What is wrong and what to do.
    pub(super) fn explain(&self, complaint: &Complaint) -> String {
        match complaint.known() {
            Some(reason) => self.reported(reason, complaint),
            None => self.seen(complaint),
        }
    }

    /// What nodes report.
    fn reported(&self, reason: Reason, complaint: &Complaint) -> String {
        use Reason as R;
        let node = &self.mirror.spec.node;
        let config_path = &node.containerd.config_path;
        let registry = match complaint.registry.as_str() {
            "" => "a registry",
            registry => registry,
        };
        match reason {
            R::CredentialsMissing => self.secret_missing(registry, &complaint.object),
            R::CredentialsRefused => format!(
                "{registry} refuses the credentials{}; put working ones there, nodes take them up by themselves",
                of_object(" of Secret", &complaint.object)
            ),
            R::CaBundleMissing => self.ca_missing(registry, &complaint.object),
            R::UpstreamUnreachable => format!(
                "{registry}, its token service or its content hosts do not answer; check the nodes' DNS, routes and \
                 firewall"
            ),
            R::RateLimited => {
                format!("{registry} limits requests; give it credentials in spec.registries, or wait")
            }
            R::DiskFull => format!(
                "the disk of {} (spec.cache.path) is full, so pulls go on without being kept; free space on it",
                self.mirror.spec.cache.path
            ),
            R::ConfigInvalid => {
                "the cache refuses the specification and keeps to the one before; the log of container \
                                 cache names the field"
                    .to_owned()
            }
            R::NodeConfigStale => format!(
                "container node-config has not been heard of for 10 s; {} shows its log",
                self.logs("node-config")
            ),
            R::PortTaken => format!(
                "something else than the cache answers on port {}; end it, or choose another spec.node.port",
                node.port
            ),
            R::CacheUnhealthy => format!(
                "the cache does not answer or is not ready, so nodes pull without it; {} shows its log",
                self.logs("cache")
            ),
            R::ConfigPathUnset => format!(
                "containerd's config_path is unset or a list, so it reads no hosts.toml; set config_path = \
                 \"{config_path}\" in its configuration and restart it"
            ),
            R::ConfigPathElsewhere => format!(
                "containerd's config_path is not {config_path}; set spec.node.containerd.configPath to what it is"
            ),
            R::RuntimeConfigUnreadable => self.runtime_unreadable(),
            R::ForeignHosts => format!(
                "somebody else's hosts.toml or certificates for {registry} lie in {config_path} and were left; remove \
                 them, or set spec.node.containerd.existing to Prepend"
            ),
            R::HostsContested => format!(
                "somebody else keeps writing the hosts.toml of {registry} in {config_path}, so it was left to them; \
                 find out who and stop it"
            ),
            R::HostOwned => self.host_owned(registry, &complaint.object),
            R::CertsDirReadOnly => format!(
                "{config_path} is on a read-only filesystem; set containerd's config_path and \
                 spec.node.containerd.configPath to a directory that can be written"
            ),
            R::CertsDirUnwritable => format!(
                "{config_path} cannot be written; {} says why",
                self.logs("node-config")
            ),
        }
    }

    /// What pods show, and words of newer nodes.
    fn seen(&self, complaint: &Complaint) -> String {
        let detail = &complaint.detail;
        match complaint.reason.as_str() {
            "ImagePullBackOff" => format!("the cache's image cannot be pulled: {detail}"),
            "Unschedulable" => format!("the cache's pod cannot be scheduled: {detail}"),
            PORT_CONFLICT => self.port_conflict(),
            NODE_UNREACHABLE => format!(
                "no report of the cache at {detail}; let the operator reach port {} of the nodes (firewall, \
                 NetworkPolicy), or look at the node",
                self.mirror.spec.node.metrics_port
            ),
            POD_NOT_READY => format!("the pod is not ready; {} says why", self.describe()),
            reason if detail.is_empty() => match complaint.label() {
                label if label == reason => {
                    format!("nodes report {reason}; {} may say more", self.logs("cache"))
                }
                label => format!("nodes report {label}; {} may say more", self.logs("cache")),
            },
            _ => detail.clone(),
        }
    }

    fn secret_missing(&self, registry: &str, secret: &str) -> String {
        let namespace = self.namespace;
        let server = match registry {
            // Where the client expects credentials of Docker Hub; kubectl's default.
            "docker.io" | "a registry" => String::new(),
            registry => format!(" --docker-server={registry}"),
        };
        format!(
            "Secret \"{secret}\" for {registry} is missing in namespace {namespace} or has none of the keys \
             .dockerconfigjson, username and password, token; create it with: kubectl create secret docker-registry \
             {secret} --namespace {namespace}{server} --docker-username=USER --docker-password=PASSWORD"
        )
    }

    fn ca_missing(&self, registry: &str, config_map: &str) -> String {
        let namespace = self.namespace;
        format!(
            "ConfigMap \"{config_map}\" for {registry} is missing in namespace {namespace} or has no certificates at \
             ca.crt; create it with: kubectl create configmap {config_map} --namespace {namespace} \
             --from-file=ca.crt=FILE"
        )
    }

    fn runtime_unreadable(&self) -> String {
        format!(
            "containerd's configuration in {} (spec.node.containerd.configDir) cannot be read or understood; {} says why",
            self.mirror.spec.node.containerd.config_dir,
            self.logs("node-config")
        )
    }

    fn host_owned(&self, registry: &str, uid: &str) -> String {
        let name = self.name();
        let other = self.others.iter().find(|other| other.uid == uid);
        match other {
            Some(other) => format!(
                "mirrors \"{name}\" and \"{}\" both serve {registry} here, and \"{}\" was first; remove it from one of \
                 them, or select different nodes",
                other.name, other.name
            ),
            None => format!(
                "another mirror, with UID {uid}, keeps {registry} from mirror \"{name}\"; if it is no more, its files \
                 in {} must be removed by hand",
                self.mirror.spec.node.containerd.config_path
            ),
        }
    }

    fn port_conflict(&self) -> String {
        let ports = |spec: &Spec| [spec.node.port, spec.node.admin_port, spec.node.metrics_port];
        let own = ports(&self.mirror.spec);
        let mut rivals = self
            .others
            .iter()
            .filter(|other| ports(other.spec).iter().any(|port| own.contains(port)));
        let ports = own.map(|port| port.to_string()).join(", ");
        match rivals.next() {
            Some(rival) => format!(
                "mirrors \"{}\" and \"{}\" both want ports of {ports} on these nodes; choose others in spec.node, or \
                 select different nodes",
                self.name(),
                rival.name
            ),
            None => format!("another pod has one of the ports {ports}; choose others in spec.node"),
        }
    }

    fn name(&self) -> &str {
        self.mirror.metadata.name.as_deref().unwrap_or_default()
    }

    fn logs(&self, container: &str) -> String {
        let (namespace, name) = (self.namespace, self.name());
        format!("kubectl logs --namespace {namespace} -l larder.dev/mirror={name} -c {container}")
    }

    fn describe(&self) -> String {
        let (namespace, name) = (self.namespace, self.name());
        format!("kubectl describe pods --namespace {namespace} -l larder.dev/mirror={name}")
    }
}

fn of_object(what: &str, object: &str) -> String {
    match object {
        "" => String::new(),
        object => format!("{what} \"{object}\""),
    }
}
