//! What the store shall keep although nobody has asked for it lately: only here is known what names mean.

use std::collections::HashSet;

use super::Cache;
use crate::oci::Digest;
use crate::store::Protected;
use crate::tags::{self, Freshness};

impl Cache {
    /// What fresh names mean and pins keep, as of now.
    pub fn protected(&self) -> Protected {
        let config = self.inner.targets.config();
        let now = tags::now_ms();
        let fresh = self.inner.ledger.entries().into_iter().filter(|(key, entry)| {
            config.registry(&key.registry).is_some_and(|registry| {
                let policy = &registry.tags;
                // A tag that never moves may still be one that nobody wants any more.
                let freshness = tags::judge(
                    entry.checked_at,
                    entry.jitter_percent,
                    now,
                    policy.ttl,
                    policy.serve_stale_for,
                    false,
                );
                freshness == Freshness::Fresh
            })
        });
        Protected {
            roots: fresh.map(|(_, entry)| entry.digest).collect(),
            pinned: HashSet::new(),
        }
    }

    /// Takes note of what a stored manifest names.
    pub async fn learn_manifest(&self, digest: &Digest) {
        let _ = self.stored_manifest(digest).await;
    }
}
