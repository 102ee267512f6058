//! A fill's way to upstream, which remembers what upstream's answers prove about access rights.

use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use futures_util::future::BoxFuture;

use crate::fill::{Opened, Source};
use crate::oci::Digest;
use crate::rights::Rights;
use crate::upstream::{self, BlobBody, RangeRequest, Scope, Upstream, Validator};

/// A blob of a repository of an upstream registry.
pub(super) struct UpstreamBlob {
    upstream: Arc<Upstream>,
    digest: Digest,
    scope: Scope,
    rights: Arc<Rights>,
    answered: Mutex<Option<Answered>>,
}

/// Whom upstream has answered so far.
struct Answered {
    /// The last one. A credential may change while a fill runs.
    scope: Scope,
    /// All of them were nobody in particular.
    is_public: bool,
}

impl UpstreamBlob {
    pub(super) fn new(upstream: Arc<Upstream>, scope: Scope, digest: Digest, rights: Arc<Rights>) -> Self {
        Self {
            upstream,
            digest,
            scope,
            rights,
            answered: Mutex::default(),
        }
    }

    fn note_answer(&self, scope: Scope) {
        let mut answered = self.answered.lock().unwrap_or_else(PoisonError::into_inner);
        let was_public = answered.as_ref().is_none_or(|answered| answered.is_public);
        let is_public = was_public && scope.is_anonymous();
        *answered = Some(Answered { scope, is_public });
    }
}

impl Source for UpstreamBlob {
    fn open(
        &self,
        range: Range<u64>,
        validator: Option<Validator>,
    ) -> BoxFuture<'_, Result<Opened, upstream::Error>> {
        Box::pin(async move {
            let Range { start, end } = range;
            let end = Some(end).filter(|&end| end != u64::MAX);
            let range = (start > 0 || end.is_some()).then_some(RangeRequest {
                start,
                end,
                if_range: validator,
            });
            let repository = &self.scope.repository.name;
            let (upstream, scope) = self.upstream.scoped(repository, self.rights.salt()).await;
            let opened = upstream.open_blob(repository, &self.digest, range).await;
            let BlobBody {
                offset,
                total,
                validator,
                is_labelled_text,
                body,
            } = match opened {
                Ok(opened) => opened,
                Err(error) => {
                    self.rights.refused(Some(&self.digest), &scope, error.kind());
                    return Err(error);
                }
            };
            self.note_answer(scope);
            Ok(Opened {
                offset,
                length: total,
                validator,
                is_labelled_text,
                body,
            })
        })
    }

    fn scope(&self) -> &Scope {
        &self.scope
    }

    fn proved(&self) {
        let answered = self
            .answered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        // All of it may have been on disk: then nobody has asked upstream.
        let Some(Answered { scope, is_public }) = answered else {
            return;
        };
        self.rights.vouch(&self.digest, &scope.repository, is_public);
        self.rights.has_access(&scope);
        self.rights.flush();
    }
}
