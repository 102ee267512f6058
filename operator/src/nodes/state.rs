//! What is known of a mirror's nodes: the facts on which a status is judged, free of counts and times that move.

use larder_crds::report::NodeCondition;

/// The nodes of one mirror.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Whether every pod that was there when this operator began to lead has been asked since. Until then what nodes say
    /// is not known, and an older status says more.
    pub is_complete: bool,
    /// One entry per node that has a pod, by name.
    pub nodes: Vec<NodeState>,
}

/// One node of a mirror: its pod, and what that says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NodeState {
    /// The node's name, known before the pod is scheduled.
    pub node: String,
    /// The pod's name.
    pub pod: String,
    /// Whether kubelet calls the pod Ready.
    pub is_ready: bool,
    /// The pod's label `pod-template-generation`: which template of the DaemonSet it was made from, to be compared with
    /// the DaemonSet's annotation `deprecated.daemonset.template.generation`.
    pub template_generation: Option<i64>,
    /// Why the pod does not run, as its own status says.
    pub trouble: Option<Trouble>,
    /// What the cache on the node says.
    pub answer: Answer,
}

/// Why a pod does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// In one word, as Kubernetes writes it: `ImagePullBackOff`, `Unschedulable`.
    pub reason: String,
    /// As Kubernetes says it; may be empty.
    pub message: String,
}

/// What the cache on a node answered to the question for its conditions.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Answer {
    /// It has not been asked, or did not answer the first time.
    #[default]
    Unasked,
    /// It has not answered twice in a row, or something that is not this mirror's cache did. Holds the address; empty
    /// where the pod did not get far enough to have one.
    Unreachable(String),
    /// It answered.
    Report(Report),
}

/// What of a [`larder_crds::report::NodeReport`] is kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// The UID of the mirror that it is about.
    pub mirror: String,
    /// The generation that the cache has loaded.
    pub generation: Option<i64>,
    /// The generation that the runtime's configuration was written for.
    pub node_config_generation: Option<i64>,
    /// What stands, in order and each once.
    pub findings: Vec<Finding>,
}

/// A reason that stands on a node: a [`NodeCondition`] without its count and time.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What is wrong; possibly a word that only a newer version knows.
    pub reason: String,
    /// With which registry; empty where it is not about one.
    pub registry: String,
    /// The name of the object at fault; empty where there is none.
    pub object: String,
}

/// The longest reason, registry or object name that is kept, in bytes: the longest name in Kubernetes.
const TEXT_BYTES_MAX: usize = 253;

impl From<NodeCondition> for Finding {
    fn from(condition: NodeCondition) -> Self {
        Self {
            reason: bounded(condition.reason),
            registry: bounded(condition.registry),
            object: bounded(condition.object),
        }
    }
}

fn bounded(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text.shrink_to_fit();
    text
}
