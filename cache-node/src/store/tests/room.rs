//! The budget: what is let in, what goes for it, and what never does.

use super::*;
use crate::config::{Amount, CacheLimits};
use crate::store::index::ONE_USE;

const KIB: u64 = 1 << 10;
/// Of one object in these tests, on disk.
const OBJECT_BYTES: u64 = 64 * KIB;

fn limited(objects: u64) -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder, objects);
    (folder, store)
}

fn open(folder: &TempDir, objects: u64) -> Store {
    let limits = CacheLimits {
        // The ledgers and the marker take some blocks too.
        capacity: Some(Amount::Bytes(objects * OBJECT_BYTES + 16 * KIB)),
        min_free: Amount::Percent(0),
        pinned_max: Amount::Percent(50),
    };
    let options = Options {
        limits,
        ..Options::default()
    };
    Store::open_with(folder.path(), options).unwrap()
}

fn content(seed: u8) -> Bytes {
    Bytes::from(vec![seed; usize::try_from(OBJECT_BYTES).unwrap()])
}

fn put(store: &Store, seed: u8) -> Result<Digest, Error> {
    let content = content(seed);
    let digest = sha256(&content);
    let length = content.len() as u64;
    let partial = store.partial(&digest, Some(length))?;
    partial.set_length(length)?;
    partial.write(0, &[content])?;
    store.commit(&partial)?;
    Ok(digest)
}

fn manifest(store: &Store, config: &Digest, layer: &Digest) -> Digest {
    let text = format!(
        r#"{{"schemaVersion":2,"config":{{"digest":"{config}","size":1}},"layers":[{{"digest":"{layer}","size":1}}]}}"#
    );
    let digest = sha256(text.as_bytes());
    let manifest = Manifest {
        digest,
        media_type: MediaType::OCI_MANIFEST.parse().unwrap(),
        body: text.into(),
    };
    store.put_manifest(&manifest).unwrap();
    digest
}

#[test]
fn what_is_new_takes_the_place_of_what_is_old() {
    let (_folder, store) = limited(3);
    let all: Vec<_> = (0..10).map(|seed| put(&store, seed).unwrap()).collect();
    let kept: Vec<_> = all.iter().filter(|digest| store.contains(digest)).collect();
    assert_eq!(kept.len(), 3);
    assert!(store.contains(&all[9]));
    let usage = store.usage();
    assert!(usage.used_bytes <= usage.budget.capacity_bytes, "{usage:?}");
    assert_eq!(store.tally().removed["capacity"], 7);
}

#[test]
fn what_is_read_stays_and_what_cannot_fit_beside_it_is_refused() {
    let (_folder, store) = limited(2);
    let (one, other) = (put(&store, 1).unwrap(), put(&store, 2).unwrap());
    let readers = (store.blob(&one).unwrap(), store.blob(&other).unwrap());
    assert!(matches!(put(&store, 3), Err(Error::NoRoom { .. })));
    assert!(
        store.contains(&one) && store.contains(&other),
        "nothing goes in vain"
    );
    drop(readers.0);
    put(&store, 3).unwrap();
    assert!(!store.contains(&one) && store.contains(&other));
}

#[test]
fn running_fills_count_with_all_that_they_may_become() {
    let (_folder, store) = limited(3);
    let digest = sha256(b"running");
    let running = store.partial(&digest, Some(2 * OBJECT_BYTES)).unwrap();
    let one = put(&store, 1).unwrap();
    put(&store, 2).unwrap();
    assert!(!store.contains(&one), "there was room for one beside the fill");
    let too_large = store.partial(&sha256(b"x"), Some(2 * OBJECT_BYTES));
    assert!(matches!(too_large, Err(Error::NoRoom { .. })));
    // Of what was put aside only what was written counts, and it goes first.
    running.set_length(2 * OBJECT_BYTES).unwrap();
    running.write(0, &[Bytes::from_static(b"some")]).unwrap();
    running.set_aside().unwrap();
    assert!(store.usage().partials.stored_bytes <= OBJECT_BYTES);
    for seed in 3..6 {
        put(&store, seed).unwrap();
    }
    assert_eq!(store.usage().partials.objects, 0);
    assert_eq!(store.partial(&digest, None).unwrap().found().1.total(), 0);
}

#[test]
fn larger_than_the_budget_is_refused_at_once() {
    let (_folder, store) = limited(2);
    let kept = put(&store, 1).unwrap();
    let beyond = store.partial(&sha256(b"x"), Some(100 * OBJECT_BYTES));
    assert!(matches!(beyond, Err(Error::NoRoom { .. })));
    let unknown = store.partial(&sha256(b"y"), None).unwrap();
    assert!(matches!(
        unknown.set_length(100 * OBJECT_BYTES),
        Err(Error::NoRoom { .. })
    ));
    assert!(store.contains(&kept));
    assert_eq!(store.tally().refused["too_large"], 2);
}

#[test]
fn manifests_and_configs_outlive_layers() {
    let (_folder, store) = limited(4);
    let (config, layer) = (put(&store, 1).unwrap(), put(&store, 2).unwrap());
    let manifest = manifest(&store, &config, &layer);
    for seed in 3..9 {
        put(&store, seed).unwrap();
    }
    assert!(store.contains(&manifest) && store.contains(&config));
    assert!(!store.contains(&layer));
    let kinds: Vec<_> = store.usage().counts.into_iter().collect();
    assert_eq!(
        kinds
            .iter()
            .map(|(kind, count)| (*kind, count.objects))
            .take(2)
            .collect::<Vec<_>>(),
        [(Kind::Manifest, 1), (Kind::Config, 1)]
    );
}

#[test]
fn what_a_fresh_name_needs_goes_last_and_pins_stay() {
    let (folder, store) = limited(5);
    let (config, layer) = (put(&store, 1).unwrap(), put(&store, 2).unwrap());
    let fresh = manifest(&store, &config, &layer);
    drop(store);
    // After a restart nobody has read yet what the manifest names.
    let store = open(&folder, 5);
    let pinned = put(&store, 3).unwrap();
    store.protect(Protected {
        roots: [fresh].into(),
        pinned: [pinned].into(),
    });
    for seed in 10..20 {
        put(&store, seed).unwrap();
        assert!(store.contains(&layer) && store.contains(&pinned), "{seed}");
    }
    // A fill as large as all that is not pinned.
    let large = store.partial(&sha256(b"large"), Some(3 * OBJECT_BYTES)).unwrap();
    assert!(!store.contains(&layer) && store.contains(&pinned));
    drop(large);
}

#[test]
fn headroom_is_made_of_what_nobody_needs() {
    let (_folder, store) = limited(32);
    let all: Vec<_> = (0..32).map(|seed| put(&store, seed).unwrap()).collect();
    // A sixteenth is to be free.
    let free = 2;
    let protect = |pinned: &[Digest]| {
        store.protect(Protected {
            roots: [].into(),
            pinned: pinned.iter().copied().collect(),
        });
    };
    protect(&all);
    store.make_headroom();
    assert_eq!(store.objects().len(), 32);
    protect(&all[1..]);
    store.make_headroom();
    assert!(!store.contains(&all[0]) && store.objects().len() == 31);
    protect(&[]);
    for _ in 0..2 {
        store.make_headroom();
        assert_eq!(store.objects().len(), 32 - free);
    }
    put(&store, 100).unwrap();
    put(&store, 101).unwrap();
    assert_eq!(store.tally().removed["capacity"], free as u64);
    // Larger than what is to be free: it goes only for what is wanted.
    let (_folder, store) = limited(8);
    (0..8).for_each(|seed| _ = put(&store, seed).unwrap());
    store.make_headroom();
    assert_eq!(store.objects().len(), 8);
}

#[test]
fn pins_beyond_their_share_are_like_others() {
    let (_folder, store) = limited(4);
    let pins: Vec<_> = (1..5).map(|seed| put(&store, seed).unwrap()).collect();
    store.protect(Protected {
        roots: [].into(),
        pinned: pins.iter().copied().collect(),
    });
    for seed in 10..15 {
        put(&store, seed).unwrap();
    }
    let kept = pins.iter().filter(|digest| store.contains(digest)).count();
    assert_eq!(kept, 2, "half of the capacity");
}

#[test]
fn a_smaller_budget_is_kept_without_anybody_asking() {
    let (_folder, store) = limited(5);
    for seed in 0..5 {
        put(&store, seed).unwrap();
    }
    store.set_limits(CacheLimits {
        capacity: Some(Amount::Bytes(2 * OBJECT_BYTES + 16 * KIB)),
        min_free: Amount::Percent(0),
        pinned_max: Amount::Percent(0),
    });
    store.maintain();
    assert_eq!(store.objects().len(), 2);
    assert!(store.hindrance().is_none());
    // Others have filled the disk, as far as the configuration sees it.
    store.set_limits(CacheLimits {
        capacity: None,
        min_free: Amount::Percent(100),
        pinned_max: Amount::Percent(0),
    });
    store.maintain();
    assert_eq!(store.objects().len(), 0);
    assert!(store.hindrance().is_some() && store.takes_content());
    assert!(matches!(put(&store, 1), Err(Error::NoRoom { .. })));
}

#[test]
fn the_order_of_use_outlives_the_process() {
    let (folder, store) = limited(8);
    let all: Vec<_> = (0..8).map(|seed| put(&store, seed).unwrap()).collect();
    for used in [&all[0], &all[1]] {
        drop(store.blob(used).unwrap());
    }
    store.record_uses();
    drop(store);
    let store = open(&folder, 8);
    for seed in 10..14 {
        put(&store, seed).unwrap();
    }
    assert!(
        store.contains(&all[0]) && store.contains(&all[1]),
        "they were used last"
    );
}

#[test]
fn requests_of_one_pull_are_one_use() {
    let (_folder, store) = limited(8);
    let [once, again] = [0, 1].map(|seed| put(&store, seed).unwrap());
    for (digest, apart) in [(&once, ONE_USE / 2), (&again, ONE_USE)] {
        let mut index = store.shared.index();
        let later = index.get(digest).unwrap().last_used + apart;
        index.touch(digest, later);
    }
    for seed in 10..30 {
        put(&store, seed).unwrap();
    }
    assert!(!store.contains(&once) && store.contains(&again));
}

#[test]
fn one_process_per_directory() {
    let (folder, store) = limited(1);
    let second = Store::open(folder.path());
    assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
    drop(store);
    Store::open(folder.path()).unwrap();
}

#[test]
fn layouts_older_and_newer() {
    let (folder, store) = limited(2);
    let kept = put(&store, 1).unwrap();
    drop(store);
    let marker = folder.path().join("layout.json");
    fs::remove_file(&marker).unwrap();
    drop(open(&folder, 2));
    assert!(open(&folder, 2).contains(&kept), "the first layout had no marker");
    let text = fs::read_to_string(&marker).unwrap();
    fs::write(
        &marker,
        text.replace(&format!("\"layout\":{LAYOUT}"), "\"layout\":99"),
    )
    .unwrap();
    let error = Store::open(folder.path()).unwrap_err();
    assert!(matches!(error, Error::NewerLayout { found: 99, .. }));
    assert!(error.to_string().contains("upgrade"), "{error}");
}
