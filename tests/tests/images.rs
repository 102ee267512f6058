//! The images that tests make are images to a real containerd, and a large one takes no memory to serve.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use larder_tests::image::architecture;
use larder_tests::prelude::*;
use larder_tests::real::Containerd;
use larder_tests::real::containerd::Release;
use tempfile::TempDir;

/// A registry name that nothing on earth resolves.
const UPSTREAM: &str = "registry.invalid";
/// What this whole process, with all its tests, may take; the largest layer is ten times that.
const MEMORY_KIB_MAX: u64 = 100 << 10;

fn digests(image: &Image) -> BTreeSet<String> {
    let blobs = image.contents().map(|(digest, _)| digest);
    blobs.chain([image.digest.clone()]).collect()
}

/// The most memory that this process has ever had resident.
fn peak_memory_kib() -> Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|rest| rest.trim().strip_suffix(" kB"));
    Ok(peak.context("no VmHWM")?.parse()?)
}

/// Pulls `image` from a fake registry; containerd proves all digests, those of the unpacked layers too.
async fn pulled_by_containerd(image: &Image) -> Result<()> {
    let up = FakeRegistry::builder().start().await;
    image.push_to(&up, "acme/app", "v1");
    let containerd = Containerd::start(Release::V2, None).await?;
    let name = format!("{UPSTREAM}/acme/app:v1");
    containerd.mirror(UPSTREAM, &[&up.url()], "http://127.0.0.1:9")?;
    containerd.pull(&name).await?;
    assert_eq!(containerd.digest_of(&name).await?, image.digest);
    assert_eq!(containerd.digests().await?, digests(image));
    Ok(())
}

#[tokio::test]
async fn containerd_pulls_sixty_layers() -> Result<()> {
    let image = (1..60).fold(ImageBuilder::new().architecture(architecture()), |image, seed| {
        // 1.5 KiB to 1.7 MiB; the first half compressed.
        let image = if seed == 30 { image.uncompressed() } else { image };
        image.random_layer(seed, 1 << 10 | (seed as usize * seed as usize) << 9)
    });
    let image = image.empty_layer().build();
    ensure!(image.layers.len() == 60);
    pulled_by_containerd(&image).await
}

#[tokio::test]
async fn containerd_pulls_a_gibibyte_that_is_never_in_memory() -> Result<()> {
    let image = ImageBuilder::new().architecture(architecture());
    let image = image.uncompressed().random_layer(1, 1 << 30).build();
    pulled_by_containerd(&image).await?;
    let peak = peak_memory_kib()?;
    ensure!(peak < MEMORY_KIB_MAX, "{peak} KiB were resident");
    Ok(())
}

#[tokio::test]
async fn containerd_imports_an_archive() -> Result<()> {
    let dir = TempDir::new()?;
    let program = std::env::current_exe()?;
    let image = |architecture, seed| {
        ImageBuilder::new()
            .architecture(architecture)
            .program("bin/program", &program)
            .layer(&[("etc/greeting", b"hello"), ("etc/deep/er", b"")])
            .random_layer(seed, 100_000)
            .uncompressed()
            .random_layer(seed + 1, 3 << 20)
            .entrypoint(&["/bin/program", "--serve"])
            .cmd(&["now"])
            .env("HOME", "/")
            .env("LANG", "C")
            .user("65532:65532")
            .build()
    };
    let other = if architecture() == "amd64" {
        "arm64"
    } else {
        "amd64"
    };
    let index = Index::of(vec![image(architecture(), 1), image(other, 3)]);
    let single = ImageBuilder::new()
        .docker()
        .uncompressed()
        .layer(&[("a", b"a")])
        .build();
    index.write_archive(&dir.path().join("index.tar"), "registry.invalid/acme/index:v2")?;
    single.write_archive(&dir.path().join("single.tar"), "registry.invalid/acme/single:v3")?;

    for release in [Release::V2, Release::Debian] {
        let containerd = Containerd::start(release, None).await?;
        containerd.import(&dir.path().join("index.tar")).await?;
        let name = "registry.invalid/acme/index:v2";
        assert_eq!(containerd.digest_of(name).await?, index.digest);
        let held = containerd.verified_digests().await?;
        ensure!(held.is_superset(&digests(&index.images[0])), "held only {held:?}");

        containerd.import(&dir.path().join("single.tar")).await?;
        let name = "registry.invalid/acme/single:v3";
        assert_eq!(containerd.digest_of(name).await?, single.digest);
    }
    Ok(())
}

#[test]
fn platforms_share_no_layer_and_say_what_they_run() {
    let image = |architecture, seed| {
        let image = ImageBuilder::new()
            .architecture(architecture)
            .entrypoint(&["/bin/a"]);
        image
            .cmd(&["b"])
            .env("C", "d")
            .env("E", "f")
            .user("7:8")
            .random_layer(seed, 1000)
            .build()
    };
    let (amd64, arm64) = (image("amd64", 1), image("arm64", 2));
    assert!(digests(&amd64).is_disjoint(&digests(&arm64)));
    let config: serde_json::Value = serde_json::from_slice(&arm64.config).expect("a configuration");
    assert_eq!(config["architecture"], "arm64");
    let expected = serde_json::json!({
        "Entrypoint": ["/bin/a"], "Cmd": ["b"], "Env": ["C=d", "E=f"], "User": "7:8",
    });
    assert_eq!(config["config"], expected);
}
