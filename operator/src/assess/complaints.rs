//! What stands, node by node and gathered over all of them.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use larder_crds::LaggingNode;

use super::explain::{Area, Complaint, Explainer, NODE_UNREACHABLE, POD_NOT_READY, PORT_CONFLICT};
use super::{bounded, word};
use crate::nodes::{Answer, NodeState, Survey};

/// The most nodes that a status names.
const LAGGING_NODES_MAX: usize = 20;
/// The most complaints that a sentence adds to the one that it is about.
const ALSO_MAX: usize = 3;
/// The longest reason of a node, in bytes.
const LAGGING_REASON_BYTES_MAX: usize = 64;
/// The reason of a node whose pod is on its way up.
const STARTING: &str = "Starting";

/// What stands on the nodes of a mirror.
pub(super) struct Complaints<'a> {
    explainer: Explainer<'a>,
    /// Nodes whose pods are not ready or on which something stands, by name.
    nodes: Vec<Lagging<'a>>,
}

struct Lagging<'a> {
    name: &'a str,
    is_ready: bool,
    /// The most telling first; none where the pod is just starting.
    complaints: Vec<Complaint>,
}

/// What is to be said of several complaints: a reason and a sentence.
pub(super) struct Telling {
    pub(super) reason: String,
    pub(super) message: String,
}

impl<'a> Complaints<'a> {
    pub(super) fn new(explainer: Explainer<'a>, survey: &'a Survey) -> Self {
        let nodes = survey.nodes.iter().filter_map(|node| {
            let lagging = Lagging {
                name: &node.node,
                is_ready: node.is_ready,
                complaints: complaints(node),
            };
            (!node.is_ready || !lagging.complaints.is_empty()).then_some(lagging)
        });
        Self {
            explainer,
            nodes: nodes.collect(),
        }
    }

    /// What is to be said of those about this area, or of all, if there are any.
    pub(super) fn telling(&self, desired: i32, area: Option<Area>) -> Option<Telling> {
        let mut groups: BTreeMap<(&str, &str, &str), (Vec<&str>, &Complaint)> = BTreeMap::new();
        for node in &self.nodes {
            let concerned = node.complaints.iter();
            for complaint in concerned.filter(|complaint| area.is_none_or(|area| complaint.area() == area)) {
                let key = (&*complaint.reason, &*complaint.registry, &*complaint.object);
                let (nodes, first) = groups.entry(key).or_insert_with(|| (Vec::new(), complaint));
                if nodes.last() != Some(&node.name) {
                    nodes.push(node.name);
                }
                *first = (*first).min(complaint);
            }
        }
        let mut groups: Vec<_> = groups.into_values().collect();
        groups.sort_by_key(|(nodes, complaint)| (Reverse(nodes.len()), complaint.rank()));
        let ((nodes, main), others) = groups.split_first()?;
        let who = match nodes.as_slice() {
            [node] if !node.is_empty() => format!("1 of {desired} nodes ({node})"),
            nodes => format!("{} of {desired} nodes", nodes.len()),
        };
        let mut message = format!("{who}: {}", self.explainer.explain(main));
        for (nodes, complaint) in others.iter().take(ALSO_MAX) {
            let also = format!("; also {} on {}", complaint.label(), nodes.len());
            message.push_str(&also);
        }
        if others.len() > ALSO_MAX {
            message.push_str("; and more");
        }
        Some(Telling {
            reason: word(&main.reason),
            message: bounded(message),
        })
    }

    /// How many nodes serve no pull, though their pods are ready.
    pub(super) fn idle(&self) -> usize {
        let is_idle = |node: &&Lagging<'_>| node.is_ready && node.complaints.iter().any(Complaint::is_total);
        self.nodes.iter().filter(is_idle).count()
    }

    /// The nodes to be named: those with a complaint before those that are starting, those that were named before those
    /// that were not.
    pub(super) fn lagging(&self, previous: &[LaggingNode]) -> Vec<LaggingNode> {
        let named: BTreeMap<&str, usize> = (0..).zip(previous).map(|(i, node)| (&*node.name, i)).collect();
        let mut nodes: Vec<_> = self.nodes.iter().filter(|node| !node.name.is_empty()).collect();
        nodes.sort_by_key(|node| {
            let before = named.get(node.name).copied().unwrap_or(usize::MAX);
            (node.complaints.is_empty(), before, node.name)
        });
        nodes.truncate(LAGGING_NODES_MAX);
        nodes.into_iter().map(|node| self.name(node)).collect()
    }

    fn name(&self, node: &Lagging<'_>) -> LaggingNode {
        let Some((main, others)) = node.complaints.split_first() else {
            return LaggingNode {
                name: node.name.to_owned(),
                reason: STARTING.to_owned(),
                message: "the pod is starting".to_owned(),
            };
        };
        let mut message = self.explainer.explain(main);
        for complaint in others.iter().take(ALSO_MAX) {
            let also = format!("; also {}", complaint.label());
            message.push_str(&also);
        }
        let mut reason = word(&main.reason);
        reason.truncate(LAGGING_REASON_BYTES_MAX);
        LaggingNode {
            name: node.name.to_owned(),
            reason,
            message: bounded(message),
        }
    }
}

/// What stands on this node, the most telling first.
fn complaints(node: &NodeState) -> Vec<Complaint> {
    let mut complaints = Vec::new();
    if let Some(trouble) = &node.trouble {
        let is_conflict = trouble.reason == "Unschedulable" && trouble.message.contains("free ports");
        let reason = if is_conflict {
            PORT_CONFLICT
        } else {
            &trouble.reason
        };
        complaints.push(Complaint::new(reason, &trouble.message));
    }
    match &node.answer {
        Answer::Report(report) => complaints.extend(report.findings.iter().map(|finding| Complaint {
            reason: finding.reason.clone(),
            registry: finding.registry.clone(),
            object: finding.object.clone(),
            detail: String::new(),
        })),
        // Whoever cannot run cannot answer either.
        Answer::Unreachable(_) if !complaints.is_empty() => {}
        Answer::Unreachable(address) if node.is_ready => {
            complaints.push(Complaint::new(NODE_UNREACHABLE, address))
        }
        Answer::Unreachable(_) => complaints.push(Complaint::new(POD_NOT_READY, "")),
        Answer::Unasked => {}
    }
    complaints.sort_by_key(Complaint::rank);
    complaints
}
