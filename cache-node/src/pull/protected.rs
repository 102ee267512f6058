//! What the store shall keep although nobody has asked for it lately: only here is known what names mean.

use std::collections::HashSet;
use std::sync::Arc;

use super::Cache;
use crate::oci::Digest;
use crate::store::Protected;
use crate::tags::{self, Freshness};
use crate::upstream::Repository;

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
        let has_pins = config.registries.iter().any(|registry| !registry.pins.is_empty());
        let is_pinned = |repository: &Repository| {
            let registry = config.registry(&repository.registry);
            registry.is_some_and(|registry| registry.pins.is_match(repository.name.as_str()))
        };
        Protected {
            roots: fresh.map(|(_, entry)| entry.digest).collect(),
            pinned: if has_pins {
                self.inner.rights.content_of(is_pinned)
            } else {
                HashSet::new()
            },
        }
    }

    /// Takes note of what a stored manifest names.
    pub async fn learn_manifest(&self, digest: &Digest) {
        let (store, digest) = (Arc::clone(&self.inner.store), *digest);
        let read = tokio::task::spawn_blocking(move || store.peek_manifest(&digest));
        if let Ok(Some(manifest)) = read.await {
            self.inner.descriptors.learn(&manifest);
        }
    }
}
