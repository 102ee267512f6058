//! What is kept of a pod: of the thousands of a large cluster, little enough to be held.

use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use larder_crds::names::{CACHE_CONTAINER, METRICS_PORT, MIRROR_LABEL};

use super::state::Trouble;

/// The label in which the DaemonSet's controller says which template a pod was made from.
const TEMPLATE_LABEL: &str = "pod-template-generation";
/// The field by which the DaemonSet's controller binds a pod to its node.
const NODE_NAME_FIELD: &str = "metadata.name";
/// What containers wait for on their way up.
const STARTING: [&str; 2] = ["ContainerCreating", "PodInitializing"];
/// How often a container that is not ready must have been restarted to count as crashing even while it runs.
const CRASHES_MIN: i32 = 2;

const CRASHING: &str = "CrashLoopBackOff";
const IMAGE_PULL: &str = "ImagePullBackOff";
const IMAGE_PULL_ERROR: &str = "ErrImagePull";

/// What is kept of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PodFacts {
    pub(super) name: String,
    /// The name of the mirror that it belongs to.
    pub(super) mirror: String,
    pub(super) node: String,
    pub(super) created: Option<Timestamp>,
    pub(super) is_ready: bool,
    /// Whether it is on its way out.
    pub(super) is_leaving: bool,
    pub(super) template_generation: Option<i64>,
    pub(super) trouble: Option<Trouble>,
    /// Starts of its containers; a change is worth a question.
    pub(super) restarts: i32,
    /// Where it reports, if it can.
    pub(super) address: Option<SocketAddr>,
}

impl PodFacts {
    /// Of a pod that belongs to a mirror.
    pub(super) fn of(pod: &Pod) -> Option<Self> {
        let metadata = &pod.metadata;
        let label = |name: &str| metadata.labels.as_ref()?.get(name);
        let is_leaving = metadata.deletion_timestamp.is_some();
        let status = pod.status.as_ref();
        let restarts = containers(status).map(|container| container.restart_count).sum();
        Some(Self {
            name: metadata.name.clone()?,
            mirror: label(MIRROR_LABEL)?.clone(),
            node: node(pod).unwrap_or_default(),
            created: metadata.creation_timestamp.as_ref().map(|time| time.0),
            is_ready: !is_leaving && is_true(status, "Ready"),
            is_leaving,
            template_generation: label(TEMPLATE_LABEL).and_then(|text| text.parse().ok()),
            trouble: status.and_then(trouble),
            restarts,
            address: if is_leaving { None } else { address(pod) },
        })
    }
}

fn containers(status: Option<&PodStatus>) -> impl Iterator<Item = &ContainerStatus> {
    let kinds = status.map(|status| [&status.init_container_statuses, &status.container_statuses]);
    kinds.into_iter().flatten().flatten().flatten()
}

fn is_true(status: Option<&PodStatus>, condition: &str) -> bool {
    let conditions = status.and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|known| known.type_ == condition && known.status == "True")
}

/// The node that it runs on, or else the one that it was made for.
fn node(pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    if let Some(node) = &spec.node_name {
        return Some(node.clone());
    }
    let node_affinity = spec.affinity.as_ref()?.node_affinity.as_ref()?;
    let required = node_affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    let mut fields = required
        .node_selector_terms
        .iter()
        .flat_map(|term| term.match_fields.iter().flatten());
    let field = fields.find(|field| field.key == NODE_NAME_FIELD)?;
    field.values.as_ref()?.first().cloned()
}

fn address(pod: &Pod) -> Option<SocketAddr> {
    let status = pod.status.as_ref()?;
    if status.phase.as_deref() != Some("Running") {
        return None;
    }
    let ip: IpAddr = status.host_ip.as_ref()?.parse().ok()?;
    let mut containers = pod.spec.as_ref()?.containers.iter();
    let cache = containers.find(|container| container.name == CACHE_CONTAINER)?;
    let mut ports = cache.ports.iter().flatten();
    let port = ports.find(|port| port.name.as_deref() == Some(METRICS_PORT))?;
    Some(SocketAddr::new(ip, port.container_port.try_into().ok()?))
}

/// What keeps a pod from running, freed of what changes while nothing does: delays, attempts, other nodes' counts.
fn trouble(status: &PodStatus) -> Option<Trouble> {
    if status.phase.as_deref() == Some("Failed") {
        return Some(Trouble {
            reason: status.reason.clone().unwrap_or_else(|| "Failed".to_owned()),
            message: status.message.clone().unwrap_or_default(),
        });
    }
    let mut conditions = status.conditions.iter().flatten();
    if let Some(unscheduled) =
        conditions.find(|known| known.type_ == "PodScheduled" && known.status == "False")
    {
        let reason = unscheduled.reason.as_deref().unwrap_or("Unschedulable");
        return Some(Trouble {
            reason: reason.to_owned(),
            message: of_this_node(unscheduled.message.as_deref().unwrap_or_default()),
        });
    }
    containers(Some(status)).find_map(container_trouble)
}

fn container_trouble(container: &ContainerStatus) -> Option<Trouble> {
    let state = container.state.as_ref();
    let waiting = state.and_then(|state| state.waiting.as_ref());
    let waits_for = waiting.and_then(|waiting| waiting.reason.as_deref());
    let message = waiting
        .and_then(|waiting| waiting.message.as_deref())
        .unwrap_or_default();
    // An init container that has done its work is ready.
    let crashes = !container.ready && container.restart_count >= CRASHES_MIN;
    match waits_for {
        Some(IMAGE_PULL | IMAGE_PULL_ERROR) => {
            // kubelet alternates between the two; the one's message ends with the other's.
            let (_, cause) = message.split_once("ErrImagePull: ").unwrap_or(("", message));
            Some(Trouble {
                reason: IMAGE_PULL.to_owned(),
                message: format!("image \"{}\": {cause}", container.image),
            })
        }
        Some(reason) if reason != CRASHING && !STARTING.contains(&reason) => Some(Trouble {
            reason: reason.to_owned(),
            message: format!("container {}: {message}", container.name),
        }),
        Some(CRASHING) => Some(crash(container)),
        _ if crashes => Some(crash(container)),
        _ => None,
    }
}

fn crash(container: &ContainerStatus) -> Trouble {
    let last = container
        .last_state
        .as_ref()
        .and_then(|state| state.terminated.as_ref());
    let how = last.map_or_else(
        || "ended".to_owned(),
        |last| match (last.reason.as_deref(), last.message.as_deref()) {
            (Some(reason), Some(message)) => {
                format!("ended with {} ({reason}: {})", last.exit_code, message.trim())
            }
            (Some(reason), None) => format!("ended with {} ({reason})", last.exit_code),
            _ => format!("ended with {}", last.exit_code),
        },
    );
    Trouble {
        reason: CRASHING.to_owned(),
        message: format!(
            "container {} {how} and is restarted again and again",
            container.name
        ),
    }
}

/// The part of the scheduler's message that is about the one node that a DaemonSet's pod may go to.
fn of_this_node(message: &str) -> String {
    let message = message.split(" preemption:").next().unwrap_or_default();
    let causes = message
        .split_once("nodes are available: ")
        .map_or(message, |(_, causes)| causes);
    let causes = causes.trim_end_matches(['.', ' ']).split(", ");
    let own = causes.filter(|cause| !cause.contains("didn't match Pod's node affinity"));
    let own = own.map(|cause| cause.trim_start_matches(|c: char| c.is_ascii_digit() || c == ' '));
    own.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests;
