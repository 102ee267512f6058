//! What the content may take of the disk, as bytes or as a share.

/// Of a filesystem of unknown size: `50Gi` or `25%`.
const CAPACITY_DEFAULT_MAX_BYTES: u64 = 50 << 30;
const CAPACITY_DEFAULT_SHARE: Amount = Amount::Percent(25);

/// A number of bytes, or a share of some whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// This many bytes, however large the whole is.
    Bytes(u64),
    /// This many hundredths of the whole, at most 100.
    Percent(u8),
}

impl Amount {
    /// The amount in bytes, where the whole is `whole_bytes`. Shares are rounded down.
    pub fn of(self, whole_bytes: u64) -> u64 {
        match self {
            Self::Bytes(bytes) => bytes,
            Self::Percent(percent) => {
                let bytes = u128::from(whole_bytes) * u128::from(percent) / 100;
                u64::try_from(bytes).unwrap_or(u64::MAX)
            }
        }
    }
}

/// What the content may take of the disk (`spec.cache`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CacheLimits {
    /// The most that all content may take, of the filesystem; `None` is the default, see
    /// [`CacheLimits::capacity_bytes`].
    pub capacity: Option<Amount>,
    /// What must stay free, of the filesystem.
    pub min_free: Amount,
    /// The most that pinned content may take, of the capacity.
    pub pinned_max: Amount,
}

impl CacheLimits {
    /// The most that all content may take, in bytes, on a filesystem of `filesystem_bytes`. By default the lesser of
    /// 50 GiB and 25 %.
    pub fn capacity_bytes(&self, filesystem_bytes: u64) -> u64 {
        match self.capacity {
            Some(capacity) => capacity.of(filesystem_bytes),
            None => CAPACITY_DEFAULT_MAX_BYTES.min(CAPACITY_DEFAULT_SHARE.of(filesystem_bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_of_the_whole_and_rounded_down() {
        assert_eq!(Amount::Bytes(7).of(0), 7);
        assert_eq!(Amount::Percent(25).of(199), 49);
        assert_eq!(Amount::Percent(0).of(u64::MAX), 0);
        assert_eq!(Amount::Percent(100).of(u64::MAX), u64::MAX);
    }

    #[test]
    fn the_capacity_is_by_default_the_lesser_of_two() {
        let limits = |capacity| CacheLimits {
            capacity,
            min_free: Amount::Percent(20),
            pinned_max: Amount::Percent(50),
        };
        assert_eq!(limits(None).capacity_bytes(100 << 30), 25 << 30);
        assert_eq!(limits(None).capacity_bytes(1 << 40), 50 << 30);
        assert_eq!(limits(Some(Amount::Percent(90))).capacity_bytes(1000), 900);
        assert_eq!(limits(Some(Amount::Bytes(1 << 40))).capacity_bytes(1000), 1 << 40);
    }
}
