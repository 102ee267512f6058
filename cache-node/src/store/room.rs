//! How much the store may hold: the configured capacity, and less when others fill the disk. Pure, but for the one question
//! to the file system.

use std::io;
use std::path::Path;

use crate::config::CacheLimits;

/// Objects in memory cost some hundred bytes each, whatever their size.
pub(super) const OBJECTS_MAX: usize = 500_000;
/// More than the layers of most images have together.
const HEADROOM_BYTES_MAX: u64 = 1 << 30;
/// A small store gives up this share of it at the most for being ready.
const HEADROOM_DIVISOR: u64 = 16;
/// The files of a running fill and those of a manifest.
const INODES_PER_OBJECT: u64 = 3;

/// What a file system says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Space {
    /// Its size in bytes.
    pub total_bytes: u64,
    /// What an ordinary user may still write, in bytes.
    pub available_bytes: u64,
    /// How many files it can have; 0 if it has no limit of its own.
    pub total_inodes: u64,
    /// How many more files an ordinary user may make.
    pub available_inodes: u64,
    /// What the smallest file takes, in bytes.
    pub block_bytes: u64,
}

impl Space {
    /// Asks the file system that `path` lies on.
    ///
    /// # Errors
    /// It does not answer.
    pub fn of(path: &Path) -> io::Result<Self> {
        let found = rustix::fs::statvfs(path)?;
        Ok(Self {
            total_bytes: found.f_blocks.saturating_mul(found.f_frsize),
            available_bytes: found.f_bavail.saturating_mul(found.f_frsize),
            total_inodes: found.f_files,
            available_inodes: found.f_favail,
            block_bytes: found.f_frsize.max(1),
        })
    }

    /// The room that a file of `length` bytes takes.
    pub(super) fn stored_bytes(&self, length: u64) -> u64 {
        length
            .div_ceil(self.block_bytes.max(1))
            .saturating_mul(self.block_bytes)
    }
}

/// The configured limits on a file system of a known size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Budget {
    /// The most that the store may hold, in bytes.
    pub capacity_bytes: u64,
    /// What must stay free on the file system, in bytes.
    pub min_free_bytes: u64,
    /// How many more files it must stay possible to make.
    pub min_free_inodes: u64,
    /// The most that pins may keep, in bytes.
    pub pinned_bytes_max: u64,
}

/// What is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Shortage {
    pub(super) bytes: u64,
    pub(super) objects: u64,
}

impl Shortage {
    pub(super) fn is_none(self) -> bool {
        self == Self::default()
    }
}

/// What takes room now.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Usage {
    /// Everything that counts against the capacity, in bytes.
    pub(super) used_bytes: u64,
    /// What of that the disk still counts as free.
    pub(super) unallocated_bytes: u64,
    pub(super) objects: usize,
}

impl Budget {
    /// What `limits` amount to on this file system.
    pub fn of(limits: &CacheLimits, space: &Space) -> Self {
        let capacity_bytes = limits.capacity_bytes(space.total_bytes);
        let min_free_bytes = limits.min_free.of(space.total_bytes);
        Self {
            capacity_bytes,
            min_free_bytes,
            min_free_inodes: same_share(min_free_bytes, space.total_bytes, space.total_inodes),
            pinned_bytes_max: limits.pinned_max.of(capacity_bytes),
        }
    }

    /// What is missing for `wanted` bytes more in a new file; with `None`, for what is there already.
    pub(super) fn shortage(&self, space: &Space, usage: Usage, wanted: Option<u64>) -> Shortage {
        let bytes = wanted.unwrap_or_default();
        let over_capacity = usage
            .used_bytes
            .saturating_add(bytes)
            .saturating_sub(self.capacity_bytes);
        let too_little_free = self
            .min_free_bytes
            .saturating_add(usage.unallocated_bytes)
            .saturating_add(bytes)
            .saturating_sub(space.available_bytes);
        let files = if wanted.is_some() { INODES_PER_OBJECT } else { 0 };
        let is_counted = space.total_inodes > 0;
        let too_few_inodes = (self.min_free_inodes + files).saturating_sub(space.available_inodes);
        let too_many = (usage.objects + usize::from(wanted.is_some())).saturating_sub(OBJECTS_MAX);
        Shortage {
            bytes: over_capacity.max(too_little_free),
            objects: (too_many as u64).max(if is_counted { too_few_inodes } else { 0 }),
        }
    }

    /// What is to be free before somebody wants it, in bytes.
    pub(super) fn headroom_bytes(&self) -> u64 {
        HEADROOM_BYTES_MAX.min(self.capacity_bytes / HEADROOM_DIVISOR)
    }

    /// Whether less is free than must be.
    pub(super) fn is_pressed(&self, space: &Space) -> bool {
        let is_out_of_files = space.total_inodes > 0 && space.available_inodes < self.min_free_inodes;
        space.available_bytes < self.min_free_bytes || is_out_of_files
    }

    /// Whether `bytes` would not fit even if the store held nothing else.
    pub(super) fn is_beyond(&self, space: &Space, bytes: u64) -> bool {
        bytes > self.capacity_bytes || bytes > space.total_bytes.saturating_sub(self.min_free_bytes)
    }
}

/// The share of `whole` that `part` is of `of`.
fn same_share(part: u64, of: u64, whole: u64) -> u64 {
    let share = u128::from(part) * u128::from(whole) / u128::from(of.max(1));
    u64::try_from(share).unwrap_or(u64::MAX).min(whole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Amount;

    const GIB: u64 = 1 << 30;

    fn space(total: u64, available: u64) -> Space {
        Space {
            total_bytes: total,
            available_bytes: available,
            total_inodes: 1000,
            available_inodes: 900,
            block_bytes: 4096,
        }
    }

    fn limits() -> CacheLimits {
        CacheLimits {
            capacity: None,
            min_free: Amount::Percent(20),
            pinned_max: Amount::Percent(50),
        }
    }

    #[test]
    fn the_defaults_follow_the_disk() {
        let small = Budget::of(&limits(), &space(100 * GIB, 0));
        assert_eq!((small.capacity_bytes, small.min_free_bytes), (25 * GIB, 20 * GIB));
        assert_eq!(
            (small.min_free_inodes, small.pinned_bytes_max),
            (200, 25 * GIB / 2)
        );
        let large = Budget::of(&limits(), &space(1000 * GIB, 0));
        assert_eq!(large.capacity_bytes, 50 * GIB);
    }

    #[test]
    fn the_smaller_room_counts() {
        let budget = Budget::of(&limits(), &space(100, 0));
        let usage = |used, unallocated| Usage {
            used_bytes: used,
            unallocated_bytes: unallocated,
            objects: 1,
        };
        let bytes = |available, usage, wanted| budget.shortage(&space(100, available), usage, wanted).bytes;
        assert_eq!(bytes(90, usage(10, 0), Some(15)), 0);
        assert_eq!(bytes(90, usage(10, 0), Some(16)), 1, "over capacity");
        assert_eq!(bytes(25, usage(10, 0), Some(6)), 1, "too little would stay free");
        assert_eq!(
            bytes(25, usage(10, 5), Some(1)),
            1,
            "running fills will take theirs"
        );
        assert_eq!(bytes(12, usage(10, 0), None), 8, "others filled the disk");
        assert!(budget.is_beyond(&space(100, 90), 26));
        assert!(!budget.is_beyond(&space(100, 0), 25));
    }

    #[test]
    fn files_are_counted_where_the_file_system_counts_them() {
        let budget = Budget::of(&limits(), &space(100, 100));
        let of = |space: &Space, wanted| budget.shortage(space, Usage::default(), wanted).objects;
        let few = Space {
            available_inodes: 202,
            ..space(100, 100)
        };
        assert_eq!((of(&few, None), of(&few, Some(1))), (0, 1));
        let unlimited = Space {
            total_inodes: 0,
            available_inodes: 0,
            ..space(100, 100)
        };
        assert_eq!(of(&unlimited, Some(1)), 0);
        let many = Usage {
            objects: OBJECTS_MAX,
            ..Usage::default()
        };
        assert_eq!(budget.shortage(&space(100, 100), many, Some(1)).objects, 1);
    }
}
