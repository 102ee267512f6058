//! Judges what the operator knows of a mirror: its status, and what is worth an Event. Pure: the same facts give the same
//! status, byte for byte.

mod complaints;
mod conditions;
mod explain;
mod failed_creation;
mod notices;

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use larder_crds::{NodeCounts, Registry, RegistryMirror, Status};

use crate::nodes::{Answer, NodeState, Survey};
use complaints::Complaints;
use conditions::Findings;
use explain::{Explainer, Other};

/// The longest message, in bytes; the schema allows no longer one of a node.
const MESSAGE_BYTES_MAX: usize = 1024;
/// The longest list of registries, in bytes, as the schema says.
const REGISTRIES_BYTES_MAX: usize = 256;
/// Room in that list for the number of those that it leaves out.
const REST_BYTES_MAX: usize = 8;
/// Where a DaemonSet says which template its pods are to be made from.
const TEMPLATE_ANNOTATION: &str = "deprecated.daemonset.template.generation";

/// All that is known of a mirror.
pub struct Assessment<'a> {
    /// The time of conditions that change now.
    pub now: Timestamp,
    /// The operator's namespace, in which the mirror's Secrets must lie.
    pub namespace: &'a str,
    /// The mirror. Its own status is not looked at.
    pub mirror: &'a RegistryMirror,
    /// The status that was written last, or that was found.
    pub previous: Option<&'a Status>,
    /// All mirrors there are; whether this one is among them does not matter.
    pub mirrors: &'a [Arc<RegistryMirror>],
    /// The mirror's DaemonSet as the API server has it.
    pub daemon_set: Option<&'a DaemonSet>,
    /// What is known of its nodes.
    pub survey: &'a Survey,
    /// Why the specification is not carried out, where it is not.
    pub refusal: Option<Refusal>,
    /// The message of the newest Event with which the DaemonSet's controller said that it cannot create pods
    /// (`FailedCreate`), while pods are missing.
    pub failed_creation: Option<&'a str>,
}

/// Why a specification is not carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The operator refuses it; the message says which field and why.
    Spec(String),
    /// The API server refuses what the operator makes of it (403, 422, an admission policy); its message.
    Apply(String),
}

/// What is to be told.
#[derive(Clone, Debug, PartialEq)]
pub struct Assessed {
    /// To be written when it differs from what was written last.
    pub status: Status,
    /// To be published as Events when the status was written.
    pub notices: Vec<Notice>,
}

/// An Event to be published, about the mirror.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Whether it is a `Warning`; else it is `Normal`.
    pub is_warning: bool,
    /// In one CamelCase word.
    pub reason: String,
    /// In a sentence.
    pub message: String,
}

impl Assessment<'_> {
    /// Judges.
    pub fn assess(&self) -> Assessed {
        let default = Status::default();
        let previous = self.previous.unwrap_or(&default);
        if !self.survey.is_complete && self.previous.is_some() && self.refusal.is_none() {
            // A new leader does not know yet what the one before it knew.
            return Assessed {
                status: previous.clone(),
                notices: Vec::new(),
            };
        }
        let complaints = Complaints::new(self.explainer(), self.survey);
        let counts = self.counts(&complaints);
        let status = Status {
            observed_generation: self.mirror.metadata.generation,
            conditions: Findings::new(self, &complaints, &counts).conditions(previous),
            registries: hosts(&self.mirror.spec.registries),
            lagging_nodes: complaints.lagging(&previous.lagging_nodes),
            nodes: counts,
        };
        let notices = notices::between(self.previous, &status);
        Assessed { status, notices }
    }

    fn explainer(&self) -> Explainer<'_> {
        let others = self.mirrors.iter().map(|mirror| &**mirror);
        let others = others.filter(|mirror| mirror.metadata.uid != self.mirror.metadata.uid);
        let mut others: Vec<_> = others
            .filter_map(|mirror| {
                Some(Other {
                    name: mirror.metadata.name.as_deref()?,
                    uid: mirror.metadata.uid.as_deref()?,
                    spec: &mirror.spec,
                })
            })
            .collect();
        others.sort_by_key(|other| other.name);
        Explainer {
            namespace: self.namespace,
            mirror: self.mirror,
            others,
        }
    }

    fn counts(&self, complaints: &Complaints<'_>) -> NodeCounts {
        let desired = self.desired();
        let count = |matches: &dyn Fn(&NodeState) -> bool| {
            self.survey.nodes.iter().filter(|node| matches(node)).count()
        };
        // A pod may outlive its node's being wanted by a moment.
        let bounded = |count: usize| i32::try_from(count).unwrap_or(i32::MAX).min(desired);
        let ready = bounded(count(&|node| node.is_ready).saturating_sub(complaints.idle()));
        let updated = bounded(count(&|node| self.is_updated(node)));
        NodeCounts {
            desired,
            ready,
            updated,
            summary: format!("{ready}/{desired}"),
        }
    }

    fn desired(&self) -> i32 {
        let status = self.daemon_set.and_then(|daemon_set| daemon_set.status.as_ref());
        status.map_or(0, |status| status.desired_number_scheduled)
    }

    /// Whether the node works by the mirror's current generation, or, once the mirror is deleted, is as it was found.
    fn is_updated(&self, node: &NodeState) -> bool {
        if self.is_leaving() {
            return node.is_ready && node.template_generation == self.template_generation();
        }
        let current = self.mirror.metadata.generation;
        match &node.answer {
            Answer::Report(report) => {
                let is_written = report
                    .node_config_generation
                    .is_none_or(|written| Some(written) == current);
                report.generation == current && is_written
            }
            Answer::Unasked | Answer::Unreachable(_) => false,
        }
    }

    fn is_leaving(&self) -> bool {
        self.mirror.metadata.deletion_timestamp.is_some()
    }

    fn template_generation(&self) -> Option<i64> {
        let annotations = self.daemon_set?.metadata.annotations.as_ref()?;
        annotations.get(TEMPLATE_ANNOTATION)?.parse().ok()
    }

    /// Whether the DaemonSet's numbers are about its current template.
    fn is_observed(&self) -> bool {
        let Some(daemon_set) = self.daemon_set else {
            return false;
        };
        let observed = daemon_set
            .status
            .as_ref()
            .and_then(|status| status.observed_generation);
        observed.is_some() && observed >= daemon_set.metadata.generation
    }
}

/// The registries as people read them, as many as there is room for.
fn hosts(registries: &[Registry]) -> String {
    let mut hosts = String::new();
    for (i, registry) in registries.iter().enumerate() {
        let comma = if i == 0 { "" } else { "," };
        if hosts.len() + comma.len() + registry.host.len() > REGISTRIES_BYTES_MAX - REST_BYTES_MAX {
            let rest = format!("{comma}+{}", registries.len() - i);
            hosts.push_str(&rest);
            break;
        }
        hosts.push_str(comma);
        hosts.push_str(&registry.host);
    }
    hosts
}

/// A reason as conditions may have it: what others made of it may hold anything.
fn word(reason: &str) -> String {
    let word: String = reason.chars().filter(char::is_ascii_alphanumeric).collect();
    match word.chars().next() {
        Some(first) if first.is_ascii_alphabetic() => word,
        _ => format!("Unknown{word}"),
    }
}

/// A message that is not too long, and one line.
fn bounded(message: String) -> String {
    let mut message = message.replace(|c: char| c.is_control(), " ");
    if message.len() > MESSAGE_BYTES_MAX {
        const CUT: &str = "…";
        message.truncate(message.floor_char_boundary(MESSAGE_BYTES_MAX - CUT.len()));
        message.push_str(CUT);
    }
    message
}

#[cfg(test)]
mod tests;
