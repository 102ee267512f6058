//! The upstreams of the benchmark: an nginx that sends files as fast as it can, and a server that knows when its
//! first byte left.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use larder_tests::prelude::*;
use larder_tests::real::Nginx;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::sleep;

/// Repository of every blob.
pub(crate) const REPO: &str = "bench/app";
const STEP_BYTES: usize = 4 << 20;
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Between the head and the first byte of a timed blob, and again before the rest of it.
const PAUSE: Duration = Duration::from_millis(50);
const TIMED_START_BYTES: usize = 64 << 10;

/// Path of a blob in the registry API.
pub(crate) fn path_of(digest: &str) -> String {
    format!("/v2/{REPO}/blobs/{digest}")
}

/// A registry of plain files, sent by nginx.
pub(crate) struct Files {
    pub(crate) nginx: Nginx,
    root: TempDir,
}

impl Files {
    pub(crate) async fn start() -> Result<Self> {
        let root = TempDir::with_prefix("larder-bench-")?;
        std::fs::create_dir_all(root.path().join(format!("v2/{REPO}/blobs")))?;
        std::fs::write(root.path().join("v2/index.html"), "{}")?;
        let nginx = Nginx::files(root.path(), Ipv4Addr::LOCALHOST.into()).await?;
        Ok(Self { nginx, root })
    }

    /// Adds a blob of `size` bytes, unless it is there, and returns its digest.
    pub(crate) fn add(&self, seed: u64, size: u64) -> Result<String> {
        let blob = VirtualBlob::new(seed, size);
        let digest = blob.digest();
        let path = self.root.path().join(format!("v2/{REPO}/blobs/{digest}"));
        if !path.try_exists()? {
            write(&blob, &path)?;
        }
        Ok(digest)
    }

    /// Bytes of these blobs that were sent so far, in all.
    pub(crate) fn sent(&self, digest: &str) -> Result<u64> {
        let seen = self.nginx.requests()?;
        let gets = seen
            .iter()
            .filter(|access| access.method == "GET" && access.uri.contains(digest));
        Ok(gets.map(|access| access.body_bytes).sum())
    }
}

fn write(blob: &VirtualBlob, path: &Path) -> Result<()> {
    let mut file = std::fs::File::create(path)?;
    for start in (0..blob.len()).step_by(STEP_BYTES) {
        let len = usize::try_from(blob.len() - start)?.min(STEP_BYTES);
        std::io::Write::write_all(&mut file, &blob.read(start, len))?;
    }
    Ok(())
}

/// Serves one blob: a head, a pause, the first 64 KiB, a pause, the rest.
pub(crate) struct Timed {
    address: String,
    pub(crate) digest: String,
    first_bytes: Arc<Mutex<Vec<Instant>>>,
}

impl Timed {
    pub(crate) async fn start(seed: u64, size: usize) -> Result<Self> {
        let content = seeded(seed, size);
        let digest = sha256(&content);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?.to_string();
        let first_bytes = Arc::<Mutex<Vec<Instant>>>::default();
        let times = Arc::clone(&first_bytes);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // A client that leaves early is no business of the benchmark.
                tokio::spawn(answer(stream, content.clone(), Arc::clone(&times)));
            }
        });
        Ok(Self {
            address,
            digest,
            first_bytes,
        })
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// When the first byte left for the first time.
    pub(crate) fn first_byte(&self) -> Result<Instant> {
        let times = self.first_bytes.lock().unwrap_or_else(PoisonError::into_inner);
        times.iter().min().copied().context("the blob was not sent")
    }
}

async fn answer(mut stream: TcpStream, content: Bytes, first_bytes: Arc<Mutex<Vec<Instant>>>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") && head.len() < HEAD_BYTES_MAX {
        head.push(stream.read_u8().await?);
    }
    let is_blob = head.windows(7).any(|part| part == b"/blobs/");
    let length = if is_blob { content.len() } else { 0 };
    let reply = format!(
        "HTTP/1.1 200 OK\r\nContent-Length: {length}\r\nContent-Type: application/octet-stream\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(reply.as_bytes()).await?;
    if is_blob && head.starts_with(b"GET") {
        sleep(PAUSE).await;
        first_bytes
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Instant::now());
        stream.write_all(&content[..TIMED_START_BYTES]).await?;
        sleep(PAUSE).await;
        stream.write_all(&content[TIMED_START_BYTES..]).await?;
    }
    Ok(stream.shutdown().await?)
}
