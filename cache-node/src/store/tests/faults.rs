//! A disk that fails: what is told of it, and what becomes of content.

use super::*;

#[test]
fn content_that_was_changed_is_set_aside_and_its_readers_are_told() {
    let (folder, store) = store();
    let digest = fill(&store, b"content");
    let reader = store.blob(&digest).unwrap();
    let path = folder
        .path()
        .join("blobs/sha256")
        .join(&digest.hex()[..2])
        .join(digest.hex());
    fs::write(&path, b"garbage").unwrap();
    assert!(store.blob(&digest).is_none());
    assert!(reader.lease.is_condemned());
    assert_eq!(store.tally().condemned["changed"], 1);
    let aside = folder.path().join("quarantine").join(digest.hex());
    assert_eq!(fs::read(aside).unwrap(), b"garbage");
    // The next one is not touched by what became of the last.
    fill(&store, b"content");
    assert!(!store.blob(&digest).unwrap().lease.is_condemned());
}

#[test]
fn the_quarantine_is_bounded() {
    let (folder, store) = store();
    for text in 0u8..20 {
        let content: &'static [u8] = Box::leak(Box::new([text; 9]));
        let digest = fill(&store, content);
        store.blob(&digest).unwrap().lease.condemn();
        assert!(store.blob(&digest).is_none());
    }
    assert_eq!(files_below(&folder.path().join("quarantine")).len(), 8);
}

#[test]
fn a_directory_that_is_gone_is_noticed_and_found_again() {
    let (folder, store) = store();
    let digest = fill(&store, b"content");
    let (here, elsewhere) = (folder.path().to_owned(), folder.path().with_extension("moved"));
    fs::rename(&here, &elsewhere).unwrap();
    fs::create_dir(&here).unwrap();
    // Whatever that disk leaves free, it says nothing of ours.
    store.set_limits(crate::config::CacheLimits {
        capacity: None,
        min_free: crate::config::Amount::Percent(100),
        pinned_max: crate::config::Amount::Percent(0),
    });
    assert!(store.blob(&digest).is_none());
    store.maintain();
    assert!(!store.takes_content() && store.hindrance().is_some());
    assert_eq!(
        files_below(&here),
        Vec::<String>::new(),
        "nothing is written to a stranger"
    );
    fs::remove_dir(&here).unwrap();
    fs::rename(&elsewhere, &here).unwrap();
    store.set_limits(Options::default().limits);
    store.maintain();
    assert!(store.takes_content());
    assert!(store.blob(&digest).is_some(), "it was not forgotten meanwhile");
}

#[test]
fn what_has_rotted_is_found_and_told_to_its_readers() {
    let (folder, store) = store();
    let (sound, rotten) = (fill(&store, b"sound"), fill(&store, b"rotten"));
    let reader = store.blob(&rotten).unwrap();
    rot(&folder, &rotten);
    assert!(
        store.blob(&rotten).is_some(),
        "length, time and inode are as they were"
    );
    let mut round = store.begin_scrub();
    let verdicts: Vec<_> = std::iter::from_fn(|| store.scrub_next(&mut round, |_| true)).collect();
    assert_eq!(verdicts.len(), 2);
    assert!(verdicts.contains(&Verdict::Condemned(Finding::Mismatch)));
    assert!(verdicts.contains(&Verdict::Sound(5)));
    assert!(reader.lease.is_condemned() && store.blob(&rotten).is_none());
    assert!(store.blob(&sound).is_some());
    assert_eq!(store.tally().condemned["mismatch"], 1);
    assert_eq!(store.tally().scrub_percent, 100);
}

#[test]
fn a_scrub_goes_on_where_it_was() {
    let (folder, store) = store();
    for text in 0u8..10 {
        fill(&store, Box::leak(Box::new([text; 9])));
    }
    let mut round = store.begin_scrub();
    for _ in 0..4 {
        store.scrub_next(&mut round, |_| true).unwrap();
    }
    store.note_scrub(&round).unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    let mut round = store.begin_scrub();
    let rest = std::iter::from_fn(|| store.scrub_next(&mut round, |_| true)).count();
    assert_eq!(rest, 6);
    store.note_scrub(&round).unwrap();
    let mut next = store.begin_scrub();
    assert_eq!(
        std::iter::from_fn(|| store.scrub_next(&mut next, |_| true)).count(),
        10
    );
}

/// Changes the first byte as a failing disk does: nothing else of the file.
fn rot(folder: &TempDir, digest: &Digest) {
    let path = folder
        .path()
        .join("blobs/sha256")
        .join(&digest.hex()[..2])
        .join(digest.hex());
    let times = fs::metadata(&path).unwrap().modified().unwrap();
    let file = fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"\0", 0).unwrap();
    file.set_modified(times).unwrap();
}
