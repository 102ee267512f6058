//! The operator: reconciles RegistryMirrors into one cache DaemonSet each.

pub mod admin;
pub mod assess;
pub mod cli;
pub mod controller;
pub mod lease;
pub mod metrics;
pub mod nodes;
pub mod run;

#[cfg(test)]
mod fixtures;
