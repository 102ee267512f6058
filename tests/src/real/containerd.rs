//! containerd, the runtime of nearly every Kubernetes node, new and old, without Kubernetes around it.
//!
//! Its CRI plugin is off: pulls go through `ctr`, which uses the same resolver, fetcher and `hosts.toml`. It runs in a
//! mount namespace of its own, so that a kill in the middle of unpacking leaves no mount behind.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::{hex_digest, tool};
use crate::process::{Daemon, run};

/// Which containerd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// 2.2, built by `tests/tools/build`. `ctr` pulls through the transfer service, as Kubernetes does.
    V2,
    /// Debian's 1.6. `ctr` itself is the client.
    Debian,
}

/// containerd's `concurrent_layer_fetch_buffer`: layers fetched as parallel ranges ([`Release::V2`] only).
#[derive(Clone, Copy, Debug)]
pub struct ParallelRanges {
    /// Size of a range in bytes; a layer of up to this size is fetched as one.
    pub chunk_bytes: u64,
    /// Ranges, over all layers, that are fetched at once.
    pub at_once: u32,
}

/// A running containerd with root, state and `certs.d` directories of its own.
#[derive(Debug)]
pub struct Containerd {
    daemon: Daemon,
    release: Release,
    dir: TempDir,
}

impl Containerd {
    /// Starts containerd and waits until it answers; needs root.
    ///
    /// # Errors
    /// With its log, where it does not come up; where [`Release::Debian`] is to use parallel ranges.
    pub async fn start(release: Release, ranges: Option<ParallelRanges>) -> Result<Self> {
        ensure!(rustix::process::geteuid().is_root(), "containerd needs root");
        ensure!(
            release == Release::V2 || ranges.is_none(),
            "containerd 1.6 has no parallel ranges"
        );
        let dir = TempDir::with_prefix("larder-containerd-")?;
        let config = dir.path().join("config.toml");
        std::fs::write(&config, render(dir.path(), release, ranges))?;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "private"])
            .arg(program(release, "containerd")?);
        command
            .arg("--config")
            .arg(&config)
            .args(["--log-level", "debug"]);
        let daemon = Daemon::start(command, dir.path().join("log"))?;
        let mut this = Self { daemon, release, dir };
        let socket = this.socket();
        let ctr = program(release, "ctr")?;
        this.daemon
            .up(async || {
                let mut version = Command::new(&ctr);
                version.arg("--address").arg(&socket).arg("version");
                run(version).await.ok()
            })
            .await
            .context("containerd")?;
        Ok(this)
    }

    /// Points `registry` (as image names say it) at `mirrors`, tried in order, then at `server`; all are URLs.
    /// It holds from the next pull on. A `server` where nothing listens stands for a mirror without fallback.
    ///
    /// # Errors
    /// Where the file cannot be written.
    pub fn mirror(&self, registry: &str, mirrors: &[&str], server: &str) -> Result<()> {
        let mut toml = format!("server = \"{server}\"\n");
        for mirror in mirrors {
            toml += &format!("\n[host.\"{mirror}\"]\ncapabilities = [\"pull\", \"resolve\"]\n");
        }
        let dir = self.certs_dir().join(registry);
        std::fs::create_dir_all(&dir)?;
        Ok(std::fs::write(dir.join("hosts.toml"), toml)?)
    }

    /// containerd's `config_path`: the directory of `<registry>/hosts.toml`.
    pub fn certs_dir(&self) -> PathBuf {
        self.dir.path().join("certs.d")
    }

    /// Pulls this machine's platform of an image and unpacks it, which proves every layer's uncompressed digest too.
    ///
    /// # Errors
    /// With what `ctr` said, where the pull fails.
    pub async fn pull(&self, image: &str) -> Result<()> {
        let certs_dir = self.certs_dir();
        let mut ctr = self.ctr(&["images", "pull", "--snapshotter", "native", "--hosts-dir"])?;
        ctr.arg(certs_dir).arg(image);
        run(ctr).await.map(drop)
    }

    /// Fetches an image, all its platforms, without unpacking it: its layers may be any bytes. Never uses parallel ranges.
    ///
    /// # Errors
    /// With what `ctr` said, where the pull fails.
    pub async fn fetch(&self, image: &str) -> Result<()> {
        let mut ctr = self.ctr(&["content", "fetch", "--all-platforms", "--hosts-dir"])?;
        ctr.arg(self.certs_dir()).arg(image);
        run(ctr).await.map(drop)
    }

    /// Takes this machine's platform of every image of an OCI archive, under the names that the archive gives them.
    ///
    /// # Errors
    /// With what `ctr` said, where the archive is refused.
    pub async fn import(&self, archive: &Path) -> Result<()> {
        let mut ctr = self.ctr(&["images", "import", "--snapshotter", "native"])?;
        ctr.arg(archive);
        run(ctr).await.map(drop)
    }

    /// The digest of an image's top manifest or index, as containerd recorded it.
    ///
    /// # Errors
    /// Where there is no such image.
    pub async fn digest_of(&self, image: &str) -> Result<String> {
        let list = run(self.ctr(&["images", "ls", &format!("name=={image}")])?)
            .await?
            .text();
        let digest = list
            .split_whitespace()
            .find(|word| word.starts_with("sha256:") || word.starts_with("sha512:"));
        digest
            .map(str::to_owned)
            .with_context(|| format!("containerd has no image {image}"))
    }

    /// The digests of all manifests, configurations and layers that containerd has committed.
    ///
    /// # Errors
    /// Where containerd does not answer.
    pub async fn digests(&self) -> Result<BTreeSet<String>> {
        let list = run(self.ctr(&["content", "ls", "--quiet"])?).await?.text();
        Ok(list.lines().map(str::to_owned).collect())
    }

    /// Hashes every committed file anew, whatever containerd believes, and returns what it proved.
    ///
    /// # Errors
    /// Names the first file whose bytes are not its digest's.
    pub async fn verified_digests(&self) -> Result<BTreeSet<String>> {
        let mut held = BTreeSet::new();
        for digest in self.digests().await? {
            let (algorithm, hex) = digest.split_once(':').context("a digest without an algorithm")?;
            let found = match hex_digest(algorithm, &self.blobs().join(algorithm).join(hex)) {
                // containerd collects in the background what no image needs.
                Err(error) if is_not_found(&error) => continue,
                found => found?,
            };
            ensure!(found == hex, "containerd holds wrong bytes: {digest} is {found}");
            held.insert(digest);
        }
        Ok(held)
    }

    /// Forgets every image and waits until their content is gone. Unfinished downloads stay: they are what a later pull resumes.
    ///
    /// # Errors
    /// Where containerd does not answer.
    pub async fn remove_images(&self) -> Result<()> {
        let images = run(self.ctr(&["images", "ls", "--quiet"])?).await?.text();
        for image in images.lines() {
            run(self.ctr(&["images", "rm", "--sync", image])?).await?;
        }
        Ok(())
    }

    /// Everything containerd has logged, at level debug.
    ///
    /// # Errors
    /// Where the log cannot be read.
    pub fn log(&self) -> Result<String> {
        self.daemon.log()
    }

    fn ctr(&self, args: &[&str]) -> Result<Command> {
        let mut ctr = Command::new(program(self.release, "ctr")?);
        ctr.arg("--address")
            .arg(self.socket())
            .args(["--namespace", "k8s.io"])
            .args(args);
        ctr.env("CONTAINERD_SUPPRESS_DEPRECATION_WARNINGS", "1");
        Ok(ctr)
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("containerd.sock")
    }

    fn blobs(&self) -> PathBuf {
        self.dir
            .path()
            .join("root/io.containerd.content.v1.content/blobs")
    }
}

fn program(release: Release, name: &str) -> Result<PathBuf> {
    match release {
        Release::V2 => tool("containerd", name),
        Release::Debian => Ok(Path::new("/usr/bin").join(name)),
    }
}

/// Everything below `dir`, nothing that needs cgroups, networks or device mappers, and the plain `native` snapshotter,
/// which works inside containers too.
fn render(dir: &Path, release: Release, ranges: Option<ParallelRanges>) -> String {
    const DISABLED: [&str; 11] = [
        "io.containerd.grpc.v1.cri",
        "io.containerd.cri.v1.images",
        "io.containerd.cri.v1.runtime",
        "io.containerd.podsandbox.controller.v1.podsandbox",
        "io.containerd.nri.v1.nri",
        "io.containerd.snapshotter.v1.blockfile",
        "io.containerd.snapshotter.v1.btrfs",
        "io.containerd.snapshotter.v1.devmapper",
        "io.containerd.snapshotter.v1.erofs",
        "io.containerd.snapshotter.v1.overlayfs",
        "io.containerd.snapshotter.v1.zfs",
    ];
    let dir = dir.display();
    let version = match release {
        Release::V2 => 3,
        Release::Debian => 2,
    };
    let mut config = format!(
        "version = {version}
root = '{dir}/root'
state = '{dir}/state'
temp = '{dir}/temp'
disabled_plugins = {DISABLED:?}
[grpc]
address = '{dir}/containerd.sock'
[ttrpc]
address = '{dir}/ttrpc.sock'
[plugins.'io.containerd.internal.v1.opt']
path = '{dir}/opt'
"
    );
    if release == Release::V2 {
        config += "[plugins.'io.containerd.transfer.v1.local']\n";
        if let Some(ParallelRanges { chunk_bytes, at_once }) = ranges {
            config += &format!(
                "concurrent_layer_fetch_buffer = {chunk_bytes}\nmax_concurrent_downloads = {at_once}\n"
            );
        }
        config += "[[plugins.'io.containerd.transfer.v1.local'.unpack_config]]\nplatform = 'linux'\nsnapshotter = 'native'\n";
    }
    config
}

fn is_not_found(error: &anyhow::Error) -> bool {
    let cause = error.downcast_ref::<std::io::Error>();
    cause.is_some_and(|cause| cause.kind() == std::io::ErrorKind::NotFound)
}
