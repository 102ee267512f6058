//! A node's images through CRI, the way the kubelet asks for them.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::Node;
use crate::real::tool;

/// An image that was pulled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pulled {
    /// Its id: the digest of its configuration.
    pub id: String,
    /// How long the container runtime took.
    pub elapsed: Duration,
}

/// An image that a node has.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct NodeImage {
    /// Its id: the digest of its configuration.
    pub id: String,
    /// Its names, `REGISTRY/REPO:TAG`.
    pub tags: Vec<String>,
    /// The names of its manifests, `REGISTRY/REPO@DIGEST`.
    pub digests: Vec<String>,
    /// Its size as the container runtime reckons it.
    pub bytes: u64,
}

/// What `cri pull` prints.
#[derive(Deserialize)]
struct Answer {
    image: String,
    seconds: f64,
}

impl Node {
    /// Pulls an image, `REGISTRY/REPO:TAG` or `…@DIGEST`, as the kubelet does, and measures the time.
    ///
    /// # Errors
    /// With what the container runtime said; where the node is off.
    pub async fn pull(&self, image: &str) -> Result<Pulled> {
        let answer: Answer = self.cri(&["pull", image]).await?;
        Ok(Pulled {
            id: answer.image,
            elapsed: Duration::try_from_secs_f64(answer.seconds)?,
        })
    }

    /// The images it has, in the order of their ids.
    ///
    /// # Errors
    /// With what the container runtime said; where the node is off.
    pub async fn images(&self) -> Result<Vec<NodeImage>> {
        let mut images: Vec<NodeImage> = self.cri(&["images"]).await?;
        images.sort_by(|one, other| one.id.cmp(&other.id));
        Ok(images)
    }

    /// Removes an image, by any of its names, and what only it needs. One that is not there is no error.
    ///
    /// # Errors
    /// With what the container runtime said; where the node is off.
    pub async fn remove_image(&self, image: &str) -> Result<()> {
        let _: serde_json::Value = self.cri(&["remove", image]).await?;
        Ok(())
    }

    async fn cri<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let program = tool("cri", "cri")?;
        let answer = self
            .run(program.to_str().context("a path that is no text")?, arguments)
            .await?;
        serde_json::from_str(&answer).with_context(|| answer.clone())
    }
}
