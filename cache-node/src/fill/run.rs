//! The task of a fill: it starts segments, follows the proof, syncs, and decides when to stop.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::state::{Fill, Phase};
use super::{Error, proof, segment};
use crate::oci::Digest;
use crate::store::Partial;

/// Dirty data is brought to the disk in steps of this size, so that a fill never makes the node's other writers
/// wait behind a mountain of it.
const SYNC_STEP_BYTES: u64 = 32 << 20;
/// A fill up to this length goes on without readers.
const UNREAD_LENGTH_BYTES_MAX: u64 = 1 << 30;
/// A longer fill goes on without readers when no more than this part of it is missing.
const NEARLY_DONE_DIVISOR: u64 = 10;

/// How a fill ended.
#[derive(Debug)]
pub(super) enum Ending {
    Proved,
    Mismatch(Digest),
    Failed(Error),
    /// Nobody reads from it any more, or the process ends: what is there can be continued.
    Paused,
}

/// Runs a fill to its end. Does not touch the store but for the partial.
pub(super) async fn run(fill: &Arc<Fill>, shutdown: &CancellationToken) -> Ending {
    let mut segments = JoinSet::new();
    let hash = proof::hash_as_it_arrives(fill);
    let sync = keep_synced(fill);
    let unread = until_unread(fill);
    tokio::pin!(hash, sync, unread);
    fill.update(|shared| shared.plan.fill_gap());
    loop {
        for id in fill.update(|shared| shared.plan.start_segments()) {
            segments.spawn(segment::run(Arc::clone(fill), id));
        }
        tokio::select! {
            digest = &mut hash => return match digest {
                Ok(digest) if digest == fill.digest => Ending::Proved,
                Ok(digest) => Ending::Mismatch(digest),
                Err(error) => Ending::Failed(error),
            },
            Some(ended) = segments.join_next() => {
                let ended = ended.unwrap_or_else(|_| Err(Error::Stalled("the segment's task was lost")));
                if let Err(error) = ended {
                    return Ending::Failed(error);
                }
                fill.update(|shared| shared.plan.is_idle() && shared.plan.fill_gap());
            }
            error = &mut sync => return Ending::Failed(error),
            () = fill.attention.notified() => {}
            () = &mut unread => return Ending::Paused,
            () = shutdown.cancelled() => return Ending::Paused,
        }
    }
}

/// Syncs in steps for as long as the fill runs; returns only when the disk fails.
async fn keep_synced(fill: &Arc<Fill>) -> Error {
    loop {
        fill.wait_for(|shared| (shared.unsynced >= SYNC_STEP_BYTES).then_some(()))
            .await;
        // An update, because segments that are too far ahead of the disk wait for it.
        let present = fill.update(|shared| {
            shared.unsynced -= SYNC_STEP_BYTES;
            shared.plan.present().clone()
        });
        let partial_of = Arc::clone(fill);
        let sync = move || {
            partial_of
                .partial()
                .map_or(Ok(()), |partial| partial.sync(&present))
        };
        let synced = tokio::task::spawn_blocking(sync).await;
        if let Ok(Err(error)) = synced {
            // What the kernel could not write it may forget: nothing of this file is to be read again.
            fill.store.note_failure(&error, 0);
            return error.into();
        }
    }
}

/// Returns when nobody has read from the fill for as long as its size allows.
async fn until_unread(fill: &Fill) {
    loop {
        let patience = fill
            .wait_for(|shared| {
                let missing = shared
                    .plan
                    .length()
                    .map(|length| (length, length - shared.plan.present().total()));
                (shared.readers.count() == 0).then(|| {
                    // In memory nothing is kept, so it is done for the readers alone.
                    let is_kept = fill.window().is_none();
                    patience(missing, &fill.limits).min(if is_kept {
                        Duration::MAX
                    } else {
                        fill.limits.unread_large
                    })
                })
            })
            .await;
        let read_again = fill.wait_for(|shared| (shared.readers.count() > 0).then_some(()));
        if tokio::time::timeout(patience, read_again).await.is_err() {
            return;
        }
    }
}

/// How long a fill of which (length, missing bytes) are known goes on without readers.
fn patience(missing: Option<(u64, u64)>, limits: &super::Limits) -> Duration {
    match missing {
        Some((length, missing))
            if length > UNREAD_LENGTH_BYTES_MAX && missing > length / NEARLY_DONE_DIVISOR =>
        {
            limits.unread_large
        }
        _ => limits.unread,
    }
}

/// Brings the ended fill's outcome to the disk and then to its readers. Blocks on the disk only where no reader
/// waits for it.
pub(super) async fn settle(fill: &Arc<Fill>, ending: Ending) {
    match ending {
        Ending::Proved => {
            fill.update(|shared| shared.phase = Phase::Proved);
            let fill = Arc::clone(fill);
            blocking(move || {
                fill.source.proved();
                keep(&fill);
            })
            .await;
        }
        Ending::Mismatch(found) => {
            tracing::error!(digest = %fill.digest, %found, registry = %fill.registry,
                "upstream sent content of another digest; nothing of it is kept. Nodes whose pull broke off may \
                 need `ctr content` cleaned of this digest");
            discard(fill).await;
            fill.update(|shared| shared.phase = Phase::Failed(Error::Mismatch(fill.digest)));
        }
        Ending::Failed(error) => {
            let is_worthless = match &error {
                Error::Fault(_) => true,
                Error::Store(error) => error.is_disk_trouble(),
                _ => fill.shared().plan.present().total() == 0,
            };
            if is_worthless {
                discard(fill).await;
            } else {
                set_aside(fill).await;
            }
            fill.update(|shared| shared.phase = Phase::Failed(error));
        }
        Ending::Paused => {
            set_aside(fill).await;
            fill.update(|shared| shared.phase = Phase::Failed(Error::Paused));
        }
    }
}

fn keep(fill: &Fill) {
    let Some(partial) = fill.partial() else {
        return;
    };
    let error = match fill.store.commit(partial) {
        Ok(lease) => {
            // Those who read from the fill keep the blob from being evicted, as those do who opened it.
            let _ = fill.lease.set(lease);
            return;
        }
        Err(error) => error,
    };
    if fill.store.note_failure(&error, 0) {
        throw_away(fill);
    } else {
        tracing::error!(digest = %fill.digest, error = &error as &dyn std::error::Error,
            "a verified blob could not be kept");
    }
}

async fn discard(fill: &Arc<Fill>) {
    let fill = Arc::clone(fill);
    blocking(move || throw_away(&fill)).await;
}

fn throw_away(fill: &Fill) {
    if let Some(Err(error)) = fill.partial().map(Partial::discard) {
        tracing::error!(digest = %fill.digest, error = &error as &dyn std::error::Error, "cannot discard");
    }
}

async fn set_aside(fill: &Arc<Fill>) {
    let fill = Arc::clone(fill);
    blocking(move || {
        if let Some(Err(error)) = fill.partial().map(Partial::set_aside) {
            tracing::warn!(digest = %fill.digest, error = &error as &dyn std::error::Error,
                "what came since the last record will be fetched again");
        }
    })
    .await;
}

async fn blocking(work: impl FnOnce() + Send + 'static) {
    if let Err(error) = tokio::task::spawn_blocking(work).await {
        tracing::error!(%error, "a disk task was lost");
    }
}

#[cfg(test)]
mod tests {
    use futures_util::future::BoxFuture;

    use super::*;
    use crate::fill::segment::UNSYNCED_BYTES_MAX;
    use crate::fill::state::Place;
    use crate::fill::{Expectation, Limits, Opened, Source};
    use crate::oci::DigestHasher;
    use crate::store::Store;
    use crate::upstream::{self, Scope, Validator};

    struct Nowhere;

    impl Source for Nowhere {
        fn open(
            &self,
            _: std::ops::Range<u64>,
            _: Option<Validator>,
        ) -> BoxFuture<'_, Result<Opened, upstream::Error>> {
            Box::pin(std::future::pending())
        }

        fn scope(&self) -> &Scope {
            unreachable!("nobody asks whose it is")
        }

        fn proved(&self) {}
    }

    #[tokio::test]
    async fn a_segment_that_waits_for_the_disk_is_woken() {
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(Store::open(dir.path()).unwrap());
        let digest = DigestHasher::new(crate::oci::Algorithm::Sha256).finish();
        let partial = store.partial(&digest, None).unwrap();
        let fill = Fill::new(
            store,
            digest,
            Place::Disk(Box::new(partial)),
            "up.test".into(),
            Arc::new(Nowhere),
            Expectation::default(),
            Arc::default(),
        );
        let fill = Arc::new(fill);
        fill.shared().unsynced = UNSYNCED_BYTES_MAX;
        // The segment waits first, and nothing else happens to the fill.
        let segment = fill.wait_for(|shared| (shared.unsynced < UNSYNCED_BYTES_MAX).then_some(()));
        let woken = async {
            tokio::select! {
                biased;
                () = segment => {}
                error = keep_synced(&fill) => panic!("{error}"),
            }
        };
        tokio::time::timeout(Duration::from_secs(20), woken)
            .await
            .unwrap();
    }

    #[test]
    fn only_a_large_fill_far_from_done_is_put_aside_soon() {
        let limits = Limits::default();
        let large = UNREAD_LENGTH_BYTES_MAX + 10;
        assert_eq!(patience(None, &limits), limits.unread);
        assert_eq!(patience(Some((large - 10, large - 10)), &limits), limits.unread);
        assert_eq!(patience(Some((large, large / 10)), &limits), limits.unread);
        assert_eq!(patience(Some((large, large / 2)), &limits), limits.unread_large);
    }
}
