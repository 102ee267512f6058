//! `cache-node store` on running and on stopped caches.

#![expect(
    clippy::unwrap_used,
    reason = "helpers of tests: what cannot work must fail the test at once"
)]

#[path = "store_tools/archives.rs"]
mod archives;
#[path = "store_tools/commands.rs"]
mod commands;
#[path = "store_tools/other_programs.rs"]
mod other_programs;
#[path = "store_tools/seeding.rs"]
mod seeding;
#[path = "store_tools/socket.rs"]
mod socket;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use larder_tests::prelude::*;
use larder_tests::program;
use serde_json::Value;
use tokio::process::Command;

const LAYER_BYTES: usize = 300_000;
/// More than sockets and pipes hold.
const LARGE_LAYER_BYTES: usize = 24 << 20;

/// `cache-node store` on this cache directory, with nothing of this process's environment.
fn store(cache: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program::cache_node());
    command
        .env_clear()
        .arg("store")
        .args(arguments)
        .arg("--cache-dir")
        .arg(cache)
        .stdin(Stdio::null())
        .kill_on_drop(true);
    command
}

/// What a command has said.
#[derive(Debug)]
struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Said {
    /// The output of a command that ended well.
    fn good(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.out
    }

    /// The complaint of a command that failed while running.
    fn bad(self) -> String {
        assert_eq!((self.code, self.out.as_str()), (1, ""), "{self:?}");
        self.err
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.out).unwrap()
    }
}

async fn run(command: &mut Command) -> Said {
    let output = command.output().await.unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// Runs a command on this cache directory.
async fn tell(cache: &Path, arguments: &[&str]) -> Said {
    run(&mut store(cache, arguments)).await
}

/// The same as JSON, whatever its exit code.
async fn ask(cache: &Path, arguments: &[&str]) -> Value {
    tell(cache, &[arguments, &["-o", "json"]].concat()).await.json()
}

/// The digests that `ls` lists with these selectors.
async fn listed(cache: &Path, selectors: &[&str]) -> Vec<String> {
    let rows = ask(cache, &[&["ls"], selectors].concat()).await;
    let mut digests: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .map(|row| text(&row["digest"]))
        .collect();
    digests.sort();
    digests
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

fn sorted(digests: impl IntoIterator<Item = String>) -> Vec<String> {
    let mut digests: Vec<_> = digests.into_iter().collect();
    digests.sort();
    digests.dedup();
    digests
}

/// Every digest of an image.
fn all_of(image: &Image) -> Vec<String> {
    let blobs = image.blobs().into_iter().map(|(digest, _)| digest);
    sorted(blobs.chain([image.digest.clone()]))
}

fn image(seed: u64) -> Image {
    ImageBuilder::new().random_layer(seed, LAYER_BYTES).build()
}

/// Where a cache keeps an object.
fn object(cache: &Path, digest: &str) -> PathBuf {
    let (algorithm, hex) = digest.split_once(':').unwrap();
    cache.join("blobs").join(algorithm).join(&hex[..2]).join(hex)
}

fn registry(up: &FakeRegistry) -> Registry {
    Registry::new("up.test").endpoint(Endpoint::new(up.url()).trust_loopback())
}

fn mirror(up: &FakeRegistry) -> MirrorConfig {
    MirrorConfig::new().with(registry(up).ttl("1h"))
}

/// A node for which nobody upstream is there.
fn cache_only() -> MirrorConfig {
    let registry = Registry::new("up.test").endpoint(Endpoint::new("http://127.0.0.1:9"));
    MirrorConfig::new()
        .object("uid", 1)
        .with(registry.set("/mode", "CacheOnly").set("/fallback", "None"))
}

/// Pulls an image as a runtime does, compares every byte, and waits until all of it is on the disk.
async fn pull(node: &NodeProcess, repository: &str, tag: &str, image: &Image) {
    let base = format!("{}/v2/{repository}", node.url());
    let head = Call::head(&format!("{base}/manifests/{tag}?ns=up.test"))
        .send()
        .await;
    assert_eq!(
        head.header("docker-content-digest"),
        Some(image.digest.as_str()),
        "{repository}:{tag}"
    );
    pull_by_digest(node, repository, image).await;
}

async fn pull_by_digest(node: &NodeProcess, repository: &str, image: &Image) {
    let base = format!("{}/v2/{repository}", node.url());
    let got = Call::get(&format!("{base}/manifests/{}?ns=up.test", image.digest))
        .send()
        .await;
    assert_eq!(
        (got.status, got.header("content-type")),
        (200, Some(image.media_type))
    );
    assert!(got.body == image.manifest);
    for (digest, bytes) in image.blobs() {
        let got = Call::get(&format!("{base}/blobs/{digest}?ns=up.test"))
            .send()
            .await;
        assert!(
            (got.status, got.end) == (200, End::Complete) && got.body == bytes,
            "{digest}"
        );
        until("the blob has its name", async || {
            object(node.cache_dir(), &digest).try_exists().unwrap()
        })
        .await;
    }
}

/// A cache with two images of one registry that share nothing: `acme/app:v1` and `acme/team/tool:v2`.
struct Scene {
    node: NodeProcess,
    up: FakeRegistry,
    app: Image,
    tool: Image,
}

impl Scene {
    async fn start(is_live: bool) -> Self {
        let up = FakeRegistry::builder().start().await;
        let (app, tool) = (image(1), image(2));
        app.push_to(&up, "acme/app", "v1");
        tool.push_to(&up, "acme/team/tool", "v2");
        let mut node = NodeProcess::start(&mirror(&up)).await;
        pull(&node, "acme/app", "v1", &app).await;
        pull(&node, "acme/team/tool", "v2", &tool).await;
        if !is_live {
            node.terminate().await;
        }
        Self { node, up, app, tool }
    }

    fn cache(&self) -> &Path {
        self.node.cache_dir()
    }
}

/// A node that has pulled `acme/app:v1`, with a layer that takes a while to read.
async fn node_with_large_image() -> (NodeProcess, Image) {
    let up = FakeRegistry::builder().start().await;
    let image = ImageBuilder::new().uncompressed();
    let image = image.random_layer(1, LARGE_LAYER_BYTES).build();
    image.push_to(&up, "acme/app", "v1");
    let node = NodeProcess::start(&mirror(&up)).await;
    pull(&node, "acme/app", "v1", &image).await;
    (node, image)
}

/// Changes a byte of an object and nothing that tells of it, as a rotten disk does.
fn rot(cache: &Path, digest: &str) {
    use std::os::unix::fs::FileExt as _;
    let path = object(cache, digest);
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 100).unwrap();
    file.write_all_at(&[!byte[0]], 100).unwrap();
    file.set_modified(modified).unwrap();
}
