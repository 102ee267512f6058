//! Blobs: from the store, from a running fill, or from a new one.

use std::sync::Arc;

use tokio::time::timeout;

use super::{ANSWER_WAIT, Cache, Error, Origin, Subject, Target, client_error, is_put_aside};
use crate::fill::{self, Content, Source, UpstreamBlob};
use crate::oci::{Digest, RepoName};
use crate::upstream::Upstream;

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
        let upstream = match target.upstream() {
            Ok(upstream) => upstream,
            Err(refusal) => return self.kept(digest, from).await.unwrap_or(Err(refusal)),
        };
        let opened = timeout(ANSWER_WAIT, self.open(target, upstream, repository, digest, from)).await;
        let opened = opened.unwrap_or(Err(fill::Error::TimedOut));
        opened.map_err(|error| {
            let for_client = Error::from(&error);
            tracing::info!(registry = %target.label, %digest, outcome = for_client.metric_label(),
                error = &error as &dyn std::error::Error, "no blob");
            for_client
        })
    }

    /// The blob, if it is here or was on its way already.
    async fn kept(
        &self,
        digest: &Digest,
        from: u64,
    ) -> Option<Result<(Content, Option<u64>, Origin), Error>> {
        let content = self.inner.engine.find(digest, from)?;
        let head = content.head().await.map_err(|error| Error::from(&error));
        let origin = origin(&content);
        Some(head.map(|length| (content, length, origin)))
    }

    async fn open(
        &self,
        target: &Target,
        upstream: &Arc<Upstream>,
        repository: &RepoName,
        digest: &Digest,
        from: u64,
    ) -> Result<(Content, Option<u64>, Origin), fill::Error> {
        let expectation = self.inner.descriptors.expectation(digest);
        loop {
            let source: Arc<dyn Source> = Arc::new(UpstreamBlob {
                upstream: Arc::clone(upstream),
                repository: target.registry.upstream_repository(repository),
                digest: *digest,
            });
            let content = self
                .inner
                .engine
                .open(digest, from, &target.label, expectation, source)
                .await?;
            let origin = origin(&content);
            let head = content.head().await;
            if !is_put_aside(&head) || self.inner.engine.is_shutting_down() {
                return Ok((content, head?, origin));
            }
        }
    }

    /// The length in bytes of the blob `digest`. Starts no transfer, and waits for no proof.
    ///
    /// # Errors
    /// Upstream does not have it, or could not be asked within 22 s.
    pub async fn blob_length(
        &self,
        target: &Target,
        repository: &RepoName,
        digest: &Digest,
    ) -> Result<(u64, Origin), Error> {
        let running = self.inner.engine.find(digest, u64::MAX);
        if let Some(content) = &running
            && let Some(length) = content.known_length()
        {
            return Ok((length, origin(content)));
        }
        let upstream_repository = target.registry.upstream_repository(repository);
        let asked = timeout(
            ANSWER_WAIT,
            target.upstream()?.blob_length(&upstream_repository, digest),
        )
        .await;
        let asked = asked.map_err(|_| Error::TimedOut)?;
        let length = asked.map_err(|error| client_error(target, Subject::Blob, &error))?;
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
