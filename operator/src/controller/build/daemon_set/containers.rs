//! The containers, all of one image, each with no more rights than its part needs.

use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, EnvVar, EnvVarSource, ExecAction, HTTPGetAction,
    ObjectFieldSelector, Probe, ResourceRequirements, SecurityContext,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use larder_crds::names::{
    CA_KEY, CA_MOUNT, CACHE_CONTAINER, CACHE_DIR, CACHE_UID, CERTS_MOUNT, CONFIG_KEY, CONFIG_MOUNT,
    CONTAINERD_MOUNT, CREDENTIALS_MOUNT, METRICS_PORT, NODE_CONFIG_CONTAINER, PREPARE_CONTAINER, STATE_MOUNT,
};
use larder_crds::{DeletionPolicy, Node};

use super::volumes;
use super::{Purpose, Validated};
use crate::cli::CacheOptions;

/// The init container that removes the cache's content when the mirror goes.
const PURGE_CONTAINER: &str = "purge";
const LOOPBACK: &str = "127.0.0.1";
const ROOT: i64 = 0;

/// A hung cache holds up pulls until it is dead, so it is asked often and killed at once.
const LIVENESS_PERIOD_SECONDS: i32 = 2;
const LIVENESS_TIMEOUT_SECONDS: i32 = 1;
const LIVENESS_FAILURES: i32 = 2;
const LIVENESS_GRACE_SECONDS: i64 = 1;
/// Before it listens, a cache reads its whole directory: 5 minutes.
const STARTUP_FAILURES: i32 = 150;
const READINESS_PERIOD_SECONDS: i32 = 2;
/// A start of a program, which is slow on a busy node.
const EXEC_TIMEOUT_SECONDS: i32 = 5;
const EXEC_PERIOD_SECONDS: i32 = 5;

pub(super) fn init(mirror: &Validated, purpose: Purpose, options: &CacheOptions) -> Option<Vec<Container>> {
    let name = match (purpose, mirror.document.spec.cache.deletion_policy) {
        (Purpose::Serve, _) => PREPARE_CONTAINER,
        (Purpose::Withdraw, DeletionPolicy::Delete) => PURGE_CONTAINER,
        (Purpose::Withdraw, DeletionPolicy::Retain) => return None,
    };
    // Named as the command that it runs.
    let args = [name, "--cache-dir", CACHE_DIR];
    let container = Container {
        volume_mounts: Some(volumes::cache_dir_mount()),
        ..container(
            name,
            args.map(str::to_owned).to_vec(),
            ROOT,
            Some("CHOWN"),
            options,
        )
    };
    Some(vec![container])
}

pub(super) fn main(mirror: &Validated, purpose: Purpose, options: &CacheOptions) -> Vec<Container> {
    let node_config = node_config(mirror, purpose, options);
    match purpose {
        Purpose::Serve => vec![cache(mirror, options), node_config],
        Purpose::Withdraw => vec![node_config],
    }
}

fn cache(mirror: &Validated, options: &CacheOptions) -> Container {
    let node = &mirror.document.spec.node;
    let mut args = vec![
        "serve".to_owned(),
        format!("--config={CONFIG_MOUNT}/{CONFIG_KEY}"),
        format!("--listen={LOOPBACK}:{}", node.port),
        format!("--admin={LOOPBACK}:{}", node.admin_port),
        format!("--metrics=$(NODE_IP):{}", node.metrics_port),
        format!("--credentials-dir={CREDENTIALS_MOUNT}"),
        format!("--state-dir={STATE_MOUNT}"),
    ];
    if options.ca_bundle_config_map.is_some() {
        args.push(format!("--ca-bundle={CA_MOUNT}/{CA_KEY}"));
    }
    let livez = Probe {
        http_get: Some(ask("/livez", node)),
        period_seconds: Some(LIVENESS_PERIOD_SECONDS),
        timeout_seconds: Some(LIVENESS_TIMEOUT_SECONDS),
        ..Probe::default()
    };
    Container {
        env: Some(vec![node_ip(), cache_dir()]),
        ports: Some(ports(node)),
        resources: Some(mirror.resources.clone()),
        volume_mounts: Some(volumes::cache_mounts(mirror, options)),
        startup_probe: Some(Probe {
            failure_threshold: Some(STARTUP_FAILURES),
            ..livez.clone()
        }),
        liveness_probe: Some(Probe {
            failure_threshold: Some(LIVENESS_FAILURES),
            termination_grace_period_seconds: Some(LIVENESS_GRACE_SECONDS),
            ..livez
        }),
        readiness_probe: Some(Probe {
            http_get: Some(ask("/readyz", node)),
            period_seconds: Some(READINESS_PERIOD_SECONDS),
            ..Probe::default()
        }),
        ..container(CACHE_CONTAINER, args, CACHE_UID, None, options)
    }
}

fn node_config(mirror: &Validated, purpose: Purpose, options: &CacheOptions) -> Container {
    let mut args = vec![
        "node-config".to_owned(),
        format!("--config={CONFIG_MOUNT}/{CONFIG_KEY}"),
        format!("--certs-dir={CERTS_MOUNT}"),
        format!("--containerd-dir={CONTAINERD_MOUNT}"),
        format!("--cache=http://{LOOPBACK}:{}", mirror.document.spec.node.port),
        format!("--state-dir={STATE_MOUNT}"),
    ];
    if purpose == Purpose::Withdraw {
        args.push("--withdraw".to_owned());
    }
    let probe = ["/cache-node", "probe", "--state-dir", STATE_MOUNT];
    Container {
        resources: Some(small()),
        volume_mounts: Some(volumes::node_config_mounts()),
        readiness_probe: Some(Probe {
            exec: Some(ExecAction {
                command: Some(probe.map(str::to_owned).to_vec()),
            }),
            period_seconds: Some(EXEC_PERIOD_SECONDS),
            timeout_seconds: Some(EXEC_TIMEOUT_SECONDS),
            ..Probe::default()
        }),
        ..container(NODE_CONFIG_CONTAINER, args, ROOT, None, options)
    }
}

fn container(
    name: &str,
    args: Vec<String>,
    user: i64,
    capability: Option<&str>,
    options: &CacheOptions,
) -> Container {
    let context = SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities {
            add: capability.map(|capability| vec![capability.to_owned()]),
            drop: Some(vec!["ALL".to_owned()]),
        }),
        read_only_root_filesystem: Some(true),
        run_as_user: Some(user),
        run_as_group: Some(user),
        run_as_non_root: Some(user != ROOT),
        ..SecurityContext::default()
    };
    Container {
        name: name.to_owned(),
        image: Some(options.cache_node_image.clone()),
        image_pull_policy: Some(options.image_pull_policy.clone()),
        args: Some(args),
        security_context: Some(context),
        ..Container::default()
    }
}

fn ask(path: &str, node: &Node) -> HTTPGetAction {
    HTTPGetAction {
        host: Some(LOOPBACK.to_owned()),
        path: Some(path.to_owned()),
        port: IntOrString::Int(node.admin_port),
        ..HTTPGetAction::default()
    }
}

/// Declared so that the scheduler keeps a pod with the same ports off the node.
fn ports(node: &Node) -> Vec<ContainerPort> {
    let port = |name: &str, port: i32, host_ip: Option<&str>| ContainerPort {
        name: Some(name.to_owned()),
        container_port: port,
        host_port: Some(port),
        host_ip: host_ip.map(str::to_owned),
        protocol: Some("TCP".to_owned()),
    };
    vec![
        port("registry", node.port, Some(LOOPBACK)),
        port("admin", node.admin_port, Some(LOOPBACK)),
        port(METRICS_PORT, node.metrics_port, None),
    ]
}

fn node_ip() -> EnvVar {
    let field = ObjectFieldSelector {
        api_version: Some("v1".to_owned()),
        field_path: "status.hostIP".to_owned(),
    };
    EnvVar {
        name: "NODE_IP".to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(field),
            ..EnvVarSource::default()
        }),
    }
}

/// Not an argument, so that `cache-node store` finds it too when somebody calls it in the container.
fn cache_dir() -> EnvVar {
    EnvVar {
        name: "LARDER_CACHE_DIR".to_owned(),
        value: Some(CACHE_DIR.to_owned()),
        value_from: None,
    }
}

/// It wakes twice a second and holds a few files.
fn small() -> ResourceRequirements {
    let requests = [("cpu", "5m"), ("memory", "16Mi")];
    ResourceRequirements {
        requests: Some(
            requests
                .map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())))
                .into(),
        ),
        ..ResourceRequirements::default()
    }
}
