//! Larder's images: that the archive is what the `Dockerfile` says, and that the program in it needs nothing else.

#[path = "larder_images/archive.rs"]
mod archive;
#[path = "larder_images/chroot.rs"]
mod chroot;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use archive::{Archive, Kind};
use chroot::Chroot;
use larder_tests::image::architecture;
use larder_tests::larder_image::LarderImage;
use larder_tests::prelude::*;
use larder_tests::static_program;
use serde_json::json;
use tempfile::TempDir;
use tokio::process::Command;

const ARCHIVE_BYTES_MAX: u64 = 30 << 20;
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The archive in a directory of its own.
struct Built {
    program: &'static str,
    dir: TempDir,
    path: PathBuf,
}

impl Built {
    fn cache_node() -> Result<Self> {
        Self::of("cache-node", &LarderImage::cache_node())
    }

    fn operator() -> Result<Self> {
        Self::of("operator", &LarderImage::operator())
    }

    fn all() -> Result<[Self; 2]> {
        Ok([Self::cache_node()?, Self::operator()?])
    }

    fn of(program: &'static str, image: &LarderImage) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let path = image.build(dir.path())?;
        Ok(Self { program, dir, path })
    }

    fn read(&self) -> Result<Archive> {
        Archive::read(&self.path)
    }
}

#[test]
fn an_archive_is_small_and_the_same_every_time() -> Result<()> {
    for (one, other) in Built::all()?.iter().zip(&Built::all()?) {
        let name = format!("larder-{}-{VERSION}-{}.tar", one.program, architecture());
        assert!(one.path.ends_with(name), "{}", one.path.display());
        assert!(fs::metadata(&one.path)?.len() < ARCHIVE_BYTES_MAX);
        assert!(
            fs::read(&one.path)? == fs::read(&other.path)?,
            "two builds of {} differ",
            one.program
        );
    }
    Ok(())
}

#[test]
fn an_image_says_what_it_is_and_how_to_run_it() -> Result<()> {
    for (built, command) in Built::all()?.iter().zip(["serve", "run"]) {
        let (image, program) = (built.read()?, built.program);
        assert_eq!(image.name, format!("ghcr.io/larder-dev/{program}:{VERSION}"));
        assert_eq!(image.config["architecture"], architecture());
        let config = &image.config["config"];
        assert_eq!(config["Entrypoint"], json!([format!("/{program}")]));
        assert_eq!(config["Cmd"], json!([command]));
        assert_eq!(config["User"], "65532:65532");
        let label = |name: &str| config["Labels"][format!("org.opencontainers.image.{name}")].as_str();
        assert_eq!(label("version"), Some(VERSION));
        assert_eq!(label("licenses"), Some(env!("CARGO_PKG_LICENSE")));
        assert_eq!(label("source"), Some(env!("CARGO_PKG_REPOSITORY")));
        for name in ["title", "description"] {
            assert!(label(name).is_some_and(|text| !text.is_empty()), "{name}");
        }
    }
    Ok(())
}

/// podman builds the `Dockerfile` by the rules, and must come to the same.
#[tokio::test]
async fn a_release_build_comes_to_the_same_image() -> Result<()> {
    for built in Built::all()? {
        same_as_podmans(&built).await?;
    }
    Ok(())
}

async fn same_as_podmans(built: &Built) -> Result<()> {
    let (ours, theirs) = (built.read()?, podman_build(built).await?);
    for key in [
        "Entrypoint",
        "Cmd",
        "User",
        "Env",
        "ExposedPorts",
        "WorkingDir",
        "Volumes",
    ] {
        assert_eq!(ours.config["config"][key], theirs.config["config"][key], "{key}");
    }
    let mut labels = theirs.config["config"]["Labels"].clone();
    labels
        .as_object_mut()
        .context("labels")?
        .retain(|name, _| !name.starts_with("io.buildah."));
    assert_eq!(ours.config["config"]["Labels"], labels);
    for key in ["os", "architecture"] {
        assert_eq!(ours.config[key], theirs.config[key], "{key}");
    }
    assert_eq!(ours.files, theirs.files);
    Ok(())
}

/// The image that podman makes of the `Dockerfile` and the staged files, without asking any registry.
async fn podman_build(built: &Built) -> Result<Archive> {
    let dir = tempfile::tempdir()?;
    let podman = || {
        let mut podman = Command::new("podman");
        for (flag, name) in [("--root", "root"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            podman.arg(flag).arg(dir.path().join(name));
        }
        podman.args(["--storage-driver", "vfs"]);
        podman
    };
    let dockerfile = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../{}/Dockerfile", built.program));
    let mut build = podman();
    build.args([
        "build",
        "--isolation",
        "chroot",
        "--tag",
        "localhost/release",
        "--file",
    ]);
    build.arg(dockerfile);
    for (name, value) in [("VERSION", VERSION), ("TARGETARCH", architecture())] {
        build.args(["--build-arg", &format!("{name}={value}")]);
    }
    build.arg(built.dir.path().join(built.program));
    succeed(build).await?;
    let archive = dir.path().join("archive.tar");
    let mut save = podman();
    save.args(["save", "--format", "oci-archive", "--output"]);
    save.arg(&archive).arg("localhost/release");
    succeed(save).await?;
    Archive::read(&archive)
}

async fn succeed(mut command: Command) -> Result<()> {
    let output = command.output().await?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {said}");
    Ok(())
}

#[test]
fn the_program_inside_is_the_one_that_was_built_and_loads_no_library() -> Result<()> {
    let programs = [static_program::cache_node(), static_program::operator()];
    for (built, binary) in Built::all()?.iter().zip(programs) {
        let image = built.read()?;
        let program = &image.files[built.program];
        assert_eq!((program.mode, program.owner), (0o755, (0, 0)));
        let Kind::File(content) = &program.kind else {
            panic!("a folder");
        };
        assert!(*content == fs::read(binary)?, "another program");
        assert!(!has_interpreter(content)?, "it wants a dynamic loader");
    }
    // The check itself must tell one from the other: this test is dynamically linked.
    assert!(has_interpreter(&fs::read(std::env::current_exe()?)?)?);
    Ok(())
}

/// Whether a 64-bit little-endian ELF file has a program header PT_INTERP, which names its dynamic loader.
fn has_interpreter(elf: &[u8]) -> Result<bool> {
    const PT_INTERP: u64 = 3;
    ensure!(elf.starts_with(b"\x7fELF\x02\x01"), "no such ELF file");
    let number = |at: usize, len: usize| -> Result<u64> {
        let bytes = elf.get(at..at + len).context("it ends early")?;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    };
    let (headers, header_bytes, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    for index in 0..count {
        let kind = number(usize::try_from(headers + index * header_bytes)?, 4)?;
        if kind == PT_INTERP {
            return Ok(true);
        }
    }
    Ok(false)
}

#[tokio::test]
async fn commands_run_in_the_image_alone() -> Result<()> {
    let root = Chroot::unpack(&Built::cache_node()?.read()?)?;
    assert_eq!(
        root.output(&["version"]).await?,
        format!("cache-node {VERSION}\n")
    );
    let mirror = MirrorConfig::new().with(Registry::new("quay.io"));
    root.write("mirror.yaml", &mirror.to_yaml())?;
    let effective = root.output(&["check", "--config", "/mirror.yaml"]).await?;
    assert!(effective.contains("https://quay.io"), "{effective}");
    Ok(())
}

#[tokio::test]
async fn the_operator_prints_the_definition_that_is_checked_in() -> Result<()> {
    let root = Chroot::unpack(&Built::operator()?.read()?)?;
    let kept = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crds/registrymirrors.yaml");
    let kept = fs::read_to_string(kept)?;
    let (_comment, kept) = kept.split_once('\n').context("a comment and the definition")?;
    assert_eq!(root.output(&["crd"]).await?, kept);
    Ok(())
}

/// Names are looked up and certificates checked by what the image holds, as the user that it names.
#[tokio::test]
async fn a_pull_by_name_over_tls_works_in_the_image_alone() -> Result<()> {
    let authority = CertificateAuthority::new();
    let up = FakeRegistry::builder()
        .tls_by(&authority)
        .tls_names(&["registry.test"])
        .start()
        .await;
    let blob = up.add_blob("acme/app", random(3 << 20));
    let root = Chroot::unpack(&Built::cache_node()?.read()?)?;
    root.write("etc/hosts", "127.0.0.1 registry.test\n")?;
    let endpoint = Endpoint::new(up.url().replace("127.0.0.1", "registry.test"));
    let mirror = MirrorConfig::new().with(Registry::new("registry.test").endpoint(endpoint));
    root.write("mirror.yaml", &mirror.to_yaml())?;

    let path = format!("/v2/acme/app/blobs/{blob}?ns=registry.test");
    let distrusting = root.serve().await?;
    let refused = Call::get(&format!("{}{path}", distrusting.url())).send().await;
    assert_eq!(refused.status, 502, "{}", refused.text());
    assert_eq!(up.requests().len(), 0);
    drop(distrusting);

    root.append("etc/ssl/certs/ca-certificates.crt", &authority.pem())?;
    let trusting = root.serve().await?;
    let answer = Call::get(&format!("{}{path}", trusting.url())).send().await;
    assert_eq!((answer.status, sha256(&answer.body)), (200, blob));
    Ok(())
}
