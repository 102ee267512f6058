//! Runs the real `cache-node` binary against scripted upstreams, and never leaves one behind.

mod config;
mod process;
pub mod secrets;

pub use config::{Endpoint, MirrorConfig, Registry};
pub use process::{NodeBuilder, NodeProcess};
