//! Whether a ledger entry may still be believed. Pure.

use std::time::Duration;

/// By how much, up or down, an entry's time to live differs from the configured one: thousands of nodes must not
/// ask upstream in step.
const JITTER_PERCENT_MAX: i8 = 20;

/// What an entry is worth now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Answer with it; upstream need not be asked.
    Fresh,
    /// Ask upstream; answer with it if upstream has no answer.
    Expired,
    /// Ask upstream, and believe nobody else.
    Useless,
}

/// A jitter for an entry that was checked now, in percent of its time to live.
pub fn jitter_percent() -> i8 {
    fastrand::i8(-JITTER_PERCENT_MAX..=JITTER_PERCENT_MAX)
}

/// Judges an entry that was checked at `checked_at`, both times in milliseconds since the epoch. A time in the
/// future counts as expired: the clock was wrong then or is wrong now.
pub fn judge(
    checked_at: u64,
    jitter_percent: i8,
    now: u64,
    ttl: Duration,
    serve_stale_for: Duration,
    is_immutable: bool,
) -> Freshness {
    if is_immutable {
        return Freshness::Fresh;
    }
    let Some(age) = now.checked_sub(checked_at).map(Duration::from_millis) else {
        return Freshness::Expired;
    };
    let share =
        (100 + i32::from(jitter_percent.clamp(-JITTER_PERCENT_MAX, JITTER_PERCENT_MAX))).unsigned_abs();
    let time_to_live = ttl.saturating_mul(share) / 100;
    if age < time_to_live {
        Freshness::Fresh
    } else if age < time_to_live.saturating_add(serve_stale_for) {
        Freshness::Expired
    } else {
        Freshness::Useless
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TTL: Duration = Duration::from_secs(300);
    const STALE: Duration = Duration::from_secs(3600);

    fn at(age_ms: i64, jitter: i8) -> Freshness {
        let now = 1_000_000_000_000_u64;
        judge(now.wrapping_add_signed(-age_ms), jitter, now, TTL, STALE, false)
    }

    #[test]
    fn an_entry_ages() {
        assert_eq!(at(0, 0), Freshness::Fresh);
        assert_eq!(at(299_999, 0), Freshness::Fresh);
        assert_eq!(at(300_000, 0), Freshness::Expired);
        assert_eq!(at(240_000, -20), Freshness::Expired);
        assert_eq!(at(359_999, 20), Freshness::Fresh);
        assert_eq!(at(3_900_000, 0), Freshness::Useless);
    }

    #[test]
    fn a_time_in_the_future_is_expired() {
        assert_eq!(at(-1, 0), Freshness::Expired);
    }

    #[test]
    fn without_a_time_to_live_upstream_is_always_asked() {
        assert_eq!(judge(5, 20, 5, Duration::ZERO, STALE, false), Freshness::Expired);
        assert_eq!(
            judge(5, 0, 5, Duration::ZERO, Duration::ZERO, false),
            Freshness::Useless
        );
    }

    #[test]
    fn an_immutable_tag_is_never_asked_again() {
        assert_eq!(
            judge(0, 0, u64::MAX, Duration::ZERO, Duration::ZERO, true),
            Freshness::Fresh
        );
    }

    proptest! {
        #[test]
        fn no_entry_becomes_fresher_with_age(a: u32, b: u32, jitter: i8) {
            let rank = |freshness| match freshness {
                Freshness::Fresh => 0,
                Freshness::Expired => 1,
                Freshness::Useless => 2,
            };
            let (young, old) = (a.min(b), a.max(b));
            prop_assert!(rank(at(young.into(), jitter)) <= rank(at(old.into(), jitter)));
        }
    }
}
