//! Proving stored content anew, little by little: what rots on the disk is found before somebody asks for it, most of the time.
//!
//! One round goes through all digests in their order. It reads past the page cache, and whoever drives it says how fast.

use std::fs;
use std::io;
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use rustix::fs::{Advice, fadvise};

use super::{Blob, Finding, Store};
use crate::oci::{Digest, DigestHasher};

/// What is hashed between two looks at the pace.
const STEP_BYTES: usize = 1 << 20;

/// What hashing an object anew has shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is what was proved; so many bytes were hashed.
    Sound(u64),
    /// It is not, and was set aside.
    Condemned(Finding),
    /// It is not listed, or hashing it was broken off.
    Unknown,
}

/// What a round of the scrub has still to see. What comes meanwhile is seen by the next one.
#[derive(Debug, Default)]
pub struct Round {
    left: Vec<Digest>,
    seen: u64,
}

impl Round {
    fn percent(&self) -> u64 {
        self.seen * 100 / (self.seen + self.left.len() as u64).max(1)
    }
}

impl Store {
    /// Hashes an object anew, and condemns it if it is not what was proved. `pace` is called with the bytes of each step and may
    /// wait; when it is false, hashing is broken off. Blocks.
    pub fn verify(&self, digest: &Digest, mut pace: impl FnMut(u64) -> bool) -> Verdict {
        let Some(blob) = self.open_listed(digest, false) else {
            return Verdict::Unknown;
        };
        let mut hasher = DigestHasher::new(digest.algorithm());
        let mut buffer = vec![0; STEP_BYTES];
        let mut offset = 0;
        while offset < blob.length {
            let left = usize::try_from(blob.length - offset).unwrap_or(usize::MAX);
            let step = &mut buffer[..left.min(STEP_BYTES)];
            if let Err(error) = read_from_disk(&blob, step, offset) {
                tracing::error!(%digest, %error, "stored content cannot be read");
                return self.report(digest, &blob, Finding::Unreadable);
            }
            hasher.update(step);
            offset += step.len() as u64;
            if !pace(step.len() as u64) {
                return Verdict::Unknown;
            }
        }
        if hasher.finish() == *digest {
            Verdict::Sound(blob.length)
        } else {
            self.report(digest, &blob, Finding::Mismatch)
        }
    }

    fn report(&self, digest: &Digest, blob: &Blob, finding: Finding) -> Verdict {
        self.condemn(digest, &blob.lease, finding);
        Verdict::Condemned(finding)
    }

    /// Begins a round of the scrub, behind where the last process was if it was in the middle of one. Blocks.
    pub fn begin_scrub(&self) -> Round {
        let position = fs::read_to_string(self.shared.layout.scrub_position()).ok();
        let from: Option<Digest> = position.and_then(|text| text.trim().parse().ok());
        let mut all: Vec<_> = self.shared.index().iter().map(|(digest, _)| *digest).collect();
        // The next one is the last.
        all.sort_unstable_by(|one, other| other.cmp(one));
        let left = all.partition_point(|digest| from.is_none_or(|from| *digest >= from));
        let seen = (all.len() - left) as u64;
        all.truncate(left);
        Round { left: all, seen }
    }

    /// Hashes the next object of the round; `None` when the round is over. Blocks.
    pub fn scrub_next(&self, round: &mut Round, mut pace: impl FnMut(u64) -> bool) -> Option<Verdict> {
        let digest = round.left.pop()?;
        round.seen += 1;
        let percent = round.percent();
        Some(self.verify(&digest, |bytes| {
            self.shared.tallies.scrubbed(bytes, percent);
            pace(bytes)
        }))
    }

    /// Notes how far the round is, so that the next process goes on there. Lost, it costs a part of a round. Blocks.
    ///
    /// # Errors
    /// The note cannot be written.
    pub fn note_scrub(&self, round: &Round) -> io::Result<()> {
        let (path, disk) = (self.shared.layout.scrub_position(), self.shared.layout.disk());
        match round.left.last() {
            Some(next) => disk.overwrite(&path, format!("{next}\n").as_bytes()),
            None => disk.remove(&path),
        }
    }
}

/// Reads what the disk has, and not what the kernel remembers of it; unless somebody reads it too, who would have to wait.
fn read_from_disk(blob: &Blob, step: &mut [u8], offset: u64) -> io::Result<()> {
    /// The index has one, and we have one.
    const LEASES_WITHOUT_READERS: usize = 2;
    let length = NonZeroU64::new(step.len() as u64);
    let forget = || {
        if Arc::strong_count(&blob.lease) <= LEASES_WITHOUT_READERS {
            let _ = fadvise(&*blob.file, offset, length, Advice::DontNeed);
        }
    };
    forget();
    blob.file.read_exact_at(step, offset)?;
    forget();
    Ok(())
}
