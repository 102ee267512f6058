//! Whether whoever asks may have what is here: as far as is known, else as upstream says.

use std::sync::Arc;

use larder_crds::Mode;
use tokio::time::timeout;

use super::{ANSWER_WAIT, Cache, Error, Origin, REVALIDATION_WAIT, Subject, Target};
use crate::oci::{Digest, Reference, RepoName};
use crate::rights::Decision;
use crate::upstream::{self, CredentialKey, Kind, ManifestHead, Repository, Scope, Upstream};

/// Whoever asks for something of a repository.
#[derive(Clone)]
pub(super) struct Visitor {
    /// On whose behalf upstream is asked.
    pub(super) scope: Scope,
    upstream: Option<Upstream>,
}

impl Visitor {
    /// The way to upstream, with the credential of the scope.
    ///
    /// # Errors
    /// [`Error::NotKept`] where the registry is never contacted.
    pub(super) fn upstream(&self) -> Result<&Upstream, Error> {
        self.upstream.as_ref().ok_or(Error::NotKept)
    }

    /// The repository, as upstream names it.
    pub(super) fn repository(&self) -> &RepoName {
        &self.scope.repository.name
    }
}

/// What single-flights the question whether somebody can have something.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Question {
    scope: Scope,
    subject: Subject,
    digest: Digest,
}

impl Cache {
    /// Whoever asks for something of `repository`, which a client named.
    pub(super) async fn visitor(&self, target: &Target, repository: &RepoName) -> Visitor {
        if let Ok(upstream) = target.upstream() {
            let (upstream, scope) = upstream.scoped(repository, self.inner.rights.salt()).await;
            return Visitor {
                scope,
                upstream: Some(upstream),
            };
        }
        let repository = Repository {
            registry: Arc::clone(&target.label),
            name: target.registry.upstream_repository(repository),
        };
        let scope = Scope {
            repository,
            credential: CredentialKey::Anonymous,
            fingerprint: None,
        };
        Visitor {
            scope,
            upstream: None,
        }
    }

    /// What to do when `visitor` asks for content that is here.
    pub(super) fn decide(&self, target: &Target, visitor: &Visitor, digest: &Digest) -> Decision {
        let (rights, scope) = (&self.inner.rights, &visitor.scope);
        match target.registry.mode {
            Mode::Proxy => rights.decide(digest, scope, target.registry.tags.serve_stale_for),
            // Nobody else will ever be asked.
            Mode::CacheOnly if rights.is_member(digest, &scope.repository) => Decision::Serve,
            Mode::CacheOnly => Decision::Prove { may_be_stale: false },
        }
    }

    /// Makes sure that `visitor` may have content that is here, and says how: [`Origin::Store`] by what is known.
    ///
    /// # Errors
    /// Upstream refuses it, or could not be asked and nothing is known that is young enough.
    pub(super) async fn authorize(
        &self,
        target: &Target,
        visitor: &Visitor,
        subject: Subject,
        digest: &Digest,
    ) -> Result<Origin, Error> {
        let Decision::Prove { may_be_stale } = self.decide(target, visitor, digest) else {
            return Ok(Origin::Store);
        };
        let question = Question {
            scope: visitor.scope.clone(),
            subject,
            digest: *digest,
        };
        let flight = self.inner.proofs.join(&question, || {
            let (cache, target, visitor, digest) = (self.clone(), target.clone(), visitor.clone(), *digest);
            async move {
                // An answer may have come between the look before and this one.
                match cache.decide(&target, &visitor, &digest) {
                    Decision::Serve => Ok(()),
                    Decision::Prove { .. } => cache.prove(&target, &visitor, subject, &digest).await,
                }
            }
        });
        let proof = async { flight.await.unwrap_or(Err(Error::Overloaded)) };
        match self.in_time(target, proof, may_be_stale).await {
            Ok(()) => Ok(Origin::Revalidated),
            Err(error) if may_be_stale && error.allows_stale() => {
                self.note_stale(target, digest, &error);
                Ok(Origin::Stale)
            }
            Err(error) => Err(error),
        }
    }

    async fn prove(
        &self,
        target: &Target,
        visitor: &Visitor,
        subject: Subject,
        digest: &Digest,
    ) -> Result<(), Error> {
        let proved = match subject {
            Subject::Blob => {
                let length = self.upstream_length(target, visitor, digest).await?;
                let stored = self.inner.store.length(digest);
                length.is_none() || stored.is_none() || length == stored
            }
            Subject::Manifest | Subject::Listing => {
                let by_digest = Reference::Digest(*digest);
                let head = visitor
                    .upstream()?
                    .head_manifest(visitor.repository(), &by_digest, None);
                match head.await {
                    Ok(head) => !contradicts(&head, digest),
                    Err(error) if refuses_head(error.kind()) => {
                        return self.fetch(target, visitor, &by_digest).await.map(drop);
                    }
                    Err(error) => {
                        return Err(self.upstream_error(target, visitor, subject, Some(digest), &error));
                    }
                }
            }
        };
        if !proved {
            tracing::warn!(registry = %target.label, %digest, "upstream has something else under this digest");
            return Err(Error::Unavailable);
        }
        self.inner.rights.proved(digest, &visitor.scope);
        self.flush_rights().await;
        Ok(())
    }

    /// The length of a blob in bytes, if upstream tells it.
    pub(super) async fn upstream_length(
        &self,
        target: &Target,
        visitor: &Visitor,
        digest: &Digest,
    ) -> Result<Option<u64>, Error> {
        let length = visitor
            .upstream()?
            .blob_length(visitor.repository(), digest)
            .await;
        length.map_err(|error| self.upstream_error(target, visitor, Subject::Blob, Some(digest), &error))
    }

    /// What `asked` comes to, within 22 s. Where there is something to answer with in its stead, only within 3 s, and not
    /// at all by a registry that was silent just now.
    pub(super) async fn in_time<T>(
        &self,
        target: &Target,
        asked: impl Future<Output = Result<T, Error>>,
        has_stale: bool,
    ) -> Result<T, Error> {
        if !has_stale {
            return timeout(ANSWER_WAIT, asked).await.unwrap_or(Err(Error::TimedOut));
        }
        if self.inner.suspects.is_suspect(&target.label) {
            return Err(Error::TimedOut);
        }
        let answer = timeout(REVALIDATION_WAIT, asked)
            .await
            .unwrap_or(Err(Error::TimedOut));
        match &answer {
            Err(Error::TimedOut | Error::Unavailable) => self.inner.suspects.accuse(&target.label),
            _ => self.inner.suspects.clear(&target.label),
        }
        answer
    }

    /// Says that `digest` is answered although upstream could not be asked.
    pub(super) fn note_stale(&self, target: &Target, digest: &Digest, error: &Error) {
        tracing::warn!(registry = %target.label, %digest, reason = error.metric_label(),
            "upstream could not be asked; answering with the last known content");
        self.inner.metrics.stale_answer(&target.label);
    }

    /// Takes in that upstream did not answer, logs it whole, and leaves what a client may know.
    pub(super) fn upstream_error(
        &self,
        target: &Target,
        visitor: &Visitor,
        subject: Subject,
        digest: Option<&Digest>,
        error: &upstream::Error,
    ) -> Error {
        self.inner.rights.refused(digest, &visitor.scope, error.kind());
        super::client_error(target, subject, error)
    }

    /// Writes down what was learned of rights, off the runtime's threads.
    pub(super) async fn flush_rights(&self) {
        if self.inner.rights.has_news() {
            let rights = Arc::clone(&self.inner.rights);
            let _ = tokio::task::spawn_blocking(move || rights.flush()).await;
        }
    }
}

/// Whether an answer for `digest` names another one. One of another algorithm is no contradiction.
fn contradicts(head: &ManifestHead, digest: &Digest) -> bool {
    let ManifestHead::Found {
        digest: Some(found), ..
    } = head
    else {
        return false;
    };
    found.algorithm() == digest.algorithm() && found != digest
}

/// Whether an answer to a HEAD says more of the method than of the manifest.
pub(super) fn refuses_head(kind: Kind) -> bool {
    matches!(kind, Kind::Status(400..=499) | Kind::Protocol)
}
