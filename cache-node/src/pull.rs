//! The decisions of a pull: a known digest, a fresh tag, a running fill, a new fill, a stale answer, an error.

mod access;
mod blob;
mod descriptors;
mod error;
mod flight;
mod listing;
mod manifest;
mod protected;
mod source;
mod targets;
mod verify;

use std::sync::Arc;
use std::time::Duration;

use crate::fill::Engine;
use crate::metrics::Metrics;
use crate::oci::Digest;
use crate::rights::Rights;
use crate::store::{Manifest, Store};
use crate::tags::Ledger;
use crate::upstream::Listing;

use access::Question;
use descriptors::Descriptors;
use flight::Flights;
use manifest::{DigestKey, NameKey};
use targets::Suspects;

pub use error::{Error, Subject};
pub use listing::ListingAnswer;
pub use manifest::ManifestAnswer;
pub use targets::{Target, Targets};

/// How long a client that can be given a known answer waits for upstream to confirm it.
const REVALIDATION_WAIT: Duration = Duration::from_secs(3);
/// How long a client waits for an answer that only upstream can give.
const ANSWER_WAIT: Duration = Duration::from_secs(22);

/// Where an answer came from: what explains how long it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the store, without asking upstream.
    Store,
    /// From the store, after upstream confirmed it.
    Revalidated,
    /// From the store, because upstream could not be asked.
    Stale,
    /// From a running fill, or from upstream in this request.
    Upstream,
}

impl Origin {
    /// The value in logs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Revalidated => "revalidated",
            Self::Stale => "stale",
            Self::Upstream => "upstream",
        }
    }
}

/// Everything that pulls share. Cheap to clone.
#[derive(Clone)]
pub struct Cache {
    inner: Arc<Inner>,
}

struct Inner {
    targets: Targets,
    engine: Engine,
    store: Arc<Store>,
    ledger: Arc<Ledger>,
    rights: Arc<Rights>,
    metrics: Arc<Metrics>,
    descriptors: Descriptors,
    tag_flights: Flights<NameKey, Result<ManifestAnswer, Error>>,
    listing_flights: Flights<NameKey, Result<(ManifestAnswer, Listing), Error>>,
    digest_flights: Flights<DigestKey, Result<ManifestAnswer, Error>>,
    proofs: Flights<Question, Result<(), Error>>,
    suspects: Suspects,
}

impl Cache {
    /// A cache that answers for `targets`.
    pub fn new(
        targets: Targets,
        engine: Engine,
        store: Arc<Store>,
        ledger: Arc<Ledger>,
        rights: Arc<Rights>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let inner = Inner {
            targets,
            engine,
            store,
            ledger,
            rights,
            metrics,
            descriptors: Descriptors::default(),
            tag_flights: Flights::default(),
            listing_flights: Flights::default(),
            digest_flights: Flights::default(),
            proofs: Flights::default(),
            suspects: Suspects::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// The configured registries.
    pub fn targets(&self) -> &Targets {
        &self.inner.targets
    }

    /// Reads a manifest from the store, off the runtime's threads.
    async fn stored_manifest(&self, digest: &Digest) -> Option<Manifest> {
        self.inner.store.manifest_head(digest)?;
        let (store, digest) = (Arc::clone(&self.inner.store), *digest);
        let manifest = tokio::task::spawn_blocking(move || store.manifest(&digest))
            .await
            .ok()
            .flatten()?;
        self.inner.descriptors.learn(&manifest);
        Some(manifest)
    }

    /// Keeps a verified manifest. One that cannot be kept is still an answer: the disk's trouble is not the pull's.
    async fn keep(&self, manifest: &Manifest) {
        self.inner.descriptors.learn(manifest);
        if !self.inner.store.takes_content() {
            return;
        }
        let (store, kept) = (Arc::clone(&self.inner.store), manifest.clone());
        let put = tokio::task::spawn_blocking(move || store.put_manifest(&kept)).await;
        if let Ok(Err(error)) = put
            && !self.inner.store.note_failure(&error, manifest.body.len() as u64)
        {
            tracing::error!(digest = %manifest.digest, error = &error as &dyn std::error::Error,
                "a verified manifest could not be kept");
        }
    }
}

/// Logs what went wrong, whole, and leaves what a client may know.
fn client_error(target: &Target, subject: Subject, error: &crate::upstream::Error) -> Error {
    let for_client = Error::from(error);
    tracing::info!(registry = %target.label, ?subject, outcome = for_client.metric_label(),
        error = error as &dyn std::error::Error, "upstream gave no answer");
    for_client
}
