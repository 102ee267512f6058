//! Where a fill's bytes come from. Upstream today; another node's running fill tomorrow, and no reader will know.

use std::ops::Range;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;

use crate::upstream::{self, Scope, Validator};

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

    /// On whose behalf it is asked: an answer of this source is a proof for nobody else.
    fn scope(&self) -> &Scope;

    /// What it sent has its digest. Called once, before the content is in the store. Blocks.
    fn proved(&self);
}
