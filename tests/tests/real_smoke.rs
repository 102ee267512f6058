//! The real programs work without Larder between them, so that a failure with Larder is Larder's.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use larder_tests::image::{ImageBuilder, architecture};
use larder_tests::real::containerd::{ParallelRanges, Release};
use larder_tests::real::docker_registry::{Auth, Options, PASSWORD, USER, blob_path};
use larder_tests::real::{
    Containerd, Crane, DockerRegistry, MirroredRegistry, Nginx, Podman, Skopeo, free_port,
};
use tempfile::TempDir;

const LAYER_BYTES: usize = 3 << 20;
const PARALLEL: ParallelRanges = ParallelRanges {
    chunk_bytes: 256 << 10,
    at_once: 4,
};
/// A registry name that nothing on earth resolves: what is pulled came through the mirror.
const UPSTREAM: &str = "registry.invalid";
/// Another address of loopback.
const ELSEWHERE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// A server where nothing listens, for a mirror without fallback.
const NOWHERE: &str = "http://127.0.0.1:9";

/// Pushes an image with one layer of random bytes; returns all its digests, the manifest's first.
async fn push_image(crane: &Crane, reference: &str) -> Result<Vec<String>> {
    let dir = TempDir::new()?;
    let layer = dir.path().join("layer.tar");
    let mut content = vec![0; LAYER_BYTES];
    fastrand::fill(&mut content);
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    let mut tar = tar::Builder::new(std::fs::File::create(&layer)?);
    tar.append_data(&mut header, "data", content.as_slice())?;
    tar.into_inner()?;

    let mut digests = vec![crane.append(&[&layer], reference).await?];
    let manifest = crane.manifest(reference).await?;
    let layers = manifest["layers"].as_array().context("no layers")?;
    for descriptor in std::iter::once(&manifest["config"]).chain(layers) {
        digests.push(descriptor["digest"].as_str().context("no digest")?.to_owned());
    }
    Ok(digests)
}

fn mirrored(mirror: &str) -> [MirroredRegistry; 1] {
    let location = NOWHERE.replace("http://", "");
    [MirroredRegistry {
        prefix: UPSTREAM.to_owned(),
        location,
        mirrors: vec![mirror.to_owned()],
    }]
}

async fn check_containerd(release: Release, ranges: Option<ParallelRanges>) -> Result<DockerRegistry> {
    let registry = DockerRegistry::start(Options::default()).await?;
    let digests = push_image(&Crane::new()?, &format!("{}/acme/app:v1", registry.host())).await?;
    let all = BTreeSet::from_iter(digests.clone());
    let containerd = Containerd::start(release, ranges).await?;
    containerd.mirror(UPSTREAM, &[&registry.url()], NOWHERE)?;
    let image = format!("{UPSTREAM}/acme/app:v1");

    containerd.pull(&image).await?;
    assert_eq!(containerd.digest_of(&image).await?, digests[0]);
    assert_eq!(containerd.verified_digests().await?, all);

    containerd.remove_images().await?;
    assert_eq!(containerd.digests().await?, BTreeSet::new());
    containerd.fetch(&image).await?;
    assert_eq!(containerd.verified_digests().await?, all);
    Ok(registry)
}

#[tokio::test]
async fn containerd_2_pulls() -> Result<()> {
    let registry = check_containerd(Release::V2, None).await?;
    assert!(!registry.log()?.contains(" 206 "));
    Ok(())
}

#[tokio::test]
async fn containerd_2_pulls_parallel_ranges() -> Result<()> {
    let log = check_containerd(Release::V2, Some(PARALLEL)).await?.log()?;
    let ranges = log.lines().filter(|line| line.contains("HTTP/1.1\" 206")).count();
    assert!(ranges >= LAYER_BYTES >> 18, "{ranges} ranges\n{log}");
    Ok(())
}

#[tokio::test]
async fn containerd_1_6_pulls() -> Result<()> {
    check_containerd(Release::Debian, None).await.map(drop)
}

#[tokio::test]
async fn containerd_finds_wrong_bytes_and_fails() -> Result<()> {
    let registry = DockerRegistry::start(Options::default()).await?;
    let digests = push_image(&Crane::new()?, &format!("{}/acme/app:v1", registry.host())).await?;
    let layer = registry.blob_path(&digests[2]);
    let mut bytes = std::fs::read(&layer)?;
    bytes[LAYER_BYTES / 2] ^= 1;
    std::fs::write(&layer, bytes)?;
    let containerd = Containerd::start(Release::V2, None).await?;
    containerd.mirror(UPSTREAM, &[&registry.url()], NOWHERE)?;
    let error = containerd
        .pull(&format!("{UPSTREAM}/acme/app:v1"))
        .await
        .expect_err("the layer is damaged");
    assert!(
        format!("{error:#}").contains("unexpected commit digest"),
        "{error:#}"
    );
    Ok(())
}

#[tokio::test]
async fn podman_pulls_from_a_mirror() -> Result<()> {
    let registry = DockerRegistry::start(Options::default()).await?;
    let digests = push_image(&Crane::new()?, &format!("{}/acme/app:v1", registry.host())).await?;
    let podman = Podman::new(&mirrored(registry.host()))?;
    let image = format!("{UPSTREAM}/acme/app:v1");
    podman.pull(&image).await?;
    assert_eq!(podman.digest_of(&image).await?, digests[0]);
    podman.remove_images().await?;
    podman.digest_of(&image).await.expect_err("the image was removed");
    Ok(())
}

#[tokio::test]
async fn skopeo_copies_from_a_mirror() -> Result<()> {
    let registry = DockerRegistry::start(Options::default()).await?;
    let digests = push_image(&Crane::new()?, &format!("{}/acme/app:v1", registry.host())).await?;
    let skopeo = Skopeo::new(&mirrored(registry.host()))?;
    let image = format!("{UPSTREAM}/acme/app:v1");
    assert_eq!(skopeo.digest(&image).await?, digests[0]);
    assert_eq!(skopeo.copy(&image).await?, BTreeSet::from_iter(digests));
    Ok(())
}

#[tokio::test]
async fn crane_reads_what_it_pushed() -> Result<()> {
    let registry = DockerRegistry::start(Options::default()).await?;
    let crane = Crane::new()?;
    let (repository, image) = (
        format!("{}/acme/app", registry.host()),
        format!("{}/acme/app:v1", registry.host()),
    );
    let digests = push_image(&crane, &image).await?;
    assert_eq!(crane.digest(&image).await?, digests[0]);
    assert_eq!(crane.tags(&repository).await?, ["v1"]);
    assert!(crane.blob(&format!("{repository}@{}", digests[2])).await?.len() > LAYER_BYTES);
    crane.validate(&image).await?;
    let dir = TempDir::new()?;
    let layout = dir.path().join("layout");
    crane.pull(&image, &layout).await?;
    crane.push(&layout, &format!("{repository}:v2")).await?;
    assert_eq!(crane.tags(&repository).await?, ["v1", "v2"]);
    Ok(())
}

#[tokio::test]
async fn registry_with_basic_auth_admits_its_user_only() -> Result<()> {
    let registry = DockerRegistry::start(Options {
        auth: Auth::Basic,
        ..Options::default()
    })
    .await?;
    let image = format!("{}/acme/app:v1", registry.host());
    let crane = Crane::logged_in(registry.host(), USER, PASSWORD)?;
    push_image(&crane, &image).await?;
    crane.validate(&image).await?;
    let error = Crane::new()?.digest(&image).await.expect_err("no credentials");
    assert!(
        format!("{error:#}").contains("UNAUTHORIZED") || format!("{error:#}").contains("401"),
        "{error:#}"
    );
    Ok(())
}

#[tokio::test]
async fn registry_with_token_auth_names_its_token_server() -> Result<()> {
    let dir = TempDir::new()?;
    let root_cert_bundle = dir.path().join("issuer.pem");
    let issuer = rcgen::generate_simple_self_signed(["issuer.example.test".to_owned()])?;
    std::fs::write(&root_cert_bundle, issuer.cert.pem())?;
    let auth = Auth::Token {
        realm: "http://127.0.0.1:9/token".to_owned(),
        service: "registry.example.test".to_owned(),
        issuer: "issuer.example.test".to_owned(),
        root_cert_bundle,
    };
    let registry = DockerRegistry::start(Options {
        auth,
        ..Options::default()
    })
    .await?;
    let answer = reqwest::get(format!("{}/v2/acme/app/tags/list", registry.url())).await?;
    assert_eq!(answer.status(), 401);
    assert_eq!(
        answer.headers()["www-authenticate"],
        "Bearer realm=\"http://127.0.0.1:9/token\",service=\"registry.example.test\",scope=\"repository:acme/app:pull\""
    );
    Ok(())
}

#[tokio::test]
async fn registry_redirects_blobs_to_its_cdn() -> Result<()> {
    let registry = DockerRegistry::start(Options {
        cdn: true,
        ..Options::default()
    })
    .await?;
    let digests = push_image(&Crane::new()?, &format!("{}/acme/app:v1", registry.host())).await?;
    let containerd = Containerd::start(Release::V2, None).await?;
    containerd.mirror(UPSTREAM, &[&registry.url()], NOWHERE)?;
    containerd.pull(&format!("{UPSTREAM}/acme/app:v1")).await?;
    let layer = format!("/{}", blob_path(&digests[2]));
    let cdn = registry.cdn().context("no CDN")?;
    let seen = cdn
        .requests_until(|seen| seen.iter().any(|access| access.uri == layer))
        .await?;
    assert_eq!(
        seen.iter()
            .filter(|access| access.uri == layer && access.status == 200)
            .count(),
        1,
        "{seen:?}"
    );
    Ok(())
}

#[tokio::test]
async fn registry_and_cdn_listen_where_they_are_told() -> Result<()> {
    let address = SocketAddr::from((ELSEWHERE, free_port(ELSEWHERE.into())?));
    let registry = DockerRegistry::start(Options {
        listen: Some(address),
        cdn: true,
        ..Options::default()
    })
    .await?;
    assert_eq!(registry.host(), address.to_string());
    let cdn = registry.cdn().context("no CDN")?;
    assert_eq!(cdn.host().parse::<SocketAddr>()?.ip(), ELSEWHERE);

    // The large layer is pushed in several pieces.
    let image = ImageBuilder::new()
        .architecture(architecture())
        .random_layer(1, 40 << 20)
        .random_layer(2, 1000)
        .build();
    image.push_http(&registry.url(), "acme/app", "v1", None).await;
    let containerd = Containerd::start(Release::V2, None).await?;
    containerd.mirror(UPSTREAM, &[&registry.url()], NOWHERE)?;
    containerd.pull(&format!("{UPSTREAM}/acme/app:v1")).await?;
    cdn.requests_until(|seen| seen.len() == image.blobs().len())
        .await?;
    Ok(())
}

#[tokio::test]
async fn nginx_proxies_and_caches() -> Result<()> {
    let registry = DockerRegistry::start(Options::default()).await?;
    let proxy = Nginx::proxy(&registry.url()).await?;
    let cache = Nginx::cache(&proxy.url()).await?;
    let crane = Crane::new()?;
    let digests = push_image(&crane, &format!("{}/acme/app:v1", registry.host())).await?;
    let blob = format!("{}/acme/app@{}", cache.host(), digests[2]);
    assert_eq!(crane.blob(&blob).await?, crane.blob(&blob).await?);
    let seen = proxy
        .requests_until(|seen| seen.iter().any(|access| access.uri.contains(&digests[2])))
        .await?;
    assert_eq!(
        seen.iter()
            .filter(|access| access.uri.contains(&digests[2]))
            .count(),
        1,
        "{seen:?}"
    );
    Ok(())
}
