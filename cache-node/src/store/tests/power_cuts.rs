//! The power is cut anywhere, over and over: what the store finds then must be right, and all that it promised.

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::audit::{audit, read};
use super::power::{Machine, remove_files};
use super::*;
use crate::config::{Amount, CacheLimits};

const CASES: u32 = 1500;
/// Some sectors, and ends within one.
const BLOB_BYTES: [usize; 3] = [700, 1800, 5000];
const PIECES: usize = 4;

#[derive(Clone, Debug)]
enum Step {
    /// A fill writes some pieces, syncs behind some of them, and ends.
    Fill {
        blob: usize,
        is_wrong: bool,
        pieces: Vec<(usize, bool)>,
        end: End,
    },
    PutManifest(usize),
    Remove(usize),
    /// Nothing may stay, and then everything again.
    Squeeze,
    Condemn(usize),
    RecordUses,
    Restart,
}

#[derive(Clone, Copy, Debug)]
enum End {
    /// What is missing is written, and the whole is kept or thrown away.
    Finish,
    SetAside,
    Lost,
}

/// The steps until the power is cut, behind how many changes that is, and what chance leaves.
type Life = (Vec<Step>, usize, u64);

fn step() -> impl Strategy<Value = Step> {
    let blob = 0..BLOB_BYTES.len();
    let end = prop_oneof![3 => Just(End::Finish), 2 => Just(End::SetAside), 1 => Just(End::Lost)];
    let pieces = prop::collection::vec((0..PIECES, any::<bool>()), 0..5);
    let fill = (blob.clone(), prop::bool::weighted(0.3), pieces, end);
    let fill = fill.prop_map(|(blob, is_wrong, pieces, end)| Step::Fill {
        blob,
        is_wrong,
        pieces,
        end,
    });
    prop_oneof![
        10 => fill,
        3 => (0usize..2).prop_map(Step::PutManifest),
        2 => blob.clone().prop_map(Step::Remove),
        1 => Just(Step::Squeeze),
        2 => blob.prop_map(Step::Condemn),
        1 => Just(Step::RecordUses),
        2 => Just(Step::Restart),
    ]
}

fn lives() -> impl Strategy<Value = Vec<Life>> {
    let life = (prop::collection::vec(step(), 1..7), 0usize..130, any::<u64>());
    prop::collection::vec(life, 1..4)
}

/// What of a blob may come back.
#[derive(Clone, Copy, Debug, Default)]
struct Known {
    /// It was kept, and nobody has taken it away.
    is_promised: bool,
    /// It was condemned, and nobody has brought it anew.
    is_condemned: bool,
    /// Its partial may hold the right bytes.
    may_be_right: bool,
    /// Its partial may hold the wrong ones.
    may_be_wrong: bool,
}

struct World {
    folder: TempDir,
    /// Where the next life begins.
    spare: TempDir,
    machine: Arc<Machine>,
    boots: usize,
    store: Option<Store>,
    known: [Known; BLOB_BYTES.len()],
}

fn content(blob: usize, is_wrong: bool) -> Bytes {
    let mut rng = fastrand::Rng::with_seed(blob as u64);
    let flip = if is_wrong { 0xFF } else { 0 };
    // No zeros: those would hide what was never written.
    (0..BLOB_BYTES[blob]).map(|_| rng.u8(1..255) ^ flip).collect()
}

fn digest(blob: usize) -> Digest {
    sha256(&content(blob, false))
}

fn manifest(which: usize) -> Manifest {
    let config = digest(which);
    let body = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{config}","size":1}},"annotations":{{"a":"{:900}"}}}}"#,
        which
    );
    Manifest {
        digest: sha256(body.as_bytes()),
        media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
        body: body.into(),
    }
}

fn limits(capacity: u64) -> CacheLimits {
    CacheLimits {
        capacity: Some(Amount::Bytes(capacity)),
        min_free: Amount::Percent(0),
        pinned_max: Amount::Percent(50),
    }
}

impl World {
    fn new() -> Self {
        let folder = in_memory();
        let machine = Machine::boot(folder.path(), "0", 0);
        Self {
            folder,
            spare: in_memory(),
            machine,
            boots: 0,
            store: None,
            known: Default::default(),
        }
    }

    /// Nothing is there any more, or nothing but folders.
    fn reset(&mut self, is_new: bool) {
        self.store = None;
        for folder in [&self.folder, &self.spare] {
            remove_files(folder.path());
        }
        if is_new {
            (self.folder, self.spare) = (in_memory(), in_memory());
        }
        self.known = Default::default();
    }

    /// Whether the power was on when the call before this one returned, so that what it said counts.
    fn is_alive(&self) -> bool {
        self.machine.is_alive()
    }

    fn open(&mut self) -> Result<(), Error> {
        self.store = None;
        let options = Options {
            disk: Disk::witnessed(Arc::clone(&self.machine) as Arc<dyn Witness>),
            ..Options::default()
        };
        let opened = Store::open_with(self.folder.path(), options);
        if self.is_alive() {
            self.store = Some(opened?);
        }
        Ok(())
    }

    fn live(&mut self, (steps, cut_behind, seed): &Life) {
        let boot_id = self.boots.to_string();
        self.machine = Machine::boot(self.folder.path(), boot_id, *cut_behind);
        self.open().unwrap();
        for step in steps {
            if self.store.is_some() && self.is_alive() {
                self.step(step);
            }
        }
        self.cut(*seed);
        self.check();
    }

    fn step(&mut self, step: &Step) {
        let store = self.store.clone().unwrap();
        match step {
            Step::Fill {
                blob,
                is_wrong,
                pieces,
                end,
            } => self
                .fill(&store, *blob, *is_wrong, pieces, *end)
                .unwrap_or_else(|error| {
                    assert!(!self.is_alive(), "{error:?}");
                }),
            Step::PutManifest(which) => {
                let put = store.put_manifest(&manifest(*which));
                assert!(put.is_ok() || !self.is_alive(), "{put:?}");
            }
            Step::Remove(blob) => {
                self.known[*blob].is_promised = false;
                store.remove(&digest(*blob), Removal::Evicted);
            }
            Step::Squeeze => {
                self.known.iter_mut().for_each(|known| known.is_promised = false);
                store.set_limits(limits(0));
                store.make_headroom();
                store.maintain();
                store.set_limits(limits(u64::MAX));
            }
            Step::Condemn(blob) => {
                if let Some(found) = store.blob(&digest(*blob)) {
                    self.known[*blob].is_promised = false;
                    found.lease.condemn();
                    assert!(store.blob(&digest(*blob)).is_none());
                    self.known[*blob].is_condemned = self.is_alive();
                }
            }
            Step::RecordUses => store.record_uses(),
            Step::Restart => {
                drop(store);
                self.open().unwrap();
            }
        }
    }

    fn fill(
        &mut self,
        store: &Store,
        blob: usize,
        is_wrong: bool,
        pieces: &[(usize, bool)],
        end: End,
    ) -> Result<(), Error> {
        let digest = digest(blob);
        if store.contains(&digest) {
            return Ok(());
        }
        let partial = store.partial(&digest, Some(BLOB_BYTES[blob] as u64))?;
        let (_, mut present) = partial.found();
        let is_wrong = self.check_found(blob, &partial).unwrap_or(is_wrong);
        if self.is_alive() && present.total() == 0 {
            (self.known[blob].may_be_right, self.known[blob].may_be_wrong) = (false, false);
        }
        self.known[blob].may_be_right |= !is_wrong;
        self.known[blob].may_be_wrong |= is_wrong;
        let content = content(blob, is_wrong);
        partial.set_length(content.len() as u64)?;
        let size = content.len().div_ceil(PIECES);
        let mut write = |piece: usize, is_synced: bool| {
            let range = piece * size..content.len().min((piece + 1) * size);
            partial.write(range.start as u64, &[content.slice(range.clone())])?;
            present.insert(range.start as u64..range.end as u64);
            if is_synced { partial.sync(&present) } else { Ok(()) }
        };
        for (piece, is_synced) in pieces {
            write(*piece, *is_synced)?;
        }
        match end {
            End::SetAside => partial.set_aside(),
            End::Lost => Ok(()),
            End::Finish => {
                for piece in 0..PIECES {
                    write(piece, false)?;
                }
                if is_wrong {
                    partial.discard()?;
                    self.known[blob].may_be_wrong &= !self.is_alive();
                } else {
                    self.known[blob].is_condemned = false;
                    store.commit(&partial)?;
                    self.known[blob].is_promised = self.is_alive();
                }
                Ok(())
            }
        }
    }

    /// Everything that the partial says it has is there; whether it is of the wrong content.
    fn check_found(&self, blob: usize, partial: &Partial) -> Option<bool> {
        let mut file = vec![0; BLOB_BYTES[blob]];
        let length = partial.file().metadata().unwrap().len();
        let (_, found) = partial.found();
        let there = usize::try_from(length).unwrap().min(file.len());
        std::os::unix::fs::FileExt::read_exact_at(&**partial.file(), &mut file[..there], 0).unwrap();
        let known = self.known[blob];
        let mut variant = None;
        for range in found.iter() {
            assert!(range.end <= length, "{range:?} of {length}");
            let range = usize::try_from(range.start).unwrap()..usize::try_from(range.end).unwrap();
            let is = |is_wrong| content(blob, is_wrong)[range.clone()] == file[range.clone()];
            let is_wrong = !is(false);
            assert!(!is_wrong || is(true), "{blob}: {range:?} was never written");
            assert!(
                if is_wrong {
                    known.may_be_wrong
                } else {
                    known.may_be_right
                },
                "{blob} came back: {known:?}"
            );
            assert!(variant.is_none_or(|variant| variant == is_wrong));
            variant = Some(is_wrong);
        }
        variant
    }

    /// The next life begins with what the last one leaves.
    fn cut(&mut self, seed: u64) {
        self.store = None;
        self.machine.lay_out(self.folder.path(), self.spare.path(), seed);
        std::mem::swap(&mut self.folder, &mut self.spare);
        self.boots += 1;
    }

    fn check(&mut self) {
        let boot_id = self.boots.to_string();
        self.machine = Machine::boot(self.folder.path(), boot_id, usize::MAX);
        self.open().unwrap();
        let store = self.store.clone().unwrap();
        audit(self.folder.path(), &store);
        for which in 0..2 {
            let expected = manifest(which);
            if let Some(found) = store.manifest(&expected.digest) {
                assert_eq!(
                    (found.media_type, found.body),
                    (expected.media_type, expected.body)
                );
            }
        }
        let listed = |store: &Store| {
            let mut listed: Vec<_> = store.objects().iter().map(|object| object.digest).collect();
            listed.sort_unstable();
            (listed, store.usage().used_bytes, store.usage().partials)
        };
        let first = listed(&store);
        drop(store);
        self.open().unwrap();
        let store = self.store.clone().unwrap();
        assert_eq!(listed(&store), first, "opened twice");
        let claims = self.check_blobs(&store);
        assert_eq!(self.check_blobs(&store), claims, "continued twice");
        drop(store);
        self.store = None;
    }

    fn check_blobs(&self, store: &Store) -> Vec<(usize, RangeSet)> {
        let mut claims = Vec::new();
        for (blob, known) in self.known.iter().enumerate() {
            let digest = digest(blob);
            let found = store.blob(&digest);
            assert!(found.is_some() || !known.is_promised, "{blob} is lost");
            assert!(found.is_none() || !known.is_condemned, "{blob} is back");
            match found {
                Some(found) => assert_eq!(read(&found), content(blob, false)),
                None if store.usage().partials.objects > 0 => {
                    let partial = store.partial(&digest, None).unwrap();
                    self.check_found(blob, &partial);
                    claims.push((blob, partial.found().1));
                }
                None => {}
            }
        }
        claims
    }
}

#[test]
fn a_power_cut_leaves_nothing_wrong_and_takes_nothing_promised() {
    let config = Config {
        cases: CASES,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let cases = (lives(), prop::bool::weighted(0.1));
    let world = std::cell::RefCell::new(World::new());
    let lived = TestRunner::new_with_rng(config, rng).run(&cases, |(lives, is_new)| {
        let mut world = world.borrow_mut();
        world.reset(is_new);
        lives.iter().for_each(|life| world.live(life));
        Ok(())
    });
    if let Err(failure) = lived {
        panic!("{failure}");
    }
}
