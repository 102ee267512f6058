//! The clients, behind one face: pull an image through a cache, and prove what came.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use larder_tests::prelude::*;
use larder_tests::real::containerd::{ParallelRanges, Release};
use larder_tests::real::{Containerd, Crane, MirroredRegistry, Podman, Skopeo};
use tempfile::TempDir;

use super::upstream::REPO;

/// Where nothing listens: what a client got, it got from the cache.
const NOWHERE: &str = "127.0.0.1:9";
/// What containerd asks for at once of a large layer.
const RANGES: ParallelRanges = ParallelRanges {
    chunk_bytes: 3 << 20,
    at_once: 4,
};

/// Which client, and how it finds the cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// containerd 2.2 with `hosts.toml`.
    Containerd2,
    /// The same, fetching layers as parallel ranges.
    Containerd2Ranges,
    /// Debian's containerd 1.6 with `hosts.toml`.
    Containerd16,
    /// skopeo with a mirror in `registries.conf`, whose location has the registry as path prefix.
    Skopeo,
    /// podman with the same.
    Podman,
    /// crane straight at the cache, with the registry as path prefix.
    Crane,
}

pub(crate) enum Client {
    Containerd(Containerd),
    Skopeo(Skopeo),
    Podman(Podman),
    Crane(Crane, String),
}

impl Client {
    /// A client without images that finds `registries` through `node`, and nothing else.
    pub(crate) async fn start(kind: Kind, node: &NodeProcess, registries: &[&str]) -> Result<Self> {
        let host = node.url().replace("http://", "");
        let mirrored: Vec<_> = registries
            .iter()
            .map(|registry| MirroredRegistry {
                prefix: (*registry).to_owned(),
                location: NOWHERE.to_owned(),
                mirrors: vec![format!("{host}/{registry}")],
            })
            .collect();
        let containerd = match kind {
            Kind::Skopeo => return Ok(Self::Skopeo(Skopeo::new(&mirrored)?)),
            Kind::Podman => return Ok(Self::Podman(Podman::new(&mirrored)?)),
            Kind::Crane => return Ok(Self::Crane(Crane::new()?, host)),
            Kind::Containerd2 => Containerd::start(Release::V2, None).await?,
            Kind::Containerd2Ranges => Containerd::start(Release::V2, Some(RANGES)).await?,
            Kind::Containerd16 => Containerd::start(Release::Debian, None).await?,
        };
        for registry in registries {
            containerd.mirror(registry, &[&node.url()], &format!("http://{NOWHERE}"))?;
        }
        Ok(Self::Containerd(containerd))
    }

    /// Pulls `REPO:v1` of `registry` and makes sure that everything that belongs to it came as it was pushed.
    pub(crate) async fn pull(&self, registry: &str, pushed: &Index) -> Result<()> {
        let image = format!("{registry}/{REPO}:v1");
        let own = own_platform(pushed);
        let all: BTreeSet<_> = pushed
            .images
            .iter()
            .flat_map(digests)
            .chain([pushed.digest.clone()])
            .collect();
        let (top, came, due) = match self {
            Self::Containerd(containerd) => {
                containerd.pull(&image).await?;
                let top = containerd.digest_of(&image).await?;
                let due = digests(own).chain([pushed.digest.clone()]).collect();
                (top, containerd.verified_digests().await?, due)
            }
            Self::Skopeo(skopeo) => {
                let came = skopeo.copy(&image).await?;
                (skopeo.digest(&image).await?, came, digests(own).collect())
            }
            // podman proves layers while it unpacks them and keeps none. It names an image pulled twice by its manifest.
            Self::Podman(podman) => {
                podman.pull(&image).await?;
                let named = podman.digest_of(&image).await?;
                ensure!(
                    named == pushed.digest || named == own.digest,
                    "podman has {named}"
                );
                (pushed.digest.clone(), BTreeSet::new(), BTreeSet::new())
            }
            Self::Crane(crane, host) => {
                let image = format!("{host}/{image}");
                crane.validate(&image).await?;
                let dir = TempDir::new()?;
                let layout = dir.path().join("layout");
                crane.pull(&image, &layout).await?;
                (crane.digest(&image).await?, in_layout(&layout)?, all.clone())
            }
        };
        ensure!(
            top == pushed.digest,
            "the tag became {top}, but {} was pushed",
            pushed.digest
        );
        // containerd 2 takes the other platforms' manifests and configurations too.
        ensure!(
            due.is_subset(&came) && came.is_subset(&all),
            "came: {came:?}\nwas due: {due:?}"
        );
        Ok(())
    }

    /// Forgets every image, so that the next pull fetches everything anew.
    pub(crate) async fn forget(&self) -> Result<()> {
        match self {
            Self::Containerd(containerd) => containerd.remove_images().await,
            Self::Podman(podman) => podman.remove_images().await,
            Self::Skopeo(_) | Self::Crane(..) => Ok(()),
        }
    }
}

/// The image of this machine's platform.
pub(crate) fn own_platform(index: &Index) -> &Image {
    &index.images[0]
}

/// Manifest, configuration and layers.
pub(crate) fn digests(image: &Image) -> impl Iterator<Item = String> {
    let blobs = image.blobs().into_iter().map(|(digest, _)| digest);
    std::iter::once(image.digest.clone()).chain(blobs)
}

/// What the files of an OCI layout really are.
fn in_layout(layout: &std::path::Path) -> Result<BTreeSet<String>> {
    std::fs::read_dir(layout.join("blobs/sha256"))?
        .map(|entry| Ok(sha256(&std::fs::read(entry?.path())?)))
        .collect()
}
