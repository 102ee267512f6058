//! Manifests: by digest from the store for ever, by tag as long as the ledger may be believed.

use std::sync::Arc;

use larder_crds::Mode;

use super::access::{Visitor, refuses_head};
use super::verify::{Rejection, accept};
use super::{Cache, Error, Origin, Subject, Target};
use crate::oci::{Digest, Reference, RepoName, Tag};
use crate::rights::Decision;
use crate::store::Manifest;
use crate::tags::{self, Entry, Freshness, Key, Name};
use crate::upstream::{ManifestHead, Scope};

/// How often upstream is asked for a manifest whose bytes were wrong.
const FETCHES_MAX: u32 = 2;

/// What single-flights the question what a name means.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct NameKey {
    pub(super) name: Name,
    pub(super) scope: Scope,
}

/// What single-flights the fetching of a manifest by digest.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct DigestKey {
    digest: Digest,
    scope: Scope,
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

/// What is known of a name that can change.
pub(super) struct Known {
    /// What it meant when upstream was last asked.
    pub(super) content: Option<(Entry, Manifest)>,
    freshness: Freshness,
}

impl Known {
    /// The content, if it is worth this much.
    pub(super) fn manifest_if(&self, freshness: Freshness) -> Option<Manifest> {
        let content = self.content.as_ref().filter(|_| self.freshness == freshness);
        content.map(|(_, manifest)| manifest.clone())
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
        let visitor = self.visitor(target, repository).await;
        let answer = match reference {
            Reference::Digest(digest) => self.by_digest(target, &visitor, digest).await?,
            Reference::Tag(tag) => self.by_tag(target, &visitor, tag).await?,
        };
        self.inner
            .rights
            .names(&answer.manifest, &visitor.scope.repository);
        self.flush_rights().await;
        Ok(answer)
    }

    async fn by_digest(
        &self,
        target: &Target,
        visitor: &Visitor,
        digest: &Digest,
    ) -> Result<ManifestAnswer, Error> {
        if let Some(manifest) = self.stored_manifest(digest).await {
            let origin = self.authorize(target, visitor, Subject::Manifest, digest).await?;
            return Ok(ManifestAnswer::new(manifest, origin));
        }
        let key = DigestKey {
            digest: *digest,
            scope: visitor.scope.clone(),
        };
        let flight = self.inner.digest_flights.join(&key, || {
            let (cache, target, visitor) = (self.clone(), target.clone(), visitor.clone());
            let reference = Reference::Digest(*digest);
            async move { cache.fetch(&target, &visitor, &reference).await }
        });
        let flight = async { flight.await.unwrap_or(Err(Error::Overloaded)) };
        self.in_time(target, flight, false).await
    }

    async fn by_tag(&self, target: &Target, visitor: &Visitor, tag: &Tag) -> Result<ManifestAnswer, Error> {
        let key = Key {
            registry: target.registry.host.clone(),
            repository: visitor.repository().clone(),
            name: Name::Tag(tag.clone()),
        };
        let is_immutable = target.registry.tags.immutable.is_match(tag.as_str());
        let known = self.known(target, visitor, &key, is_immutable).await;
        if let Some(manifest) = known.manifest_if(Freshness::Fresh) {
            return Ok(ManifestAnswer::new(manifest, Origin::Store));
        }
        let stale = known.manifest_if(Freshness::Expired);
        let flight_key = NameKey {
            name: key.name.clone(),
            scope: visitor.scope.clone(),
        };
        let flight = self.inner.tag_flights.join(&flight_key, || {
            let (cache, target, visitor) = (self.clone(), target.clone(), visitor.clone());
            async move { cache.revalidate(&target, &visitor, key, known.content).await }
        });
        let flight = async { flight.await.unwrap_or(Err(Error::Overloaded)) };
        self.or_stale(target, flight, stale).await
    }

    /// What the ledger and the store together know of `key`, and what it is worth to `visitor`.
    pub(super) async fn known(
        &self,
        target: &Target,
        visitor: &Visitor,
        key: &Key,
        is_immutable: bool,
    ) -> Known {
        let nothing = Known {
            content: None,
            freshness: Freshness::Useless,
        };
        let Some(entry) = self.inner.ledger.get(key) else {
            return nothing;
        };
        // A tag whose content is gone is not known: whoever heard of the digest would ask for it next.
        let Some(manifest) = self.stored_manifest(&entry.digest).await else {
            return nothing;
        };
        let policy = &target.registry.tags;
        let freshness = match target.registry.mode {
            // Nobody else will ever be asked, so there is nothing to be older than.
            Mode::CacheOnly => Freshness::Fresh,
            Mode::Proxy => tags::judge(
                entry.checked_at,
                entry.jitter_percent,
                tags::now_ms(),
                policy.ttl,
                policy.serve_stale_for,
                is_immutable,
            ),
        };
        // A tag that is asked for proves access, too.
        let freshness = match (freshness, self.decide(target, visitor, &entry.digest)) {
            (freshness, Decision::Serve) => freshness,
            (Freshness::Useless, _) | (_, Decision::Prove { may_be_stale: false }) => Freshness::Useless,
            (_, Decision::Prove { may_be_stale: true }) => Freshness::Expired,
        };
        Known {
            content: Some((entry, manifest)),
            freshness,
        }
    }

    /// The answer of `flight`, or `stale` when upstream fails, limits, or is silent for 3 s.
    pub(super) async fn or_stale(
        &self,
        target: &Target,
        flight: impl Future<Output = Result<ManifestAnswer, Error>>,
        stale: Option<Manifest>,
    ) -> Result<ManifestAnswer, Error> {
        match (self.in_time(target, flight, stale.is_some()).await, stale) {
            (Err(error), Some(stale)) if error.allows_stale() => {
                self.note_stale(target, &stale.digest, &error);
                Ok(ManifestAnswer::new(stale, Origin::Stale))
            }
            (answer, _) => answer,
        }
    }

    /// Asks upstream what a tag means: one conditional HEAD when something is known, for a GET counts against
    /// quotas, else one GET.
    async fn revalidate(
        &self,
        target: &Target,
        visitor: &Visitor,
        key: Key,
        known: Option<(Entry, Manifest)>,
    ) -> Result<ManifestAnswer, Error> {
        let Name::Tag(tag) = &key.name else {
            return Err(Error::Malformed);
        };
        let by_tag = Reference::Tag(tag.clone());
        let Some((entry, manifest)) = known else {
            let answer = self.fetch(target, visitor, &by_tag).await;
            return self.settle(target, key, answer, None).await;
        };
        let head = visitor
            .upstream()?
            .head_manifest(visitor.repository(), &by_tag, Some(&entry.digest))
            .await;
        if let Some(digest) = head.as_ref().ok().and_then(|head| meant(head, &entry.digest)) {
            self.inner.rights.proved(&digest, &visitor.scope);
        }
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
                match self.by_digest(target, visitor, &digest).await {
                    Ok(answer) if !answer.manifest.media_type.is_schema1() => {
                        Ok(ManifestAnswer { warnings, ..answer })
                    }
                    // The tag moved on, the registry does not serve by the digest that it names, or what it serves
                    // is of Docker's first schema, which no tag may come to mean.
                    _ => self.fetch(target, visitor, &by_tag).await,
                }
            }
            Ok(ManifestHead::Found { digest: None, .. }) => self.fetch(target, visitor, &by_tag).await,
            Err(error) if refuses_head(error.kind()) => self.fetch(target, visitor, &by_tag).await,
            Err(error) => Err(self.upstream_error(target, visitor, Subject::Manifest, None, &error)),
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
    pub(super) async fn fetch(
        &self,
        target: &Target,
        visitor: &Visitor,
        reference: &Reference,
    ) -> Result<ManifestAnswer, Error> {
        let wanted = match reference {
            Reference::Digest(digest) => Some(digest),
            Reference::Tag(_) => None,
        };
        let (upstream, repository) = (visitor.upstream()?, visitor.repository());
        let mut rejections = 0;
        loop {
            let fetched = upstream.get_manifest(repository, reference).await;
            let mut fetched = fetched
                .map_err(|error| self.upstream_error(target, visitor, Subject::Manifest, wanted, &error))?;
            let warnings = std::mem::take(&mut fetched.warnings);
            match accept(wanted, fetched) {
                Ok(manifest) => {
                    self.inner.rights.proved(&manifest.digest, &visitor.scope);
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

/// What a HEAD says that a tag means, asked whether it is still `known`.
fn meant(head: &ManifestHead, known: &Digest) -> Option<Digest> {
    match head {
        ManifestHead::NotModified => Some(*known),
        ManifestHead::Found { digest, .. } => *digest,
    }
}
