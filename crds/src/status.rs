//! What the operator says of a mirror.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the operator found, as of the last change.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The generation of the specification that this is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`, `Progressing`, `Degraded`, `CredentialsResolved`, `NodesConfigured`.
    #[serde(default)]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// How many nodes there are, and how far they are.
    #[serde(default)]
    pub nodes: NodeCounts,
    /// The hosts of the registries, for people: `docker.io,quay.io`.
    #[serde(default)]
    #[schemars(length(max = 256))]
    pub registries: String,
    /// Nodes whose pulls do not all go through the cache, at most 20 of them, the longest first.
    #[serde(default)]
    #[schemars(length(max = 20), extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub lagging_nodes: Vec<LaggingNode>,
}

/// How many nodes there are, and how far they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NodeCounts {
    /// Nodes that should have a cache.
    pub desired: i32,
    /// Nodes whose cache serves pulls.
    pub ready: i32,
    /// Nodes that work by the current specification.
    pub updated: i32,
    /// Ready and desired nodes, for people: `2/3`.
    #[schemars(length(max = 32))]
    pub summary: String,
}

/// A node whose pulls do not all go through the cache.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LaggingNode {
    /// The node's name.
    #[schemars(length(max = 253))]
    pub name: String,
    /// Why, in one word.
    #[schemars(length(max = 64))]
    pub reason: String,
    /// Why, in a sentence.
    #[schemars(length(max = 1024))]
    pub message: String,
}
