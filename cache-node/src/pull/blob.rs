//! Blobs: from the store, from a running fill, or from a new one.

use std::sync::Arc;

use tokio::time::timeout;

use super::access::Visitor;
use super::source::UpstreamBlob;
use super::{ANSWER_WAIT, Cache, Error, Origin, Subject, Target};
use crate::fill::{self, Content};
use crate::oci::{Digest, RepoName};
use crate::rights::Decision;

impl Cache {
    /// The blob `digest`, ready to be read from the byte `from` on, and its length in bytes where it is known.
    ///
    /// # Errors
    /// Upstream does not have it, or nothing could be promised of it within 22 s.
    pub async fn blob(
        &self,
        target: &Target,
        repository: &RepoName,
        digest: &Digest,
        from: u64,
    ) -> Result<(Content, Option<u64>, Origin), Error> {
        let visitor = self.visitor(target, repository).await;
        let opened = match target.upstream() {
            Ok(_) => timeout(ANSWER_WAIT, self.open(target, &visitor, digest, from)).await,
            Err(refusal) => match self.kept(target, &visitor, digest, from).await {
                Some(kept) => return kept,
                None => return Err(refusal),
            },
        };
        opened.unwrap_or_else(|_| Err(no_blob(target, digest, &fill::Error::TimedOut)))
    }

    /// The blob, if it is here or was on its way already, and may be had.
    async fn kept(
        &self,
        target: &Target,
        visitor: &Visitor,
        digest: &Digest,
        from: u64,
    ) -> Option<Result<(Content, Option<u64>, Origin), Error>> {
        if self.decide(target, visitor, digest) != Decision::Serve {
            return None;
        }
        let content = self.inner.engine.find(digest, from)?;
        let head = content.head().await.map_err(|error| Error::from(&error));
        let origin = origin(&content);
        Some(head.map(|length| (content, length, origin)))
    }

    async fn open(
        &self,
        target: &Target,
        visitor: &Visitor,
        digest: &Digest,
        from: u64,
    ) -> Result<(Content, Option<u64>, Origin), Error> {
        let engine = &self.inner.engine;
        let expectation = self.inner.descriptors.expectation(digest);
        let is_own = |content: &Content| content.scope() == Some(&visitor.scope);
        let mut right = match self.decide(target, visitor, digest) {
            Decision::Serve => Some(Origin::Store),
            Decision::Prove { .. } => None,
        };
        loop {
            if right.is_none() && engine.find(digest, from).is_some_and(|content| !is_own(&content)) {
                right = Some(self.authorize(target, visitor, Subject::Blob, digest).await?);
            }
            let source = UpstreamBlob::new(
                Arc::clone(target.upstream()?),
                visitor.scope.clone(),
                *digest,
                Arc::clone(&self.inner.rights),
            );
            let opened = engine.open(digest, from, &target.label, expectation, Arc::new(source));
            let content = opened.await.map_err(|error| no_blob(target, digest, &error))?;
            if right.is_none() && !is_own(&content) {
                // Somebody else's, since the look before.
                continue;
            }
            match content.head().await {
                Ok(length) => {
                    if right.is_none() && !content.is_sent() {
                        // All of it was on disk, so that nobody has asked upstream.
                        right = Some(self.authorize(target, visitor, Subject::Blob, digest).await?);
                    }
                    let origin = right.filter(|&right| right != Origin::Store);
                    let origin = origin.unwrap_or_else(|| self::origin(&content));
                    return Ok((content, length, origin));
                }
                Err(fill::Error::Paused) if !engine.is_shutting_down() => {}
                // What upstream refuses to somebody else it may give to this one.
                Err(fill::Error::Upstream(_)) if !is_own(&content) => {}
                Err(error) => return Err(no_blob(target, digest, &error)),
            }
        }
    }

    /// The length in bytes of the blob `digest`. Starts no transfer, and waits for no proof of its bytes.
    ///
    /// # Errors
    /// Upstream does not have it, or could not be asked within 22 s.
    pub async fn blob_length(
        &self,
        target: &Target,
        repository: &RepoName,
        digest: &Digest,
    ) -> Result<(u64, Origin), Error> {
        let visitor = self.visitor(target, repository).await;
        let known = self.inner.engine.find(digest, u64::MAX).and_then(|content| {
            let is_answered = content.is_sent() && content.scope() == Some(&visitor.scope);
            Some((content.known_length()?, is_answered, origin(&content)))
        });
        if let Some((length, is_answered, origin)) = known {
            if is_answered {
                return Ok((length, origin));
            }
            let right = self.authorize(target, &visitor, Subject::Blob, digest).await?;
            return Ok((length, if right == Origin::Store { origin } else { right }));
        }
        let asked = self.upstream_length(target, &visitor, digest);
        let length = self.in_time(target, asked, false).await?;
        match length.or_else(|| self.inner.descriptors.expectation(digest).length) {
            Some(length) => Ok((length, Origin::Upstream)),
            // Nobody knows: a client cannot do with less than the length, so it has to be counted.
            None => self.counted_length(target, repository, digest).await,
        }
    }

    async fn counted_length(
        &self,
        target: &Target,
        repository: &RepoName,
        digest: &Digest,
    ) -> Result<(u64, Origin), Error> {
        let (content, length, origin) = self.blob(target, repository, digest, 0).await?;
        match length {
            Some(length) => Ok((length, origin)),
            None => match timeout(ANSWER_WAIT, content.counted_length()).await {
                Ok(Ok(length)) => Ok((length, origin)),
                Ok(Err(error)) => Err(Error::from(&error)),
                Err(_) => Err(Error::TimedOut),
            },
        }
    }
}

fn origin(content: &Content) -> Origin {
    if content.is_stored() {
        Origin::Store
    } else {
        Origin::Upstream
    }
}

/// Logs why there is no blob, whole, and leaves what a client may know.
fn no_blob(target: &Target, digest: &Digest, error: &fill::Error) -> Error {
    let for_client = Error::from(error);
    tracing::info!(registry = %target.label, %digest, outcome = for_client.metric_label(),
        error = error as &dyn std::error::Error, "no blob");
    for_client
}
