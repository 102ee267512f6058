//! Whatever may happen to a store, in any order, against a model of what must be there, what may be, and what must not.

mod steps;

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use rustix::io::Errno;

use super::audit::{audit_accounts, read};
use super::power::remove_files;
use super::*;
use crate::config::{Amount, CacheLimits};

const SEQUENCES: u32 = 10_000;
const BLOCK_BYTES: u64 = 4096;
/// Layers, then the configurations and the manifests of two images.
const BLOCKS: [usize; 9] = [1, 2, 3, 5, 8, 1, 1, 1, 1];
const LAYERS: usize = 5;
const MANIFESTS: usize = 7;

#[derive(Clone, Copy, Debug)]
enum Step {
    Fill(usize),
    /// Half of it; put aside, or lost with its task.
    FillHalf(usize, bool),
    FillWrong(usize),
    Read(usize),
    Hold(usize),
    Release,
    /// Fresh names, and pins, as bits.
    Protect(usize, usize),
    Remove(usize),
    Crash,
    Restart,
    /// A byte is another one now, and nothing else says so.
    Rot(usize),
    /// Somebody else writes to the file.
    Touch(usize),
    Verify(usize),
    Scrub,
    SetFull(bool),
    SetCapacity(u64),
    Maintain,
    MakeHeadroom,
}

fn step() -> impl Strategy<Value = Step> {
    let item = 0..BLOCKS.len();
    prop_oneof![
        12 => item.clone().prop_map(Step::Fill),
        2 => (0..MANIFESTS, any::<bool>()).prop_map(|(item, is_lost)| Step::FillHalf(item, is_lost)),
        1 => (0..MANIFESTS).prop_map(Step::FillWrong),
        3 => item.clone().prop_map(Step::Read),
        3 => item.clone().prop_map(Step::Hold),
        2 => Just(Step::Release),
        2 => (0usize..4, 0usize..512).prop_map(|(roots, pins)| Step::Protect(roots, pins)),
        2 => item.clone().prop_map(Step::Remove),
        1 => Just(Step::Crash),
        1 => Just(Step::Restart),
        1 => (0..LAYERS).prop_map(Step::Rot),
        1 => (0..LAYERS).prop_map(Step::Touch),
        1 => item.prop_map(Step::Verify),
        1 => Just(Step::Scrub),
        1 => any::<bool>().prop_map(Step::SetFull),
        2 => (4u64..34).prop_map(Step::SetCapacity),
        2 => Just(Step::Maintain),
        2 => Just(Step::MakeHeadroom),
    ]
}

/// A disk that can be full, or gone with the process.
#[derive(Debug, Default)]
struct Switch {
    is_full: AtomicBool,
    is_dead: AtomicBool,
}

impl Witness for Switch {
    fn before(&self, operation: Operation<'_>) -> io::Result<()> {
        let takes_room = matches!(
            operation,
            Operation::Create(_)
                | Operation::CreateDirectory(_)
                | Operation::Write(..)
                | Operation::Append(..)
                | Operation::Allocate(..)
        );
        if self.is_dead.load(Ordering::Relaxed) {
            Err(Errno::IO.into())
        } else if takes_room && self.is_full.load(Ordering::Relaxed) {
            Err(Errno::NOSPC.into())
        } else if matches!(operation, Operation::Allocate(..)) {
            // Half of all file systems cannot, and to free what was reserved takes some of the others long.
            Err(Errno::OPNOTSUPP.into())
        } else {
            Ok(())
        }
    }

    fn after(&self, _operation: Operation<'_>) {}

    fn boot_id(&self) -> String {
        "boot".into()
    }

    fn needs_real_syncs(&self) -> bool {
        false
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum State {
    Absent,
    Good,
    Rotten,
    Touched,
}

struct World {
    folder: TempDir,
    store: Option<Store>,
    switch: Arc<Switch>,
    states: [State; BLOCKS.len()],
    held: Vec<(usize, Blob)>,
    roots: usize,
    pins: usize,
    capacity_bytes: u64,
}

/// What is listed before or after a step.
struct Sight {
    objects: BTreeMap<usize, Object>,
    used_bytes: u64,
}

/// What a step may have changed.
#[derive(Default)]
struct Change {
    wanted_bytes: u64,
    is_refused: bool,
    added: Option<usize>,
    gone: Vec<usize>,
    is_upkeep: bool,
    is_headroom: bool,
}

fn body(item: usize) -> Bytes {
    if item < MANIFESTS {
        let length = BLOCKS[item] * BLOCK_BYTES as usize;
        return Bytes::from(vec![b'a' + item as u8; length]);
    }
    let image = item - MANIFESTS;
    let [config, one, other] = [LAYERS + image, image, image + 2].map(digest);
    format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{config}","size":1}},"layers":[{{"digest":"{one}","size":1}},{{"digest":"{other}","size":1}}]}}"#
    )
    .into()
}

fn digest(item: usize) -> Digest {
    sha256(&body(item))
}

fn limits(capacity_bytes: u64) -> CacheLimits {
    CacheLimits {
        capacity: Some(Amount::Bytes(capacity_bytes)),
        min_free: Amount::Percent(0),
        pinned_max: Amount::Percent(50),
    }
}

impl World {
    fn new() -> Self {
        Self {
            folder: in_memory(),
            store: None,
            switch: Arc::default(),
            states: [State::Absent; BLOCKS.len()],
            held: Vec::new(),
            roots: 0,
            pins: 0,
            capacity_bytes: 0,
        }
    }

    fn reset(&mut self) {
        self.held.clear();
        self.store = None;
        remove_files(self.folder.path());
        self.switch = Arc::default();
        self.states = [State::Absent; BLOCKS.len()];
        (self.roots, self.pins) = (0, 0);
        self.capacity_bytes = 20 * BLOCK_BYTES;
        self.open();
    }

    fn open(&mut self) {
        let options = Options {
            limits: limits(self.capacity_bytes),
            disk: Disk::witnessed(Arc::clone(&self.switch) as Arc<dyn Witness>),
        };
        let store = Store::open_with(self.folder.path(), options).unwrap();
        self.store = Some(store);
        self.protect();
        // So that the ledgers count from the start.
        self.store().maintain();
    }

    fn protect(&self) {
        let named = |bits: usize, first: usize| {
            let items = (first..BLOCKS.len()).filter(move |item| bits >> (item - first) & 1 == 1);
            items.map(digest).collect()
        };
        self.store().protect(Protected {
            roots: named(self.roots, MANIFESTS),
            pinned: named(self.pins, 0),
        });
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn is_pinned(&self, item: usize) -> bool {
        self.pins >> item & 1 == 1
    }

    fn is_held(&self, item: usize) -> bool {
        self.held.iter().any(|(held, _)| *held == item)
    }

    fn look(&self) -> Sight {
        let objects = self.store().objects().into_iter();
        let item = |object: &Object| (0..BLOCKS.len()).find(|item| digest(*item) == object.digest);
        Sight {
            objects: objects.map(|object| (item(&object).unwrap(), object)).collect(),
            used_bytes: self.store().usage().used_bytes,
        }
    }

    /// What the fresh names need of what is listed.
    fn needed(&self, sight: &Sight) -> Vec<usize> {
        let roots = (0..2).filter(|image| self.roots >> image & 1 == 1);
        let roots = roots.filter(|image| sight.objects.contains_key(&(MANIFESTS + image)));
        roots
            .flat_map(|image| [MANIFESTS + image, LAYERS + image, image, image + 2])
            .collect()
    }

    fn step(&mut self, step: Step) {
        let before = self.look();
        let needed = self.needed(&before);
        let change = self.perform(step);
        let after = self.look();
        self.check_evictions(&before, &after, &needed, &change);
        self.check_room(&before, &after, &change);
        for item in 0..BLOCKS.len() {
            let is_listed = after.objects.contains_key(&item);
            assert!(!is_listed || self.states[item] != State::Absent, "{item} is back");
            if !is_listed {
                self.states[item] = State::Absent;
            }
        }
        for (item, blob) in &self.held {
            assert!(
                read(blob) == body(*item),
                "a reader of {item} reads something else"
            );
        }
        audit_accounts(self.folder.path(), self.store());
    }

    /// What went was worth less than what stayed, and had to go.
    fn check_evictions(&self, before: &Sight, after: &Sight, needed: &[usize], change: &Change) {
        // After a restart the store learns only now which are configurations.
        let least = |item| (needed.contains(&item), before.objects[&item].kind != Kind::Layer);
        let most = |item| (needed.contains(&item), item >= LAYERS);
        let pinned_bytes: u64 = before
            .objects
            .iter()
            .filter(|(item, _)| self.is_pinned(**item))
            .map(|(_, object)| object.stored_bytes)
            .sum();
        for item in before.objects.keys() {
            if after.objects.contains_key(item) || change.gone.contains(item) {
                continue;
            }
            let is_house_kept = change.is_upkeep || change.is_headroom;
            assert!(change.wanted_bytes > 0 || is_house_kept, "{item} is lost");
            assert!(
                !change.is_headroom || least(*item) == (false, false) && !self.is_pinned(*item),
                "{item} went for what nobody wants yet"
            );
            assert!(!change.is_refused, "{item} went in vain");
            assert!(!self.is_held(*item), "{item} was in use");
            assert!(
                !self.is_pinned(*item) || pinned_bytes > self.capacity_bytes / 2,
                "{item} was pinned"
            );
            let full = before.used_bytes + change.wanted_bytes;
            assert!(
                is_house_kept || full > self.capacity_bytes,
                "{item} went for nothing"
            );
            for other in after
                .objects
                .keys()
                .filter(|other| before.objects.contains_key(other))
            {
                let is_free = !before.objects[other].is_in_use && !self.is_pinned(*other);
                assert!(
                    !is_free || most(*other) >= least(*item),
                    "{item} went and {other} stayed"
                );
            }
        }
    }

    fn check_room(&self, before: &Sight, after: &Sight, change: &Change) {
        let stays = |sight: &Sight| -> u64 {
            let staying = sight
                .objects
                .iter()
                .filter(|(item, object)| object.is_in_use || self.is_pinned(**item));
            let movable: u64 = sight.objects.values().map(|object| object.stored_bytes).sum();
            let staying: u64 = staying.map(|(_, object)| object.stored_bytes).sum();
            sight.used_bytes - movable + staying
        };
        if change.is_upkeep {
            let may_go = after.used_bytes - stays(after);
            assert!(
                after.used_bytes <= self.capacity_bytes || may_go == 0,
                "more than may be"
            );
        } else {
            let most = self.capacity_bytes.max(before.used_bytes);
            assert!(after.used_bytes <= most, "{} of {most}", after.used_bytes);
        }
        if change.is_headroom {
            let headroom = self.capacity_bytes / 16;
            let went: Vec<_> = before
                .objects
                .keys()
                .filter(|item| !after.objects.contains_key(item))
                .collect();
            let last = went
                .iter()
                .map(|item| before.objects[item].stored_bytes)
                .max()
                .unwrap_or_default();
            assert!(last <= headroom, "{last} bytes went for {headroom}");
            assert!(
                went.is_empty() || after.used_bytes + headroom > self.capacity_bytes.saturating_sub(last),
                "more went than had to"
            );
        }
        if change.is_refused {
            let least = stays(before) + change.wanted_bytes;
            assert!(
                least > self.capacity_bytes,
                "refused with {least} of {}",
                self.capacity_bytes
            );
        }
        if let Some(added) = change.added {
            assert!(after.objects.contains_key(&added));
        }
    }
}

#[test]
fn whatever_happens_the_store_keeps_to_the_model() {
    let config = Config {
        cases: SEQUENCES,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let world = std::cell::RefCell::new(World::new());
    let sequences = prop::collection::vec(step(), 1..20);
    let kept = TestRunner::new_with_rng(config, rng).run(&sequences, |steps| {
        let mut world = world.borrow_mut();
        world.reset();
        steps.into_iter().for_each(|step| world.step(step));
        Ok(())
    });
    if let Err(failure) = kept {
        panic!("{failure}");
    }
}
