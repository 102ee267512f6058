//! What a node's directories hold, to the byte, so that two moments can be compared.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use larder_tests::cluster::{Cluster, Node};
use larder_tests::digest::sha256;

/// All that Larder's pods mount of a node.
const DIRECTORIES: [&str; 2] = ["/etc/containerd", "/var/lib/larder"];

/// One file, link or directory.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    mode: u32,
    owner: (u32, u32),
    /// Seconds and nanoseconds; directories' change whenever a file comes and goes in them, so they have none here.
    modified: Option<(i64, i64)>,
    content: String,
}

/// The directories of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot(BTreeMap<PathBuf, Entry>);

impl Snapshot {
    /// Of every node, in their order.
    pub(crate) async fn of_all(cluster: &Cluster) -> Vec<Self> {
        let mut all = Vec::new();
        for node in cluster.nodes() {
            all.push(Self::of(node).await);
        }
        all
    }

    /// Of one node that is on.
    pub(crate) async fn of(node: &Node) -> Self {
        let mut entries = BTreeMap::new();
        for directory in DIRECTORIES {
            let root = node.inside(directory).await.unwrap();
            look(&root, Path::new(directory), &mut entries);
        }
        Self(entries)
    }

    /// What differs from `earlier`, empty directories that came since apart: kubelet makes those that pods mount.
    pub(crate) fn differences(&self, earlier: &Self) -> Vec<String> {
        let paths = self.0.keys().chain(earlier.0.keys());
        let mut different: Vec<_> = paths
            .filter(|path| self.0.get(*path) != earlier.0.get(*path))
            .filter(|path| earlier.0.contains_key(*path) || !self.is_empty_directory(path))
            .map(|path| {
                format!(
                    "{}: {:?}, was {:?}",
                    path.display(),
                    self.0.get(path),
                    earlier.0.get(path)
                )
            })
            .collect();
        different.dedup();
        different
    }

    fn is_empty_directory(&self, path: &Path) -> bool {
        let is_directory = self.0.get(path).is_some_and(|entry| entry.content == "directory");
        is_directory
            && !self
                .0
                .keys()
                .any(|other| other != path && other.starts_with(path))
    }
}

fn look(path: &Path, name: &Path, entries: &mut BTreeMap<PathBuf, Entry>) {
    let Ok(metadata) = path.symlink_metadata() else {
        return;
    };
    let content = if metadata.is_dir() {
        "directory".to_owned()
    } else if metadata.is_symlink() {
        format!("link to {}", std::fs::read_link(path).unwrap().display())
    } else {
        sha256(&std::fs::read(path).unwrap())
    };
    let entry = Entry {
        mode: metadata.mode(),
        owner: (metadata.uid(), metadata.gid()),
        modified: (!metadata.is_dir()).then(|| (metadata.mtime(), metadata.mtime_nsec())),
        content,
    };
    entries.insert(name.to_owned(), entry);
    if metadata.is_dir() {
        for child in std::fs::read_dir(path).unwrap() {
            let child = child.unwrap();
            look(&child.path(), &name.join(child.file_name()), entries);
        }
    }
}
