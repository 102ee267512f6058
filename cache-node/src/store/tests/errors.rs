//! The disk refuses: each operation of a pull's life once, and everything from it on. Nothing wrong is ever listed, the
//! store says whose fault it is, and is as good as new when the disk is.

use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use super::audit::{audit, read};
use super::*;

#[derive(Debug)]
struct Failing {
    errno: Errno,
    /// Which operation fails first.
    at: usize,
    is_lasting: bool,
    seen: AtomicUsize,
    is_over: AtomicBool,
}

impl Witness for Failing {
    fn before(&self, _operation: Operation<'_>) -> io::Result<()> {
        let number = self.seen.fetch_add(1, Ordering::Relaxed);
        let is_its_turn = number == self.at || (self.is_lasting && number > self.at);
        if is_its_turn && !self.is_over.load(Ordering::Relaxed) {
            return Err(self.errno.into());
        }
        Ok(())
    }

    fn after(&self, _operation: Operation<'_>) {}

    fn boot_id(&self) -> String {
        "boot".into()
    }

    fn needs_real_syncs(&self) -> bool {
        false
    }
}

fn part(seed: u8) -> Bytes {
    Bytes::from(vec![seed; 600])
}

/// As a fill does it: what the disk has no hand in is not tried again, and what it has failed is thrown away.
fn fill(store: &Store, seed: u8, is_wrong: bool, is_finished: bool) -> Result<(), Error> {
    let digest = sha256(&[part(seed), part(seed)].concat());
    if !store.takes_content() || store.contains(&digest) {
        return Ok(());
    }
    let partial = store.partial(&digest, Some(1200))?;
    let filled = (|| {
        let (_, mut present) = partial.found();
        partial.set_length(1200)?;
        partial.write(0, &[part(seed)])?;
        present.insert(0..600);
        partial.sync(&present)?;
        if !is_finished {
            return partial.set_aside();
        }
        partial.write(600, &[part(if is_wrong { 0 } else { seed })])?;
        if is_wrong {
            return partial.discard();
        }
        store.commit(&partial).map(drop)
    })();
    if filled.is_err() {
        let _ = partial.discard();
    }
    filled
}

fn put(store: &Store) -> Result<(), Error> {
    if !store.takes_content() {
        return Ok(());
    }
    let body = Bytes::from_static(b"{\"schemaVersion\":2}");
    store.put_manifest(&Manifest {
        digest: sha256(&body),
        media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
        body,
    })
}

fn live(store: &Store) -> Vec<Result<(), Error>> {
    let mut results = vec![
        fill(store, 1, false, true),
        put(store),
        fill(store, 2, false, false),
        fill(store, 2, false, true),
        fill(store, 3, true, true),
        fill(store, 4, false, true),
    ];
    let [one, four] = [1, 4].map(|seed| sha256(&[part(seed), part(seed)].concat()));
    store.remove(&one, Removal::Evicted);
    if let Some(blob) = store.blob(&four) {
        blob.lease.condemn();
        assert!(store.blob(&four).is_none());
    }
    results.extend([fill(store, 1, false, true), fill(store, 4, false, true)]);
    store.record_uses();
    results
}

/// How many operations there were.
fn run(folder: &Path, errno: Errno, at: usize, is_lasting: bool) -> usize {
    let witness = Arc::new(Failing {
        errno,
        at,
        is_lasting,
        seen: AtomicUsize::new(0),
        is_over: AtomicBool::new(false),
    });
    let open = || {
        let options = Options {
            disk: Disk::witnessed(Arc::clone(&witness) as Arc<dyn Witness>),
            ..Options::default()
        };
        Store::open_with(folder, options).unwrap()
    };
    let store = open();
    for error in live(&store).into_iter().filter_map(Result::err) {
        assert!(error.is_disk_trouble(), "{at}: {error:?}");
        assert!(store.note_failure(&error, 0) && !store.takes_content());
    }
    let seen = witness.seen.load(Ordering::Relaxed);
    witness.is_over.store(true, Ordering::Relaxed);
    store.maintain();
    assert!(store.takes_content(), "{at}: the disk is back");
    for object in store.objects() {
        let blob = store.blob(&object.digest).unwrap();
        assert_eq!(sha256(&read(&blob)), object.digest);
    }
    drop(store);
    let store = open();
    audit(folder, &store);
    assert!(live(&store).iter().all(Result::is_ok), "{at}");
    audit(folder, &store);
    assert_eq!(store.objects().len(), 4, "{at}");
    seen
}

#[test]
fn no_operation_that_fails_does_harm() {
    let folder = in_memory();
    let operations = run(folder.path(), Errno::IO, usize::MAX, false);
    assert!(operations > 100, "{operations}");
    for errno in [Errno::IO, Errno::NOSPC, Errno::ROFS, Errno::MFILE] {
        for at in 0..operations {
            for is_lasting in [false, true] {
                super::power::remove_files(folder.path());
                run(folder.path(), errno, at, is_lasting);
            }
        }
    }
}
