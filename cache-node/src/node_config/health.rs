//! Whether the runtime may be pointed at the cache: three failures say no, and a cache that keeps failing has to prove
//! itself for longer each time. Pure: it is told what was seen and when.

use std::time::{Duration, Instant};

/// How many failures in a row withdraw the cache.
pub(super) const FAILURES_MAX: u32 = 3;
/// How long a cache that failed must be well before it is used again.
pub(super) const RETURN_AFTER_MIN: Duration = Duration::from_secs(10);
/// The longest that it may come to when failures recur.
pub(super) const RETURN_AFTER_MAX: Duration = Duration::from_mins(5);
/// A failure after this long does not count as one that recurs.
pub(super) const STEADY_AFTER: Duration = Duration::from_mins(10);

/// What one look at the runtime's port showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    /// Our cache, ready.
    Ready,
    /// Our cache, and it says that it is not ready.
    NotReady,
    /// Nobody answered in time, or there is nobody.
    Silent,
    /// Somebody answered who is not our cache.
    Stranger,
}

/// Why the cache is not in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// It did not answer, or was not ready.
    Unhealthy,
    /// Somebody else has its port.
    Stranger,
}

/// The judgement so far.
#[derive(Clone, Debug)]
pub(super) struct Health {
    state: State,
    failures: u32,
    return_after: Duration,
    returned: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Nothing is known yet; what an earlier run has left stays.
    Starting,
    Serving,
    Out {
        fault: Fault,
        well_since: Option<Instant>,
    },
}

impl Default for Health {
    fn default() -> Self {
        Self {
            state: State::Starting,
            failures: 0,
            // A cache that has never been in use has nothing to prove: it may just be starting.
            return_after: Duration::ZERO,
            returned: None,
        }
    }
}

impl Health {
    /// Whether the runtime is to be pointed at the cache.
    pub(super) fn is_serving(&self) -> bool {
        matches!(self.state, State::Serving)
    }

    /// Why not, once that is known.
    pub(super) fn fault(&self) -> Option<Fault> {
        match self.state {
            State::Out { fault, .. } => Some(fault),
            State::Starting | State::Serving => None,
        }
    }

    /// Takes note of what was seen at `now`.
    pub(super) fn observe(&mut self, sight: Sight, now: Instant) {
        match sight {
            Sight::Ready => self.well(now),
            Sight::Stranger => self.withdraw(Fault::Stranger, now),
            Sight::NotReady | Sight::Silent => {
                self.failures = self.failures.saturating_add(1);
                if let State::Out { well_since, .. } = &mut self.state {
                    *well_since = None;
                }
                if self.failures >= FAILURES_MAX {
                    self.withdraw(Fault::Unhealthy, now);
                }
            }
        }
    }

    fn well(&mut self, now: Instant) {
        self.failures = 0;
        let may_serve = match &mut self.state {
            State::Starting => true,
            State::Serving => return,
            State::Out { well_since, .. } => {
                let since = *well_since.get_or_insert(now);
                now.saturating_duration_since(since) >= self.return_after
            }
        };
        if may_serve {
            self.state = State::Serving;
            self.returned = Some(now);
        }
    }

    fn withdraw(&mut self, fault: Fault, now: Instant) {
        if self.is_serving() {
            let is_recurring = self.return_after > Duration::ZERO
                && self
                    .returned
                    .is_some_and(|returned| now.saturating_duration_since(returned) < STEADY_AFTER);
            self.return_after = if is_recurring {
                RETURN_AFTER_MAX.min(self.return_after * 2)
            } else {
                RETURN_AFTER_MIN
            };
        }
        self.state = State::Out {
            fault,
            well_since: None,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STEP: Duration = Duration::from_millis(500);

    /// Feeds one sight every half second from `now` on, and says when the cache was in use first.
    fn first_served(health: &mut Health, now: Instant, steps: u32) -> Option<Duration> {
        (0..steps).map(|step| STEP * step).find(|after| {
            health.observe(Sight::Ready, now + *after);
            health.is_serving()
        })
    }

    fn fail(health: &mut Health, now: Instant) {
        for _ in 0..FAILURES_MAX {
            health.observe(Sight::Silent, now);
        }
        assert_eq!(health.fault(), Some(Fault::Unhealthy));
    }

    #[test]
    fn a_cache_that_starts_late_is_used_at_once() {
        let (mut health, now) = (Health::default(), Instant::now());
        assert!(!health.is_serving() && health.fault().is_none());
        fail(&mut health, now);
        assert_eq!(first_served(&mut health, now, 1), Some(Duration::ZERO));
    }

    #[test]
    fn two_failures_are_forgiven_and_three_are_not() {
        let (mut health, now) = (Health::default(), Instant::now());
        for sight in [
            Sight::Ready,
            Sight::Silent,
            Sight::NotReady,
            Sight::Ready,
            Sight::Silent,
        ] {
            health.observe(sight, now);
            assert!(health.is_serving());
        }
        health.observe(Sight::NotReady, now);
        assert!(health.is_serving());
        health.observe(Sight::Silent, now);
        assert_eq!(health.fault(), Some(Fault::Unhealthy));
    }

    #[test]
    fn what_recurs_takes_longer_until_it_has_been_well_for_long() {
        let (mut health, mut now) = (Health::default(), Instant::now());
        health.observe(Sight::Ready, now);
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            fail(&mut health, now);
            let took = first_served(&mut health, now, 1000).unwrap();
            assert_eq!(took, Duration::from_secs(seconds));
            now += took + STEP;
        }
        now += STEADY_AFTER;
        fail(&mut health, now);
        assert_eq!(first_served(&mut health, now, 1000), Some(RETURN_AFTER_MIN));
    }

    #[test]
    fn a_stranger_is_one_too_many() {
        let (mut health, now) = (Health::default(), Instant::now());
        health.observe(Sight::Ready, now);
        health.observe(Sight::Stranger, now);
        assert_eq!(health.fault(), Some(Fault::Stranger));
    }

    fn sight() -> impl Strategy<Value = Sight> {
        prop_oneof![
            8 => Just(Sight::Ready),
            2 => Just(Sight::Silent),
            1 => Just(Sight::NotReady),
            1 => Just(Sight::Stranger),
        ]
    }

    proptest! {
        /// Whatever comes: in use only while it answers, out within three failures, back only after enough health.
        #[test]
        fn the_rules_hold_for_every_history(sights in proptest::collection::vec((sight(), 1..40_u32), 1..60)) {
            let (mut health, mut now) = (Health::default(), Instant::now());
            let (mut failures, mut well_since, mut has_served) = (0, None, false);
            for (sight, times) in sights {
                for _ in 0..times {
                    let served_before = health.is_serving();
                    health.observe(sight, now);
                    if sight == Sight::Ready {
                        failures = 0;
                        well_since.get_or_insert(now);
                    } else {
                        failures += 1;
                        well_since = None;
                        let is_out = sight == Sight::Stranger || failures >= FAILURES_MAX;
                        prop_assert!(!is_out || !health.is_serving());
                        prop_assert!(is_out || health.is_serving() == served_before);
                    }
                    if health.is_serving() && !served_before && has_served {
                        let well = well_since.map(|since: Instant| now - since);
                        prop_assert!(well >= Some(RETURN_AFTER_MIN), "{:?}", well);
                    }
                    if well_since.is_some_and(|since| now - since >= RETURN_AFTER_MAX) {
                        prop_assert!(health.is_serving());
                    }
                    has_served |= health.is_serving();
                    now += STEP;
                }
            }
        }
    }
}
