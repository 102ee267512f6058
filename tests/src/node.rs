//! Runs the real `cache-node` binary against scripted upstreams, and never leaves one behind.

mod config;
mod disk;
mod in_process;
mod node_config;
mod process;
pub mod secrets;

pub use config::{Endpoint, MirrorConfig, Registry};
pub use disk::{Disk, FileSystem, XFS_BYTES_MIN, disk_usage_bytes};
pub use in_process::InProcessNode;
pub use node_config::{FakeCache, Mood, NodeConfigProcess};
pub use process::{NodeBuilder, NodeProcess};
