use std::collections::HashMap;

use proptest::prelude::*;

use super::*;
use crate::oci::Algorithm;

const MIB: u64 = 1 << 20;

fn digest(number: u64) -> Digest {
    Digest::of(Algorithm::Sha256, &number.to_le_bytes())
}

/// A queue, and what its owner would have on disk: room is made before something comes in.
#[derive(Default)]
struct Cache {
    queue: Queue,
    held: HashMap<Digest, u64>,
}

impl Cache {
    /// Asks for an object, as a pull would. Says whether it was there.
    fn ask(&mut self, number: u64, bytes: u64, capacity: u64) -> bool {
        let digest = digest(number);
        if self.held.contains_key(&digest) {
            self.queue.hit(&digest);
            return true;
        }
        while self.queue.bytes() + bytes > capacity {
            let picked = self.queue.pick(|_| true).unwrap();
            self.held.remove(&picked).unwrap();
        }
        self.queue.insert(digest, bytes);
        self.held.insert(digest, bytes);
        false
    }

    fn holds(&self, numbers: std::ops::Range<u64>) -> usize {
        numbers
            .filter(|&number| self.held.contains_key(&digest(number)))
            .count()
    }
}

#[test]
fn what_was_used_survives_a_scan_of_several_times_the_capacity() {
    const CAPACITY: u64 = 1000 * MIB;
    let mut cache = Cache::default();
    for _ in 0..2 {
        (0..500).for_each(|number| _ = cache.ask(number, MIB, CAPACITY));
    }
    (1000..6000).for_each(|number| _ = cache.ask(number, MIB, CAPACITY));
    assert_eq!(cache.holds(0..500), 500);
    // Other habits: what is not used any more makes room for what is.
    for _ in 0..20 {
        (10_000..10_800).for_each(|number| _ = cache.ask(number, MIB, CAPACITY));
    }
    assert_eq!(cache.holds(10_000..10_800), 800);
}

#[test]
fn manifests_outlive_the_layers_of_a_scan() {
    const CAPACITY: u64 = 1000 * MIB;
    let mut cache = Cache::default();
    for image in 0..3000 {
        cache.ask(10_000 + image, 2000, CAPACITY);
        cache.ask(20_000 + image, 5 * MIB, CAPACITY);
    }
    assert_eq!(cache.holds(10_000..13_000), 3000);
    assert!(cache.holds(20_000..23_000) < 200);
}

#[test]
fn what_is_asked_for_again_soon_after_it_went_comes_to_stay() {
    const CAPACITY: u64 = 100 * MIB;
    let mut cache = Cache::default();
    (0..=100).for_each(|number| _ = cache.ask(number, MIB, CAPACITY));
    assert_eq!(cache.holds(0..1), 0, "the oldest went");
    cache.ask(0, MIB, CAPACITY);
    (200..500).for_each(|number| _ = cache.ask(number, MIB, CAPACITY));
    assert_eq!((cache.holds(0..1), cache.holds(1..100)), (1, 0));
}

#[test]
fn after_a_start_the_least_recently_used_goes_first() {
    let mut queue = Queue::default();
    (0..10).for_each(|number| queue.restore(digest(number), MIB));
    queue.hit(&digest(0));
    let picked: Vec<_> = std::iter::from_fn(|| queue.pick(|_| true)).collect();
    let expected: Vec<_> = (1..10).chain([0]).map(digest).collect();
    assert_eq!(picked, expected);
}

#[test]
fn where_none_may_go_each_is_asked_twice_at_most_and_nothing_is_lost() {
    let mut queue = Queue::default();
    (0..500).for_each(|number| queue.restore(digest(number), MIB));
    (500..1000).for_each(|number| queue.insert(digest(number), MIB));
    (0..500).for_each(|number| queue.hit(&digest(number)));
    let mut asked = 0;
    let refuse_all = |_: &Digest| {
        asked += 1;
        false
    };
    assert_eq!(queue.pick(refuse_all), None);
    assert!(asked <= 2000, "{asked}");
    assert_eq!(queue.bytes(), 1000 * MIB);
    // What had been used before is still worth more.
    let picked = queue.pick(|_| true).unwrap();
    assert!((500..1000).any(|number| digest(number) == picked));
}

/// What fresh names need may not go for now. It keeps its place, and what is new beside it has a chance.
#[test]
fn what_may_not_go_neither_gains_nor_crowds_out() {
    let mut queue = Queue::default();
    (0..60).for_each(|number| queue.restore(digest(number), MIB));
    (60..100).for_each(|number| queue.insert(digest(number), MIB));
    let is_needed = |picked: &Digest| (60..100).any(|number| digest(number) == *picked);
    let is_new = |picked: &Digest| (100..200).any(|number| digest(number) == *picked);
    let mut gone = Vec::new();
    for number in 100..150 {
        queue.insert(digest(number), MIB);
        gone.extend(queue.pick(|digest| !is_needed(digest)));
    }
    assert_eq!(gone.iter().filter(|digest| is_needed(digest)).count(), 0);
    let new = gone.iter().filter(|digest| is_new(digest)).count();
    assert!((25..50).contains(&new), "{new} of 50 were new");
    // Needed no more: as new as they were.
    let picked: Vec<_> = (0..20).map_while(|_| queue.pick(|_| true)).collect();
    assert!(
        picked.iter().all(|digest| is_needed(digest) || is_new(digest)),
        "{picked:?}"
    );
}

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, u64),
    Restore(u64, u64),
    Hit(u64),
    Remove(u64),
    /// Objects whose number is divisible by this may not go.
    Pick(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let number = 0u64..40;
    let bytes = prop_oneof![Just(0), 1u64..4000, 1u64 << 20..1 << 40];
    prop_oneof![
        4 => (number.clone(), bytes.clone()).prop_map(|(number, bytes)| Step::Insert(number, bytes)),
        1 => (number.clone(), bytes).prop_map(|(number, bytes)| Step::Restore(number, bytes)),
        3 => number.clone().prop_map(Step::Hit),
        1 => number.prop_map(Step::Remove),
        3 => (1u64..5).prop_map(Step::Pick),
    ]
}

proptest! {
    #[test]
    fn picks_what_is_held_and_may_go_and_nothing_else(steps in prop::collection::vec(step(), 0..300)) {
        let mut queue = Queue::default();
        let mut model = HashMap::new();
        let numbers: HashMap<_, _> = (0..40).map(|number| (digest(number), number)).collect();
        for step in steps {
            match step {
                Step::Insert(number, bytes) => {
                    queue.insert(digest(number), bytes);
                    model.insert(number, bytes);
                }
                Step::Restore(number, bytes) => {
                    queue.restore(digest(number), bytes);
                    model.insert(number, bytes);
                }
                Step::Hit(number) => queue.hit(&digest(number)),
                Step::Remove(number) => {
                    queue.remove(&digest(number));
                    model.remove(&number);
                }
                Step::Pick(divisor) => {
                    let picked = queue.pick(|digest| numbers[digest] % divisor != 0);
                    match picked {
                        Some(digest) => {
                            let number = numbers[&digest];
                            prop_assert!(number % divisor != 0);
                            prop_assert!(model.remove(&number).is_some());
                        }
                        None => prop_assert!(model.keys().all(|number| number % divisor == 0)),
                    }
                }
            }
            prop_assert_eq!(queue.bytes(), model.values().sum::<u64>());
        }
        while let Some(digest) = queue.pick(|_| true) {
            prop_assert!(model.remove(&numbers[&digest]).is_some());
        }
        prop_assert!(model.is_empty());
        prop_assert_eq!(queue.bytes(), 0);
    }
}
