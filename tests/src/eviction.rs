//! How much of what a node pulls comes from its cache, by the policy that says what goes when room is needed.
//!
//! A [`Trace`] is replayed against the store's own queue and against policies that it could have had. Room is made
//! before an object comes in, as the store does it, and an object is never kept from coming in.

mod images;
mod policies;
mod trace;

use cache_node::oci::Digest;

pub use policies::{Lru, Policy, Sieve};
pub use trace::{Shape, Trace};

/// What of a trace came from the cache, in percent.
#[derive(Clone, Copy, Debug)]
pub struct HitRatio {
    /// Of the requests.
    pub objects: f64,
    /// Of the bytes.
    pub bytes: f64,
}

/// How requests reach a policy.
#[derive(Clone, Copy, Debug)]
pub struct Replay {
    /// Some clients get a blob in ranges: the policy hears of one use so many times.
    pub hits_per_use: usize,
    /// After so many requests the cache forgets all but in which order its objects were used last.
    pub restart_after: usize,
}

impl Default for Replay {
    fn default() -> Self {
        Self {
            hits_per_use: 1,
            restart_after: usize::MAX,
        }
    }
}

/// Replays `trace` against a cache of `capacity` bytes.
pub fn hit_ratio<P: Policy>(trace: &Trace, capacity: u64, replay: Replay) -> HitRatio {
    let mut policy = P::default();
    // When an object was used last, of those that the cache has.
    let mut last_use = vec![None; trace.sizes.len()];
    let (mut used_bytes, mut hit_bytes, mut hits, mut asked_bytes) = (0, 0, 0usize, 0);
    for (now, &object) in trace.requests.iter().enumerate() {
        if (now + 1).is_multiple_of(replay.restart_after) {
            policy = restarted(trace, &last_use);
        }
        let bytes = trace.sizes[object];
        let mut unheard = replay.hits_per_use;
        asked_bytes += bytes;
        if last_use[object].is_some() {
            hits += 1;
            hit_bytes += bytes;
        } else if bytes > capacity {
            continue;
        } else {
            while used_bytes + bytes > capacity {
                let picked = number_of(policy.pick().expect("there is something to remove"));
                assert!(last_use[picked].take().is_some(), "picked what is not there");
                used_bytes -= trace.sizes[picked];
            }
            policy.insert(digest_of(object), bytes);
            used_bytes += bytes;
            unheard -= 1;
        }
        (0..unheard).for_each(|_| policy.hit(&digest_of(object)));
        last_use[object] = Some(now);
    }
    let percent = |part: f64, whole: f64| 100.0 * part / whole;
    HitRatio {
        objects: percent(hits as f64, trace.requests.len() as f64),
        bytes: percent(hit_bytes as f64, asked_bytes as f64),
    }
}

fn restarted<P: Policy>(trace: &Trace, last_use: &[Option<usize>]) -> P {
    let mut held: Vec<_> = (0..trace.sizes.len())
        .filter(|&object| last_use[object].is_some())
        .collect();
    held.sort_unstable_by_key(|&object| last_use[object]);
    let mut policy = P::default();
    held.into_iter()
        .for_each(|object| policy.restore(digest_of(object), trace.sizes[object]));
    policy
}

/// A digest that nothing has: no content is made for a trace.
fn digest_of(object: usize) -> Digest {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&(object as u64).to_be_bytes());
    Digest::Sha256(bytes)
}

fn number_of(digest: Digest) -> usize {
    usize::from_str_radix(&digest.hex()[..16], 16).expect("made by digest_of")
}

#[cfg(test)]
mod tests {
    use cache_node::store::eviction::Queue;

    use super::*;

    const SHAPE: Shape = Shape {
        seed: 7,
        days: 30,
        has_scans: true,
        has_models: true,
    };

    fn ratio<P: Policy>(trace: &Trace, percent: u64, replay: Replay) -> HitRatio {
        hit_ratio::<P>(trace, trace.footprint() * percent / 100, replay)
    }

    /// What `docs/benchmarks.md` claims for the store's policy.
    #[test]
    fn the_stores_policy_is_worth_its_place() {
        for seed in [7, 8] {
            for (has_scans, least_gain) in [(true, 2.0), (false, 0.0)] {
                let trace = Trace::new(Shape {
                    seed,
                    has_scans,
                    ..SHAPE
                });
                for percent in [5, 10, 20] {
                    let lru = ratio::<Lru>(&trace, percent, Replay::default());
                    let ours = ratio::<Queue>(&trace, percent, Replay::default());
                    let what = format!("seed {seed}, scans {has_scans}, {percent} %: {ours:?}, LRU {lru:?}");
                    assert!(ours.objects >= lru.objects + least_gain, "{what}");
                    assert!(ours.bytes >= lru.bytes + least_gain, "{what}");
                    let sieve = ratio::<Sieve>(&trace, percent, Replay::default());
                    assert!(ours.objects > sieve.objects, "{what}, SIEVE {sieve:?}");
                }
            }
        }
    }

    /// A start forgets how often, but not when: still no worse than one who knows only when.
    #[test]
    fn a_restart_now_and_then_costs_little() {
        let trace = Trace::new(SHAPE);
        let restarts = Replay {
            restart_after: 7000,
            ..Replay::default()
        };
        for percent in [5, 10, 20] {
            let lru = ratio::<Lru>(&trace, percent, restarts);
            let ours = ratio::<Queue>(&trace, percent, restarts);
            assert!(
                ours.bytes > lru.bytes && ours.objects > lru.objects,
                "{percent} %: {ours:?}, LRU {lru:?}"
            );
        }
    }

    #[test]
    fn a_trace_follows_from_its_seed() {
        let [one, same, other] = [7, 7, 8].map(|seed| Trace::new(Shape { seed, ..SHAPE }));
        assert_eq!((&one.sizes, &one.requests), (&same.sizes, &same.requests));
        assert_ne!(one.requests, other.requests);
        // Everything fits: all but first requests are hits.
        let all = hit_ratio::<Lru>(&one, one.footprint(), Replay::default());
        let mut asked = one.requests.clone();
        asked.sort_unstable();
        asked.dedup();
        let expected = 100.0 * (1.0 - asked.len() as f64 / one.requests.len() as f64);
        assert!((all.objects - expected).abs() < 1e-9, "{all:?}, not {expected}");
    }
}
