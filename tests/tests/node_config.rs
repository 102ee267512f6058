//! The program that points the runtime at the cache: as a process, over real files, with real runtimes.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot work must fail the test at once"
)]

#[path = "node_config/files.rs"]
mod files;
#[path = "node_config/health.rs"]
mod health;
#[path = "node_config/runtime.rs"]
mod runtime;
#[path = "node_config/small_commands.rs"]
mod small_commands;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use larder_tests::node::{FakeCache, Mood, NodeConfigProcess};
use larder_tests::prelude::*;
use tempfile::TempDir;

const UID: &str = "0b6ff5a8-7d1c-4f0e-9d41-0f8d0c2b5f11";

/// A node's directories: what the runtime reads, and what the pod's containers share.
struct Host {
    certs: TempDir,
    state: TempDir,
}

impl Host {
    fn new() -> Self {
        Self {
            certs: tempfile::tempdir().unwrap(),
            state: tempfile::tempdir().unwrap(),
        }
    }

    fn keep(&self, config: &MirrorConfig, cache: &str) -> NodeConfigProcess {
        NodeConfigProcess::start(config, cache, self.certs.path(), self.state.path(), &[])
    }

    fn hosts(&self, name: &str) -> Option<String> {
        fs::read_to_string(self.certs.path().join(name).join("hosts.toml")).ok()
    }

    fn put(&self, name: &str, file: &str, text: &str) {
        let dir = self.certs.path().join(name);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join(file), text).unwrap();
    }

    async fn until_written(&self, name: &str) {
        until("hosts.toml is written", async || self.hosts(name).is_some()).await;
    }

    async fn until_gone(&self, name: &str) {
        until("hosts.toml is withdrawn", async || self.hosts(name).is_none()).await;
    }
}

fn mirror(hosts: &[&str]) -> MirrorConfig {
    let config = MirrorConfig::new().object(UID, 7);
    hosts
        .iter()
        .fold(config, |config, host| config.with(Registry::new(host)))
}

/// Mode, owner, group, time of modification and content by path.
type Snapshot = BTreeMap<PathBuf, (u32, u32, u32, SystemTime, Vec<u8>)>;

/// Everything that a comparison of a node before and after can show.
fn snapshot(root: &Path) -> Snapshot {
    let mut seen = Snapshot::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let mut content = Vec::new();
        if metadata.is_file() {
            content = fs::read(&path).unwrap();
        } else if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let entry = (
            metadata.mode(),
            metadata.uid(),
            metadata.gid(),
            metadata.modified().unwrap(),
            content,
        );
        seen.insert(path.strip_prefix(root).unwrap().to_owned(), entry);
    }
    seen
}
