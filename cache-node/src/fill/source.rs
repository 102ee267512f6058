//! Where a fill's bytes come from. Upstream today; another node's running fill tomorrow, and no reader will know.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::oci::{Digest, RepoName};
use crate::upstream::{self, BlobBody, RangeRequest, Upstream, Validator};

/// One answer of a source.
pub struct Opened {
    /// The offset of the first byte of `body` within the blob: what was asked for, or 0 where ranges are ignored.
    pub offset: u64,
    /// The length of the whole blob in bytes, if the source says it.
    pub length: Option<u64>,
    /// What identifies this representation, for `If-Range`.
    pub validator: Option<Validator>,
    /// Whether the source labels the body as text or JSON, which no layer is.
    pub is_labelled_text: bool,
    /// The bytes.
    pub body: BoxStream<'static, Result<Bytes, upstream::Error>>,
}

/// Something that can send a blob from any offset.
pub trait Source: Send + Sync {
    /// Opens the blob at `range.start`, up to `range.end` where that is known; the whole blob for `0..MAX`.
    fn open(
        &self,
        range: Range<u64>,
        validator: Option<Validator>,
    ) -> BoxFuture<'_, Result<Opened, upstream::Error>>;
}

/// A blob of a repository of an upstream registry.
pub struct UpstreamBlob {
    /// The registry.
    pub upstream: Arc<Upstream>,
    /// The repository, as the client named it.
    pub repository: RepoName,
    /// The blob.
    pub digest: Digest,
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
            let opened = self
                .upstream
                .open_blob(&self.repository, &self.digest, range)
                .await?;
            let BlobBody {
                offset,
                total,
                validator,
                is_labelled_text,
                body,
            } = opened;
            Ok(Opened {
                offset,
                length: total,
                validator,
                is_labelled_text,
                body,
            })
        })
    }
}
