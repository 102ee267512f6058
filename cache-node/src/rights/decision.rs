//! Whether somebody may have content that is here. Pure.

use std::time::Duration;

/// What is known of content and of whoever asks for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// The repository that it is asked of has it.
    pub is_member: bool,
    /// Anybody can have it: somebody obtained it without a credential.
    pub is_public: bool,
    /// How long ago whoever asks was last seen to be able to read the repository. None: never, or nobody can tell.
    pub access_age: Option<Duration>,
}

/// What to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Answer; upstream need not be asked.
    Serve,
    /// Ask upstream whether whoever asks can have it there.
    Prove {
        /// Answer also when upstream cannot be asked.
        may_be_stale: bool,
    },
}

/// Decides. A proof counts for `proof_ttl`, and while upstream cannot be asked for `serve_stale_for` longer.
pub fn decide(standing: Standing, proof_ttl: Duration, serve_stale_for: Duration) -> Decision {
    let is_younger_than = |limit| standing.access_age.is_some_and(|age| age < limit);
    if !standing.is_member {
        Decision::Prove { may_be_stale: false }
    } else if standing.is_public || is_younger_than(proof_ttl) {
        Decision::Serve
    } else {
        Decision::Prove {
            may_be_stale: is_younger_than(proof_ttl.saturating_add(serve_stale_for)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Decision::{Prove, Serve};

    const TTL: Duration = Duration::from_secs(3600);
    const STALE: Duration = Duration::from_secs(86_400);

    const FRESH: Option<Duration> = Some(TTL.checked_sub(Duration::from_millis(1)).unwrap());
    const OLD: Option<Duration> = Some(TTL);
    const LAST: Option<Duration> = Some(
        TTL.checked_add(STALE)
            .unwrap()
            .checked_sub(Duration::from_millis(1))
            .unwrap(),
    );
    const GONE: Option<Duration> = TTL.checked_add(STALE);

    /// Every combination of what is known, with ages on both sides of both limits.
    #[test]
    fn every_case() {
        let ask = Prove { may_be_stale: false };
        let ask_if_possible = Prove { may_be_stale: true };
        for (is_member, is_public, access_age, decision) in [
            (false, false, None, ask),
            (false, false, FRESH, ask),
            (false, false, OLD, ask),
            (false, false, LAST, ask),
            (false, false, GONE, ask),
            (false, true, None, ask),
            (false, true, FRESH, ask),
            (false, true, OLD, ask),
            (false, true, LAST, ask),
            (false, true, GONE, ask),
            (true, false, None, ask),
            (true, false, FRESH, Serve),
            (true, false, OLD, ask_if_possible),
            (true, false, LAST, ask_if_possible),
            (true, false, GONE, ask),
            (true, true, None, Serve),
            (true, true, FRESH, Serve),
            (true, true, OLD, Serve),
            (true, true, LAST, Serve),
            (true, true, GONE, Serve),
        ] {
            let standing = Standing {
                is_member,
                is_public,
                access_age,
            };
            assert_eq!(decide(standing, TTL, STALE), decision, "{standing:?}");
        }
    }

    #[test]
    fn without_any_time_private_content_is_always_proved() {
        let standing = Standing {
            is_member: true,
            is_public: false,
            access_age: Some(Duration::ZERO),
        };
        let none = Duration::ZERO;
        assert_eq!(decide(standing, none, none), Prove { may_be_stale: false });
        assert_eq!(decide(standing, none, STALE), Prove { may_be_stale: true });
        assert_eq!(decide(standing, Duration::MAX, Duration::MAX), Serve);
    }
}
