//! The real programs that Larder meets: registries, CDNs and clients, started on loopback for one test.
//!
//! A fake speaks as its author understood the protocol; these speak as they do in the field. Each of them keeps
//! what it writes in a temporary directory of its own (as root, podman and skopeo also note in `/var/lib/containers/cache`
//! where they have seen blobs), reads no configuration of the machine's user, and ends with the value that stands for it. They need the packages and tools that `make test` installs and builds;
//! containerd and podman need root.

pub mod containerd;
pub mod crane;
pub mod docker_registry;
pub mod helm;
pub mod nginx;
pub mod podman;
pub mod skopeo;

use std::fs::File;
use std::io::Read as _;
use std::net::{IpAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU16, Ordering};

use anyhow::{Context as _, Result, bail, ensure};
use sha2::{Digest, Sha256, Sha512};

pub use containerd::Containerd;
pub use crane::Crane;
pub use docker_registry::DockerRegistry;
pub use helm::Helm;
pub use nginx::Nginx;
pub use podman::Podman;
pub use skopeo::Skopeo;

/// Path of a program that `tests/tools/build` built: `tool("containerd", "ctr")`.
///
/// # Errors
/// Says how to build the program when it is not there.
pub fn tool(set: &str, name: &str) -> Result<PathBuf> {
    let path = tool_set(set)?.join(name);
    ensure!(path.is_file(), "{} is missing: run `make tools`", path.display());
    Ok(path)
}

/// The directory of all programs of a set: `tool_set("kubernetes")`.
///
/// # Errors
/// Says how to build them when they are not there.
pub fn tool_set(set: &str) -> Result<PathBuf> {
    let dir = tools_dir()?.join(set);
    ensure!(
        dir.is_dir(),
        "{} is missing: run `make tools`, or `tests/tools/build {set}`",
        dir.display()
    );
    Ok(dir)
}

/// `LARDER_TOOLS_DIR`, or the same default as in `tests/tools/build`.
fn tools_dir() -> Result<PathBuf> {
    if let Some(dir) = std::env::var_os("LARDER_TOOLS_DIR") {
        return Ok(dir.into());
    }
    let cache = match std::env::var_os("XDG_CACHE_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => PathBuf::from(std::env::var_os("HOME").context("HOME is not set")?).join(".cache"),
    };
    Ok(cache.join("larder/tools"))
}

/// A registry of `registries.conf` (podman, skopeo, CRI-O): where a name is really served, and its mirrors.
#[derive(Clone, Debug)]
pub struct MirroredRegistry {
    /// The registry as image names say it, e.g. `docker.io`.
    pub prefix: String,
    /// `host:port[/path]` to fall back to; plain HTTP is allowed.
    pub location: String,
    /// `host:port[/path]` of each mirror, asked first and in order; plain HTTP is allowed.
    pub mirrors: Vec<String>,
}

/// Renders a `registries.conf` (version 2) that names these registries only.
fn registries_conf(registries: &[MirroredRegistry]) -> String {
    let mut conf = String::from("unqualified-search-registries = []\n");
    for MirroredRegistry {
        prefix,
        location,
        mirrors,
    } in registries
    {
        conf +=
            &format!("\n[[registry]]\nprefix = \"{prefix}\"\nlocation = \"{location}\"\ninsecure = true\n");
        for mirror in mirrors {
            conf += &format!("[[registry.mirror]]\nlocation = \"{mirror}\"\ninsecure = true\n");
        }
    }
    conf
}

/// A port of `address` that nothing listens on, for programs that cannot tell which port they were given.
///
/// It lies below the range from which the kernel picks ports for outgoing connections, and one process never hands
/// out the same port twice in a row, so that only another test process could take it first.
///
/// # Errors
/// Where no port of the range is free.
pub fn free_port(address: IpAddr) -> Result<u16> {
    const FIRST: u16 = 20_000;
    const COUNT: u16 = 12_000;
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(std::process::id() % u32::from(COUNT)).unwrap_or_default();
    (0..COUNT)
        .map(|_| {
            FIRST
                + (start
                    .wrapping_mul(97)
                    .wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)))
                    % COUNT
        })
        .find(|port| TcpListener::bind((address, *port)).is_ok())
        .with_context(|| format!("no free port on {address}"))
}

/// The digest, in hexadecimal, that a file's bytes really have.
fn hex_digest(algorithm: &str, path: &Path) -> Result<String> {
    match algorithm {
        "sha256" => hash::<Sha256>(path),
        "sha512" => hash::<Sha512>(path),
        other => bail!("unknown digest algorithm {other}"),
    }
}

fn hash<D: Digest>(path: &Path) -> Result<String> {
    let mut file = File::open(path)?;
    let mut hasher = D::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => {
                return Ok(hasher
                    .finalize()
                    .iter()
                    .map(|byte| format!("{byte:02x}"))
                    .collect());
            }
            count => hasher.update(&buffer[..count]),
        }
    }
}
