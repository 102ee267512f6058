//! Reading from a blob, whether it lies in the store or is still on its way: callers never know which.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::readers::ReaderId;
use super::state::{Fill, Phase};
use super::window::WINDOW_BYTES;
use super::{Engine, Error};
use crate::oci::Digest;
use crate::store::{self, Blob};
use crate::upstream::Scope;

/// The largest explicit range that is answered before the digest is proved: lazy-pulling snapshotters read the end
/// of a blob first, and check its chunks themselves.
pub const UNPROVED_BYTES_MAX: u64 = 4 << 20;

/// A blob to read from.
#[derive(Clone)]
pub enum Content {
    /// Verified and complete.
    Stored(Blob),
    /// On its way.
    Filling(Reader),
}

/// One reader of a running fill. The fill knows how many there are.
pub struct Reader {
    fill: Arc<Fill>,
    engine: Engine,
    id: ReaderId,
    /// The first byte that it will want.
    from: u64,
}

impl Reader {
    pub(super) fn new(fill: Arc<Fill>, engine: Engine, from: u64) -> Self {
        let id = fill.update(|shared| shared.readers.join(from));
        Self {
            fill,
            engine,
            id,
            from,
        }
    }
}

impl Clone for Reader {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.fill), self.engine.clone(), self.from)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.fill.update(|shared| shared.readers.leave(self.id));
        self.fill.attention.notify_one();
    }
}

impl Content {
    /// Waits until a response head may be sent, and says the blob's length in bytes: `None` when upstream does not
    /// tell it and the blob is still streaming. Small blobs are waited for until they are proved.
    ///
    /// # Errors
    /// The fill failed, or did not come far enough within [`super::Limits::head`].
    pub async fn head(&self) -> Result<Option<u64>, Error> {
        match self {
            Self::Stored(blob) => Ok(Some(blob.length)),
            Self::Filling(reader) => {
                let limit = reader.fill.limits.head;
                let mut whole = reader.engine.verify_whole_up_to();
                let ready = reader.fill.wait_for(|shared| match &shared.phase {
                    Phase::Failed(error) => Some(Err(error.clone())),
                    Phase::Proved => Some(Ok(shared.plan.length())),
                    Phase::Running => {
                        if reader.fill.window().is_some() {
                            // More than that is never there at once; its end is withheld as always.
                            whole = whole.min(WINDOW_BYTES / 2);
                        }
                        let length = shared.plan.length();
                        let known_bytes = length.unwrap_or_else(|| shared.plan.present().end_of_run(0));
                        (shared.is_promising() && known_bytes > whole).then_some(Ok(length))
                    }
                });
                tokio::time::timeout(limit, ready)
                    .await
                    .unwrap_or(Err(Error::TimedOut))
            }
        }
    }

    /// The length in bytes as far as it is known now: for a HEAD, which never waits for proof.
    pub fn known_length(&self) -> Option<u64> {
        match self {
            Self::Stored(blob) => Some(blob.length),
            Self::Filling(reader) => {
                let shared = reader.fill.shared();
                let failed = matches!(shared.phase, Phase::Failed(_));
                shared.plan.length().filter(|_| shared.is_promising() && !failed)
            }
        }
    }

    /// Waits until the length in bytes is known, and be it by counting.
    ///
    /// # Errors
    /// The fill failed.
    pub async fn counted_length(&self) -> Result<u64, Error> {
        match self {
            Self::Stored(blob) => Ok(blob.length),
            Self::Filling(reader) => {
                // Whoever only counts needs no byte to be kept.
                let fill = &reader.fill;
                fill.update(|shared| shared.readers.wants(reader.id, u64::MAX, false));
                let counted = fill.wait_for(|shared| match (&shared.phase, shared.plan.length()) {
                    (Phase::Failed(error), _) => Some(Err(error.clone())),
                    (_, length) => length.map(Ok),
                });
                counted.await
            }
        }
    }

    /// On whose behalf the running fill was started; None for what is in the store.
    pub fn scope(&self) -> Option<&Scope> {
        match self {
            Self::Stored(_) => None,
            Self::Filling(reader) => Some(reader.fill.source.scope()),
        }
    }

    /// Whether the source of a running fill has sent anything of it. If not, all of it was there before.
    pub fn is_sent(&self) -> bool {
        match self {
            Self::Stored(_) => false,
            Self::Filling(reader) => reader.fill.shared().is_source_open,
        }
    }

    /// Whether this comes from the store, as opposed to a running fill.
    pub fn is_stored(&self) -> bool {
        matches!(self, Self::Stored(_))
    }

    /// The bytes of `range`; a `range` that ends at [`u64::MAX`] ends with the blob. `unproved` lets a reader have
    /// the withheld end early, and is for explicit ranges of at most [`UNPROVED_BYTES_MAX`].
    ///
    /// The stream ends with an error when the rest will not come: the response must then end short.
    pub fn read(self, range: Range<u64>, unproved: bool) -> BoxStream<'static, Result<Bytes, Error>> {
        let unproved = unproved && range.end - range.start <= UNPROVED_BYTES_MAX;
        stream::try_unfold((self, range), move |(content, mut range)| async move {
            let chunk = content.next_chunk(&range, unproved).await?;
            range.start += chunk.as_ref().map_or(0, |chunk| chunk.len() as u64);
            Ok(chunk.map(|chunk| (chunk, (content, range))))
        })
        .boxed()
    }

    async fn next_chunk(&self, range: &Range<u64>, unproved: bool) -> Result<Option<Bytes>, Error> {
        let (file, wanted) = match self {
            Self::Stored(blob) if blob.lease.is_condemned() => return Err(Error::Condemned),
            Self::Stored(blob) => (&blob.file, range.start..range.end.min(blob.length)),
            Self::Filling(reader) => {
                let readable = reader.wait_for_bytes(range, unproved).await?;
                reader.fill.file_at(readable)
            }
        };
        if wanted.is_empty() {
            return Ok(None);
        }
        let chunk = store::read_chunk(file, wanted.start, wanted.end - wanted.start).await;
        if let Self::Filling(reader) = self
            && !reader.fill.has_from(range.start)
        {
            // What was read may have gone while it was read.
            return Err(Error::LeftBehind);
        }
        if let (Self::Stored(blob), Err(_)) = (self, &chunk) {
            // Shorter than it was, or unreadable: the next one who asks gets another copy.
            blob.lease.condemn();
        }
        chunk.map(Some).map_err(|source| {
            store::Error::Io {
                action: "read",
                path: self.digest_label(),
                source,
            }
            .into()
        })
    }

    fn digest_label(&self) -> String {
        match self {
            Self::Stored(_) => "a stored blob".to_owned(),
            Self::Filling(reader) => format!("the partial of {}", reader.fill.digest),
        }
    }
}

impl Reader {
    /// The blob being filled.
    pub fn digest(&self) -> &Digest {
        &self.fill.digest
    }

    /// Waits for the next readable bytes of `range`; empty at the end of `range` or of the blob.
    async fn wait_for_bytes(&self, range: &Range<u64>, unproved: bool) -> Result<Range<u64>, Error> {
        let fill = &self.fill;
        let mut has_asked = false;
        fill.wait_for(|shared| {
            let end = range.end.min(shared.plan.length().unwrap_or(u64::MAX));
            if range.start < shared.readers.floor() {
                return Some(Err(Error::LeftBehind));
            }
            let readable = shared.readable(&(range.start..end), unproved);
            let is_news = shared.readers.wants(self.id, range.start, readable.is_empty());
            if is_news && fill.window().is_some() {
                fill.wake();
            }
            if !readable.is_empty() || range.start >= end {
                return Some(Ok(readable));
            }
            if let Phase::Failed(error) = &shared.phase {
                return Some(Err(error.clone()));
            }
            if !has_asked && shared.plan.length().is_some() {
                has_asked = true;
                if shared.plan.want(range.start) {
                    fill.attention.notify_one();
                }
            }
            None
        })
        .await
    }
}
