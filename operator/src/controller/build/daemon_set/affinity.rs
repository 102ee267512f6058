//! Which nodes get a pod: those that the mirror asks for, except where pods are no processes of a node.

use k8s_openapi::api::core::v1::{
    Affinity, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm,
};

/// Labels of nodes that have no runtime of their own to configure.
const VIRTUAL_NODES: [(&str, &str); 2] = [
    ("type", "virtual-kubelet"),
    ("eks.amazonaws.com/compute-type", "fargate"),
];

pub(super) fn of(asked: &Affinity) -> Affinity {
    let mut affinity = asked.clone();
    let required = &mut affinity
        .node_affinity
        .get_or_insert_with(NodeAffinity::default)
        .required_during_scheduling_ignored_during_execution;
    let Some(required) = required else {
        let term = NodeSelectorTerm {
            match_expressions: Some(VIRTUAL_NODES.map(not_in).into()),
            match_fields: None,
        };
        *required = Some(NodeSelector {
            node_selector_terms: vec![term],
        });
        return affinity;
    };
    // Any one of the terms suffices, so each must exclude them. An empty term matches nothing, and must stay empty.
    for term in &mut required.node_selector_terms {
        let expressions = term.match_expressions.get_or_insert_default();
        let fields = term.match_fields.as_deref().unwrap_or_default();
        if !(expressions.is_empty() && fields.is_empty()) {
            expressions.extend(VIRTUAL_NODES.map(not_in));
        }
    }
    affinity
}

fn not_in((label, value): (&str, &str)) -> NodeSelectorRequirement {
    NodeSelectorRequirement {
        key: label.to_owned(),
        operator: "NotIn".to_owned(),
        values: Some(vec![value.to_owned()]),
    }
}
