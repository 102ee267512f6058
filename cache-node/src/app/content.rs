//! What lies in the cache directory, opened and closed together.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Error;
use crate::config::CacheLimits;
use crate::rights::Rights;
use crate::store::{self, Store};
use crate::tags::Ledger;

/// How long another process may take to let go of the cache directory: its pulls may end first.
const LOCK_PATIENCE: Duration = Duration::from_secs(10);
const LOCK_RETRY: Duration = Duration::from_millis(100);

/// The content and its ledgers.
#[derive(Clone)]
pub(super) struct Content {
    pub(super) store: Arc<Store>,
    pub(super) ledger: Arc<Ledger>,
    pub(super) rights: Arc<Rights>,
}

impl Content {
    pub(super) async fn open(
        directory: PathBuf,
        limits: CacheLimits,
        proof_ttl: Duration,
    ) -> Result<Self, Error> {
        let how = store::Options {
            limits,
            ..store::Options::default()
        };
        let store = open_store(directory, how).await?;
        let opened = tokio::task::spawn_blocking(move || {
            let ledger = Arc::new(Ledger::open(store.layout())?);
            let rights = Arc::new(Rights::open(Arc::clone(&store), proof_ttl)?);
            Ok::<_, store::Error>(Self {
                store,
                ledger,
                rights,
            })
        });
        Ok(opened.await??)
    }

    /// Writes down what was only in memory.
    pub(super) async fn close(self) {
        let _ = tokio::task::spawn_blocking(move || {
            self.rights.flush();
            self.store.record_uses();
        })
        .await;
    }
}

/// Opens the store, waiting for another process that may just be ending.
async fn open_store(directory: PathBuf, how: store::Options) -> Result<Arc<Store>, Error> {
    let until = Instant::now() + LOCK_PATIENCE;
    loop {
        let (directory, how) = (directory.clone(), how.clone());
        let opened = tokio::task::spawn_blocking(move || Store::open_with(&directory, how)).await?;
        match opened {
            Err(store::Error::Locked { .. }) if Instant::now() < until => {
                tokio::time::sleep(LOCK_RETRY).await;
            }
            opened => return Ok(Arc::new(opened?)),
        }
    }
}
