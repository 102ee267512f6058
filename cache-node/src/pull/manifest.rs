//! Manifests: by digest from the store for ever, by tag as long as the ledger may be believed.

use std::sync::Arc;

use larder_crds::Mode;
use tokio::time::timeout;

use super::verify::{Rejection, accept};
use super::{ANSWER_WAIT, Cache, Error, Origin, REVALIDATION_WAIT, Subject, Target, client_error};
use crate::oci::{Digest, Reference, RepoName, Tag};
use crate::store::Manifest;
use crate::tags::{self, Entry, Freshness, Key, Name};
use crate::upstream::{CredentialKey, Kind, ManifestHead};

/// How often upstream is asked for a manifest whose bytes were wrong.
const FETCHES_MAX: u32 = 2;

/// What single-flights the question what a tag means.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct TagKey {
    pub(super) key: Key,
    pub(super) credential: CredentialKey,
}

/// What single-flights the fetching of a manifest by digest.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct DigestKey {
    registry: Arc<str>,
    repository: RepoName,
    digest: Digest,
    credential: CredentialKey,
}

/// A manifest, and how it was come by.
#[derive(Clone, Debug)]
pub struct ManifestAnswer {
    /// The verified manifest.
    pub manifest: Manifest,
    /// Where it came from.
    pub origin: Origin,
    /// What upstream warns of (distribution-spec, "Warnings").
    pub warnings: Vec<String>,
}

impl ManifestAnswer {
    pub(super) fn new(manifest: Manifest, origin: Origin) -> Self {
        Self {
            manifest,
            origin,
            warnings: Vec::new(),
        }
    }
}

impl Cache {
    /// The manifest that `reference` names in `repository`.
    ///
    /// # Errors
    /// There is none, or none could be had within 22 s.
    pub async fn manifest(
        &self,
        target: &Target,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<ManifestAnswer, Error> {
        let repository = target.registry.upstream_repository(repository);
        match reference {
            Reference::Digest(digest) => self.by_digest(target, &repository, digest).await,
            Reference::Tag(tag) => self.by_tag(target, &repository, tag).await,
        }
    }

    async fn by_digest(
        &self,
        target: &Target,
        repository: &RepoName,
        digest: &Digest,
    ) -> Result<ManifestAnswer, Error> {
        if let Some(manifest) = self.stored_manifest(digest).await {
            return Ok(ManifestAnswer::new(manifest, Origin::Store));
        }
        let fetched = timeout(ANSWER_WAIT, self.fetch_by_digest(target, repository, digest)).await;
        fetched.unwrap_or(Err(Error::TimedOut))
    }

    async fn fetch_by_digest(
        &self,
        target: &Target,
        repository: &RepoName,
        digest: &Digest,
    ) -> Result<ManifestAnswer, Error> {
        let key = DigestKey {
            registry: Arc::clone(&target.label),
            repository: repository.clone(),
            digest: *digest,
            credential: target.upstream()?.credential_key(repository).await,
        };
        let flight = self.inner.digest_flights.join(&key, || {
            let (cache, target, key) = (self.clone(), target.clone(), key.clone());
            async move {
                let reference = Reference::Digest(key.digest);
                cache.fetch(&target, &key.repository, &reference).await
            }
        });
        flight.await.unwrap_or(Err(Error::Overloaded))
    }

    async fn by_tag(
        &self,
        target: &Target,
        repository: &RepoName,
        tag: &Tag,
    ) -> Result<ManifestAnswer, Error> {
        let key = Key {
            registry: target.registry.host.clone(),
            repository: repository.clone(),
            name: Name::Tag(tag.clone()),
        };
        let (known, freshness) = self
            .known(
                target,
                &key,
                target.registry.tags.immutable.is_match(tag.as_str()),
            )
            .await;
        if let (Some((_, manifest)), Freshness::Fresh) = (&known, freshness) {
            return Ok(ManifestAnswer::new(manifest.clone(), Origin::Store));
        }
        let stale = known.as_ref().filter(|_| freshness == Freshness::Expired);
        let stale = stale.map(|(_, manifest)| manifest.clone());
        let credential = target.upstream()?.credential_key(repository).await;
        let flight = self.inner.tag_flights.join(
            &TagKey {
                key: key.clone(),
                credential,
            },
            || {
                let (cache, target, known) = (self.clone(), target.clone(), known.clone());
                async move { cache.revalidate(&target, key, known).await }
            },
        );
        let flight = async { flight.await.unwrap_or(Err(Error::Overloaded)) };
        self.or_stale(target, flight, stale).await
    }

    /// What the ledger and the store together know of `key`, and what it is worth.
    pub(super) async fn known(
        &self,
        target: &Target,
        key: &Key,
        is_immutable: bool,
    ) -> (Option<(Entry, Manifest)>, Freshness) {
        let Some(entry) = self.inner.ledger.get(key) else {
            return (None, Freshness::Useless);
        };
        // A tag whose content is gone is not known: whoever heard of the digest would ask for it next.
        let Some(manifest) = self.stored_manifest(&entry.digest).await else {
            return (None, Freshness::Useless);
        };
        if target.registry.mode == Mode::CacheOnly {
            // Nobody else will ever be asked, so there is nothing to be older than.
            return (Some((entry, manifest)), Freshness::Fresh);
        }
        let policy = &target.registry.tags;
        let freshness = tags::judge(
            entry.checked_at,
            entry.jitter_percent,
            tags::now_ms(),
            policy.ttl,
            policy.serve_stale_for,
            is_immutable,
        );
        (Some((entry, manifest)), freshness)
    }

    /// The answer of `flight`, or `stale` when upstream fails, limits, or is silent for 3 s.
    pub(super) async fn or_stale(
        &self,
        target: &Target,
        flight: impl Future<Output = Result<ManifestAnswer, Error>>,
        stale: Option<Manifest>,
    ) -> Result<ManifestAnswer, Error> {
        let Some(stale) = stale else {
            return timeout(ANSWER_WAIT, flight).await.unwrap_or(Err(Error::TimedOut));
        };
        let answer = if self.inner.suspects.is_suspect(&target.label) {
            Err(Error::TimedOut)
        } else {
            let answer = timeout(REVALIDATION_WAIT, flight)
                .await
                .unwrap_or(Err(Error::TimedOut));
            match &answer {
                Err(Error::TimedOut | Error::Unavailable) => self.inner.suspects.accuse(&target.label),
                _ => self.inner.suspects.clear(&target.label),
            }
            answer
        };
        match answer {
            Err(error) if error.allows_stale() => {
                tracing::warn!(registry = %target.label, digest = %stale.digest, reason = error.metric_label(),
                    "upstream could not be asked; answering with the last known content");
                self.inner.metrics.stale_answer(&target.label);
                Ok(ManifestAnswer::new(stale, Origin::Stale))
            }
            answer => answer,
        }
    }

    /// Asks upstream what a tag means: one conditional HEAD when something is known, for a GET counts against
    /// quotas, else one GET.
    async fn revalidate(
        &self,
        target: &Target,
        key: Key,
        known: Option<(Entry, Manifest)>,
    ) -> Result<ManifestAnswer, Error> {
        let Name::Tag(tag) = &key.name else {
            return Err(Error::Malformed);
        };
        let by_tag = Reference::Tag(tag.clone());
        let Some((entry, manifest)) = known else {
            let answer = self.fetch(target, &key.repository, &by_tag).await;
            return self.settle(target, key, answer, None).await;
        };
        let head = target
            .upstream()?
            .head_manifest(&key.repository, &by_tag, Some(&entry.digest))
            .await;
        let answer = match head {
            Ok(ManifestHead::NotModified) => Ok(ManifestAnswer::new(manifest, Origin::Revalidated)),
            Ok(ManifestHead::Found {
                digest: Some(digest),
                warnings,
                ..
            }) if digest == entry.digest => Ok(ManifestAnswer {
                warnings,
                ..ManifestAnswer::new(manifest, Origin::Revalidated)
            }),
            Ok(ManifestHead::Found {
                digest: Some(digest),
                warnings,
                ..
            }) => {
                match self.by_digest(target, &key.repository, &digest).await {
                    Ok(answer) if !answer.manifest.media_type.is_schema1() => {
                        Ok(ManifestAnswer { warnings, ..answer })
                    }
                    // The tag moved on, the registry does not serve by the digest that it names, or what it serves
                    // is of Docker's first schema, which no tag may come to mean.
                    _ => self.fetch(target, &key.repository, &by_tag).await,
                }
            }
            Ok(ManifestHead::Found { digest: None, .. }) => {
                self.fetch(target, &key.repository, &by_tag).await
            }
            Err(error) if refuses_head(error.kind()) => self.fetch(target, &key.repository, &by_tag).await,
            Err(error) => Err(client_error(target, Subject::Manifest, &error)),
        };
        self.settle(target, key, answer, None).await
    }

    /// Writes what upstream said of a name into the ledger.
    pub(super) async fn settle(
        &self,
        target: &Target,
        key: Key,
        answer: Result<ManifestAnswer, Error>,
        filters_applied: Option<String>,
    ) -> Result<ManifestAnswer, Error> {
        if !matches!(answer, Err(Error::TimedOut | Error::Unavailable)) {
            // Upstream speaks again: what it says, a refusal above all, must not hide behind a stale answer.
            self.inner.suspects.clear(&target.label);
        }
        let ledger = Arc::clone(&self.inner.ledger);
        let label = Arc::clone(&target.label);
        let entry = answer.as_ref().ok().map(|answer| Entry {
            digest: answer.manifest.digest,
            checked_at: tags::now_ms(),
            jitter_percent: tags::jitter_percent(),
            filters_applied,
        });
        let is_gone = matches!(answer, Err(Error::NotFound));
        let written = tokio::task::spawn_blocking(move || match entry {
            Some(entry) => ledger.record(key, entry),
            None if is_gone => ledger.remove(&key),
            None => Ok(()),
        });
        if let Ok(Err(error)) = written.await
            && !self.inner.store.note_failure(&error, 0)
        {
            tracing::error!(registry = %label, error = &error as &dyn std::error::Error,
                "the tag ledger cannot be written");
        }
        answer
    }

    /// Gets, verifies and keeps a manifest.
    async fn fetch(
        &self,
        target: &Target,
        repository: &RepoName,
        reference: &Reference,
    ) -> Result<ManifestAnswer, Error> {
        let wanted = match reference {
            Reference::Digest(digest) => Some(digest),
            Reference::Tag(_) => None,
        };
        let mut rejections = 0;
        loop {
            let fetched = target.upstream()?.get_manifest(repository, reference).await;
            let mut fetched = fetched.map_err(|error| client_error(target, Subject::Manifest, &error))?;
            let warnings = std::mem::take(&mut fetched.warnings);
            match accept(wanted, fetched) {
                Ok(manifest) => {
                    self.keep(&manifest).await;
                    return Ok(ManifestAnswer {
                        manifest,
                        origin: Origin::Upstream,
                        warnings,
                    });
                }
                Err(Rejection::Schema1) => {
                    tracing::warn!(registry = %target.label, %repository, %reference,
                        "upstream has this tag only in Docker's first schema, which is not served");
                    return Err(Error::NotFound);
                }
                Err(rejection) => {
                    tracing::warn!(registry = %target.label, %repository, %reference, %rejection,
                        "upstream sent a manifest that cannot be right");
                    if rejection == Rejection::Mismatch {
                        self.inner.metrics.digest_mismatch(&target.label);
                    }
                    rejections += 1;
                    if rejections >= FETCHES_MAX {
                        return Err(Error::Unavailable);
                    }
                }
            }
        }
    }
}

/// Whether an answer to a HEAD says more of the method than of the manifest.
fn refuses_head(kind: Kind) -> bool {
    matches!(kind, Kind::Status(400..=499) | Kind::Protocol)
}
