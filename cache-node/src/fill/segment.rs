//! One segment's way through the blob: open the source, write what comes, open it again after a cut.

use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::{BoxStream, StreamExt as _};
use tokio::time::{Instant, timeout};

use super::inspect::{INSPECTED_BYTES, judge_start};
use super::plan::SegmentId;
use super::source::Opened;
use super::state::Fill;
use super::{Error, Fault};
use crate::upstream::Kind;
use crate::{store, upstream};

/// How many bytes are written at once at the most.
const WRITE_BYTES: usize = 256 << 10;
/// How far the disk may be behind before the network has to wait for it.
pub(super) const UNSYNCED_BYTES_MAX: u64 = 64 << 20;

/// How an attempt ended that did not bring the segment to its end.
enum Cut {
    /// Worth another attempt.
    Again(Error),
    /// Final for the whole fill.
    Final(Error),
    /// Upstream does not honour ranges, and another segment comes this way.
    Leave,
}

/// Brings segment `id` to its end.
///
/// # Errors
/// The fill cannot be completed from its source.
pub(super) async fn run(fill: Arc<Fill>, id: SegmentId) -> Result<(), Error> {
    let mut failures = 0;
    loop {
        let Some((start, end)) = fill.shared().plan.rest_of(id) else {
            break;
        };
        let cut = attempt(&fill, id, start, end).await;
        let progress = fill.shared().plan.rest_of(id).is_none_or(|(now, _)| now > start);
        failures = if progress { 0 } else { failures + 1 };
        match cut {
            Ok(()) => {}
            Err(Cut::Leave) => break,
            Err(Cut::Final(error)) => return Err(error),
            Err(Cut::Again(error)) => {
                let has_sent = fill.shared().plan.present().total() > 0;
                // A contradiction is no broken transfer: patience does not mend it, a new start may.
                let most = if has_sent && !matches!(error, Error::Fault(_)) {
                    fill.limits.resumes
                } else {
                    fill.limits.first_attempts
                };
                if failures >= most {
                    return Err(error);
                }
                tracing::info!(digest = %fill.digest, registry = %fill.registry, start, failures,
                    error = &error as &dyn std::error::Error, "transfer broke; resuming");
                let pause = fill.limits.backoff * 2u32.saturating_pow(failures);
                let jitter = 0.5 + fastrand::f64();
                tokio::time::sleep(pause.mul_f64(jitter).min(fill.limits.backoff_max)).await;
            }
        }
    }
    fill.update(|shared| shared.plan.remove(id));
    Ok(())
}

async fn attempt(fill: &Arc<Fill>, id: SegmentId, start: u64, end: Option<u64>) -> Result<(), Cut> {
    let (allows_ranges, validator) = {
        let shared = fill.shared();
        (shared.plan.allows_ranges(), shared.validator.clone())
    };
    let range = if allows_ranges {
        start..end.unwrap_or(u64::MAX)
    } else {
        0..u64::MAX
    };
    let opened = fill
        .source
        .open(range, validator)
        .await
        .map_err(|error| refused(fill, start, error))?;
    let Opened {
        offset,
        length,
        validator,
        is_labelled_text,
        mut body,
    } = opened;
    if let Some(length) = length.or(fill.expectation.length) {
        fill.learn_length(length).map_err(Cut::Again)?;
    }
    fill.update(|shared| {
        shared.is_source_open = true;
        shared.validator = validator.or_else(|| shared.validator.take());
    });
    let mut leftover = None;
    if offset < start {
        let is_alone = {
            let mut shared = fill.shared();
            shared.plan.forbid_ranges();
            shared.plan.present().end_of_run(0) >= start
        };
        if !is_alone {
            return Err(Cut::Leave);
        }
        leftover = skip(fill, &mut body, offset..start).await?;
    }
    copy(fill, id, body, leftover, is_labelled_text).await
}

/// What an answer without a body means for the fill.
fn refused(fill: &Fill, start: u64, error: upstream::Error) -> Cut {
    if start > 0 && is_about_ranges(&error) {
        fill.shared().plan.forbid_ranges();
        return Cut::Again(error.into());
    }
    // Before the first answer a client's own retries are as good as ours, and the upstream client has tried already.
    let is_passing = error.retryable() || matches!(error.kind(), Kind::RateLimited { .. });
    if is_passing && fill.shared().is_source_open {
        Cut::Again(error.into())
    } else {
        Cut::Final(error.into())
    }
}

/// Whether asking without a range may help.
fn is_about_ranges(error: &upstream::Error) -> bool {
    matches!(error.kind(), Kind::RangeNotSatisfiable { .. } | Kind::Protocol)
}

/// Reads over what is there already, and makes sure that it is what is there.
async fn skip(
    fill: &Arc<Fill>,
    body: &mut BoxStream<'static, Result<Bytes, upstream::Error>>,
    mut range: Range<u64>,
) -> Result<Option<Bytes>, Cut> {
    while !range.is_empty() {
        let mut chunk = next(fill, body).await?.ok_or_else(short)?;
        let rest = usize::try_from(range.end - range.start).unwrap_or(usize::MAX);
        let behind = chunk.split_off(rest.min(chunk.len()));
        // In memory the bytes may be gone; the digest is over those that were passed on.
        let is_compared = fill.window().is_none();
        let mut offset = range.start;
        let mut expected = if is_compared { &chunk[..] } else { &[] };
        while !expected.is_empty() {
            let found =
                store::read_chunk(fill.file_at(offset..offset + 1).0, offset, expected.len() as u64).await;
            let found = found.map_err(|source| {
                let path = format!("the partial of {}", fill.digest);
                Cut::Final(
                    store::Error::Io {
                        action: "read",
                        path,
                        source,
                    }
                    .into(),
                )
            })?;
            if found != expected[..found.len()] {
                return Err(Cut::Final(Error::Fault(Fault::Discontinuity)));
            }
            offset += found.len() as u64;
            expected = &expected[found.len()..];
        }
        range.start += chunk.len() as u64;
        if !behind.is_empty() {
            return Ok(Some(behind));
        }
    }
    Ok(None)
}

/// Writes the body until the segment's end, which may come nearer meanwhile.
async fn copy(
    fill: &Arc<Fill>,
    id: SegmentId,
    mut body: BoxStream<'static, Result<Bytes, upstream::Error>>,
    leftover: Option<Bytes>,
    is_labelled_text: bool,
) -> Result<(), Cut> {
    let mut batch = Batch {
        size: leftover.as_ref().map_or(0, Bytes::len),
        chunks: leftover.into_iter().collect(),
    };
    let mut pace = Pace::new(fill.limits.rate_window, fill.limits.rate_bytes_min);
    loop {
        let received = collect(fill, &mut body, &mut batch).await;
        let is_end = matches!(received, Ok(false));
        pace.saw(batch.size as u64);
        if !batch.chunks.is_empty() {
            accept_start(fill, &batch, is_labelled_text)?;
            match write(fill, id, std::mem::take(&mut batch)).await? {
                Written::Last => return Ok(()),
                Written::More => {}
                // The time that readers took is not the source's.
                Written::Late => pace = Pace::new(fill.limits.rate_window, fill.limits.rate_bytes_min),
            }
        }
        received?;
        if is_end {
            return end_of_body(fill, id);
        }
        if pace.is_too_slow() {
            return Err(Cut::Again(Error::Stalled("slower than the minimum rate")));
        }
    }
}

#[derive(Default)]
struct Batch {
    chunks: Vec<Bytes>,
    size: usize,
}

/// Collects what is there without waiting, but at least one chunk, and at the blob's start enough to judge it.
/// False at the body's clean end.
async fn collect(
    fill: &Fill,
    body: &mut BoxStream<'static, Result<Bytes, upstream::Error>>,
    batch: &mut Batch,
) -> Result<bool, Cut> {
    let at_least = if fill.shared().is_start_accepted {
        1
    } else {
        INSPECTED_BYTES
    };
    while batch.size < WRITE_BYTES {
        let chunk = if batch.size < at_least {
            next(fill, body).await?
        } else {
            match futures_util::FutureExt::now_or_never(body.next()) {
                None => return Ok(true),
                Some(chunk) => chunk.transpose().map_err(|error| Cut::Again(error.into()))?,
            }
        };
        let Some(chunk) = chunk else {
            return Ok(false);
        };
        batch.size += chunk.len();
        batch.chunks.push(chunk);
    }
    Ok(true)
}

async fn next(
    fill: &Fill,
    body: &mut BoxStream<'static, Result<Bytes, upstream::Error>>,
) -> Result<Option<Bytes>, Cut> {
    match timeout(fill.limits.idle, body.next()).await {
        Ok(chunk) => chunk.transpose().map_err(|error| Cut::Again(error.into())),
        Err(_) => Err(Cut::Again(Error::Stalled("no byte within the idle timeout"))),
    }
}

fn accept_start(fill: &Fill, batch: &Batch, is_labelled_text: bool) -> Result<(), Cut> {
    if fill.shared().is_start_accepted {
        return Ok(());
    }
    let start: Vec<u8> = batch
        .chunks
        .iter()
        .flatten()
        .copied()
        .take(INSPECTED_BYTES)
        .collect();
    judge_start(&start, fill.expectation.is_layer, is_labelled_text)
        .map_err(|fault| Cut::Again(Error::Fault(fault)))?;
    fill.shared().is_start_accepted = true;
    Ok(())
}

/// How a batch was written.
enum Written {
    /// It was the segment's last.
    Last,
    More,
    /// More is to come, but readers held this up.
    Late,
}

/// Writes a batch where segment `id` stands: to disk, or in memory if that does not take it.
async fn write(fill: &Arc<Fill>, id: SegmentId, batch: Batch) -> Result<Written, Cut> {
    if fill.window().is_none() {
        fill.wait_for(|shared| (shared.unsynced < UNSYNCED_BYTES_MAX).then_some(()))
            .await;
    }
    let range = fill.shared().plan.claim(id, batch.size as u64);
    let mut chunks = batch.chunks;
    clip(&mut chunks, range.end - range.start);
    let (chunks, target) = (Arc::new(chunks), range.clone());
    let (writer, written) = (Arc::clone(fill), Arc::clone(&chunks));
    let on_disk = tokio::task::spawn_blocking(move || {
        let partial = writer.partial()?;
        Some(partial.write(target.start, &written))
    });
    let on_disk = on_disk.await.unwrap_or_else(|error| {
        let source = std::io::Error::other(error);
        Some(Err(write_error(source)))
    });
    let is_late = match on_disk {
        Some(Ok(())) => None,
        Some(Err(error)) if !fill.give_up_disk(&error) => return Err(Cut::Final(error.into())),
        Some(Err(_)) | None => Some(write_to_memory(fill, &range, &chunks).await?),
    };
    let is_done = fill.update(|shared| {
        let count = range.end - range.start;
        if is_late.is_none() {
            shared.unsynced += count;
            shared.on_disk.insert(range.clone());
        }
        shared.received += count;
        shared.plan.written(id, range);
        shared.plan.rest_of(id).is_none()
    });
    Ok(match is_late {
        _ if is_done => Written::Last,
        Some(true) => Written::Late,
        _ => Written::More,
    })
}

/// True if readers held it up. In memory bytes come in their order, so only the segment at the front goes on.
async fn write_to_memory(fill: &Fill, range: &Range<u64>, chunks: &[Bytes]) -> Result<bool, Cut> {
    let Some(window) = fill
        .window()
        .filter(|_| fill.shared().plan.front() == range.start)
    else {
        return Err(Cut::Leave);
    };
    let had_room = fill.make_room(window, range.end - range.start).await;
    let written = window.write(range.start, chunks);
    written.map_err(|source| Cut::Final(write_error(source).into()))?;
    Ok(!had_room)
}

fn write_error(source: std::io::Error) -> store::Error {
    store::Error::Io {
        action: "write",
        path: "a partial".to_owned(),
        source,
    }
}

fn clip(chunks: &mut Vec<Bytes>, mut length: u64) {
    chunks.retain_mut(|chunk| {
        let kept = usize::try_from(length).unwrap_or(usize::MAX).min(chunk.len());
        chunk.truncate(kept);
        length -= kept as u64;
        kept > 0
    });
}

/// The body has ended without an error: that is the blob's end if nobody knew it, else it came short.
fn end_of_body(fill: &Fill, id: SegmentId) -> Result<(), Cut> {
    let rest = fill.shared().plan.rest_of(id);
    match rest {
        None => Ok(()),
        Some((next, None)) => {
            fill.learn_length(next).map_err(Cut::Final)?;
            fill.shared().is_start_accepted = true;
            Ok(())
        }
        // An empty blob has nothing to write and nothing to judge.
        Some(_) => Err(short()),
    }
}

fn short() -> Cut {
    Cut::Again(Error::Stalled("the body ended before the blob did"))
}

/// Whether bytes come at the least rate that is worth waiting for.
struct Pace {
    window: Duration,
    least_bytes: u64,
    since: Instant,
    seen: u64,
}

impl Pace {
    fn new(window: Duration, rate_bytes_min: u64) -> Self {
        let least_bytes = rate_bytes_min.saturating_mul(window.as_secs().max(1));
        Self {
            window,
            least_bytes,
            since: Instant::now(),
            seen: 0,
        }
    }

    fn saw(&mut self, bytes: u64) {
        self.seen += bytes;
    }

    fn is_too_slow(&mut self) -> bool {
        if Instant::now() - self.since < self.window {
            return false;
        }
        let is_too_slow = self.seen < self.least_bytes;
        self.since = Instant::now();
        self.seen = 0;
        is_too_slow
    }
}
