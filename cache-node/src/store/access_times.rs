//! When an object was last used, kept where it dies with the object: in its file's access time. Nothing is written for a
//! read; what was used since the last time is recorded in one go, so a crash forgets some minutes of uses and no more.

use std::time::SystemTime;

use super::Store;
use crate::oci::Digest;

impl Store {
    /// Records what was used since the last call. Blocks.
    pub fn record_uses(&self) {
        let uses: Vec<(Digest, SystemTime)> = {
            let mut index = self.shared.index();
            let unrecorded = index.iter_mut().filter(|(_, entry)| entry.is_use_unrecorded);
            unrecorded
                .map(|(digest, entry)| {
                    entry.is_use_unrecorded = false;
                    (*digest, entry.last_used)
                })
                .collect()
        };
        for (digest, last_used) in uses {
            let layout = &self.shared.layout;
            if let Err(error) = layout.disk().set_accessed(&layout.blob(&digest), last_used) {
                tracing::debug!(%digest, %error, "when it was last used is not recorded");
            }
        }
    }
}
