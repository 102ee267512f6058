//! When an object was last used, kept where it dies with the object: in its file's access time. Nothing is written for a
//! read; what was used since the last time is recorded in one go, so a crash forgets some minutes of uses and no more.

use std::time::SystemTime;

use rustix::fs::{AtFlags, CWD, Timespec, Timestamps, UTIME_OMIT, utimensat};

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
            let times = Timestamps {
                last_access: timespec(last_used),
                last_modification: Timespec {
                    tv_sec: 0,
                    tv_nsec: UTIME_OMIT,
                },
            };
            let path = self.shared.layout.blob(&digest);
            if let Err(error) = utimensat(CWD, &path, &times, AtFlags::empty()) {
                tracing::debug!(%digest, %error, "when it was last used is not recorded");
            }
        }
    }
}

fn timespec(time: SystemTime) -> Timespec {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timespec {
        tv_sec: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: since.subsec_nanos().into(),
    }
}
