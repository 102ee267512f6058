//! How long a node takes to be ready, and what memory it needs, by the number of objects in its cache.
//!
//! The store itself makes the objects, in memory, where bringing them to the disk costs nothing; then they are copied
//! with their times, which are part of what it believes. The kernel has their inodes in memory when the node starts.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use cache_node::oci::{Algorithm, Digest, MediaType};
use cache_node::store::{Manifest, Store};
use larder_tests::bench::{Spread, build_cache_node, show};
use larder_tests::prelude::*;
use tempfile::TempDir;

const OBJECTS: [u64; 3] = [1_000, 50_000, 200_000];
/// One object in so many is a manifest, as with images of a config and three layers.
const MANIFEST_EVERY: u64 = 5;
const ROUNDS: usize = 3;
const IN_MEMORY: &str = "/dev/shm";

#[tokio::main]
async fn main() -> Result<()> {
    build_cache_node()?;
    show("| objects | ready after, s | memory then, MiB | at its peak, MiB |\n|---|---|---|---|");
    let made = TempDir::new_in(IN_MEMORY)?;
    let mut from = 0;
    for objects in OBJECTS {
        make(made.path(), from..objects)?;
        from = objects;
        let cache = tempfile::tempdir()?;
        let copied = Command::new("cp")
            .args(["--archive", "--no-target-directory"])
            .args([made.path(), cache.path()])
            .status()?;
        ensure!(copied.success(), "the objects could not be copied");
        start(cache.path(), objects).await?;
    }
    Ok(())
}

async fn start(cache: &Path, objects: u64) -> Result<()> {
    let config = MirrorConfig::new()
        .registry("up.test", "http://127.0.0.1:9")
        // However full the machine's disk is, nothing is to go.
        .set("/cache/minFree", "1%");
    let mut node = NodeProcess::builder().config(&config).cache_dir(cache).prepare();
    let (mut ready_s, mut now_mib, mut peak_mib) = (Spread::default(), Spread::default(), Spread::default());
    for _ in 0..ROUNDS {
        let started = Instant::now();
        node.launch().await;
        ready_s.add(started.elapsed().as_secs_f64());
        now_mib.add(memory_mib(node.pid(), "VmRSS:")?);
        peak_mib.add(memory_mib(node.pid(), "VmHWM:")?);
        until("all objects are listed", async || {
            listed(&node.metrics().await) == objects
        })
        .await;
        node.terminate().await;
    }
    show(&format!(
        "| {objects} | {ready_s} | {now_mib:.0} | {peak_mib:.0} |"
    ));
    Ok(())
}

/// Objects of all kinds, as the node counts them.
fn listed(metrics: &str) -> u64 {
    let counts = metrics
        .lines()
        .filter(|line| line.starts_with("larder_store_objects{"))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

fn memory_mib(pid: u32, field: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let kib = status
        .lines()
        .find_map(|line| line.strip_prefix(field)?.trim().strip_suffix(" kB"));
    Ok(kib.context("the kernel tells")?.parse::<f64>()? / 1024.0)
}

/// Puts small objects into the cache directory `folder`, all different.
fn make(folder: &Path, numbers: std::ops::Range<u64>) -> Result<()> {
    let store = Store::open(folder)?;
    let media_type: MediaType = MediaType::OCI_MANIFEST.parse()?;
    for number in numbers {
        let is_manifest = number % MANIFEST_EVERY == 0;
        let content = if is_manifest {
            Bytes::from(format!(
                r#"{{"schemaVersion":2,"layers":[],"annotations":{{"number":"{number}"}}}}"#
            ))
        } else {
            Bytes::from(number.to_le_bytes().to_vec())
        };
        let digest = Digest::of(Algorithm::Sha256, &content);
        if is_manifest {
            store.put_manifest(&Manifest {
                digest,
                media_type: media_type.clone(),
                body: content,
            })?;
        } else {
            let partial = store.partial(&digest, Some(content.len() as u64))?;
            partial.set_length(content.len() as u64)?;
            partial.write(0, &[content])?;
            store.commit(&partial)?;
        }
    }
    Ok(())
}
