mod audit;
mod errors;
mod faults;
mod model;
mod power;
mod power_cuts;
mod room;

use std::fs;
use std::io::Write as _;

use bytes::Bytes;
use tempfile::TempDir;

use super::*;
use crate::oci::{Algorithm, MediaType};

/// For tests that know themselves what is durable: thousands of directories are made and removed there in the time that a
/// disk needs for some.
fn in_memory() -> TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

fn store() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path()).unwrap();
    (folder, store)
}

fn sha256(content: &[u8]) -> Digest {
    Digest::of(Algorithm::Sha256, content)
}

fn fill(store: &Store, content: &'static [u8]) -> Digest {
    let digest = sha256(content);
    let partial = store.partial(&digest, None).unwrap();
    partial.set_length(content.len() as u64).unwrap();
    partial.write(0, &[Bytes::from_static(content)]).unwrap();
    store.commit(&partial).unwrap();
    digest
}

/// Begins to fill ten digits.
fn begin(store: &Store) -> (Digest, Partial) {
    let digest = sha256(b"0123456789");
    let partial = store.partial(&digest, None).unwrap();
    partial.set_length(10).unwrap();
    (digest, partial)
}

fn files_below(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_below(&path));
        } else {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found
}

#[test]
fn a_committed_blob_is_found_again_after_a_restart() {
    let (folder, store) = store();
    let digest = fill(&store, b"content");
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert_eq!(store.blob(&digest).map(|blob| blob.length), Some(7));
    let objects = store.objects();
    assert_eq!(
        (objects.len(), objects[0].length, objects[0].kind),
        (1, 7, Kind::Layer)
    );
    assert_eq!(files_below(&folder.path().join("partials")), Vec::<String>::new());
}

#[test]
fn a_blob_that_somebody_changed_is_dropped() {
    let (folder, store) = store();
    let digest = fill(&store, b"content");
    let path = folder
        .path()
        .join("blobs/sha256")
        .join(&digest.hex()[..2])
        .join(digest.hex());
    fs::OpenOptions::new()
        .append(true)
        .open(&path)
        .unwrap()
        .write_all(b"!")
        .unwrap();
    assert!(store.blob(&digest).is_none());
    assert!(!store.contains(&digest));
    assert!(
        fs::metadata(&path).is_err(),
        "nobody may find it again after a restart"
    );
}

#[test]
fn a_manifest_keeps_its_media_type() {
    let (folder, store) = store();
    let body = Bytes::from_static(b"{}");
    let digest = sha256(&body);
    let media_type: MediaType = MediaType::OCI_INDEX.parse().unwrap();
    store
        .put_manifest(&Manifest {
            digest,
            media_type: media_type.clone(),
            body: body.clone(),
        })
        .unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    let found = store.manifest(&digest).unwrap();
    assert_eq!((found.media_type, found.body), (media_type.clone(), body));
    assert_eq!(store.manifest_head(&digest), Some((media_type, 2)));
}

#[test]
fn a_partial_continues_in_the_same_boot_from_what_was_recorded() {
    let (folder, store) = store();
    let (digest, partial) = begin(&store);
    partial
        .write(0, &[Bytes::from_static(b"01"), Bytes::from_static(b"23")])
        .unwrap();
    partial.write(6, &[Bytes::from_static(b"67")]).unwrap();
    partial.set_aside().unwrap();
    drop((partial, store));

    let store = Store::open(folder.path()).unwrap();
    let partial = store.partial(&digest, None).unwrap();
    let (length, present) = partial.found();
    assert_eq!(length, Some(10));
    assert_eq!(present.iter().collect::<Vec<_>>(), [0..4, 6..8]);
    partial.write(4, &[Bytes::from_static(b"45")]).unwrap();
    partial.write(8, &[Bytes::from_static(b"89")]).unwrap();
    store.commit(&partial).unwrap();
    let mut content = [0; 10];
    let blob = store.blob(&digest).unwrap();
    std::os::unix::fs::FileExt::read_exact_at(&*blob.file, &mut content, 0).unwrap();
    assert_eq!(&content, b"0123456789");
}

#[test]
fn after_a_power_cut_only_what_was_synced_counts() {
    let (folder, store) = store();
    let (digest, partial) = begin(&store);
    partial.write(0, &[Bytes::from_static(b"01234")]).unwrap();
    let mut present = RangeSet::default();
    present.insert(0..2);
    partial.sync(&present).unwrap();
    partial.set_aside().unwrap();
    drop((partial, store));
    let journal = folder
        .path()
        .join(format!("partials/sha256/{}.journal", digest.hex()));
    let text = fs::read_to_string(&journal).unwrap();
    let (first, rest) = text.split_once('\n').unwrap();
    let words: Vec<_> = first.split(' ').take(2).collect();
    fs::write(&journal, format!("{} another-boot\n{rest}", words.join(" "))).unwrap();

    let store = Store::open(folder.path()).unwrap();
    let (_, present) = store.partial(&digest, None).unwrap().found();
    assert_eq!((present.end_of_run(0), present.total()), (2, 2));
}

#[test]
fn a_journal_is_not_believed_beyond_the_end_of_its_data() {
    let (folder, store) = store();
    let (digest, partial) = begin(&store);
    partial.write(0, &[Bytes::from_static(b"01234567")]).unwrap();
    partial.set_aside().unwrap();
    drop((partial, store));
    let data = folder
        .path()
        .join(format!("partials/sha256/{}.data", digest.hex()));
    File::options()
        .write(true)
        .open(data)
        .unwrap()
        .set_len(3)
        .unwrap();

    let store = Store::open(folder.path()).unwrap();
    let (length, present) = store.partial(&digest, None).unwrap().found();
    assert_eq!((length, present.end_of_run(0), present.total()), (Some(10), 3, 3));
}

#[test]
fn leftovers_that_nobody_can_use_are_removed_at_start() {
    let (folder, store) = store();
    let digest = fill(&store, b"content");
    let partials = folder.path().join("partials/sha256");
    fs::write(partials.join(format!("{}.data", digest.hex())), b"x").unwrap();
    fs::write(partials.join(format!("{}.journal", digest.hex())), b"x").unwrap();
    fs::write(partials.join(format!("{}.data", sha256(b"lonely").hex())), b"x").unwrap();
    fs::write(folder.path().join("tmp/7"), b"half a file").unwrap();
    drop(store);
    let store = Store::open(folder.path()).unwrap();
    assert!(store.contains(&digest));
    assert_eq!(files_below(&partials), Vec::<String>::new());
    assert_eq!(files_below(&folder.path().join("tmp")), Vec::<String>::new());
}

#[test]
fn a_discarded_partial_leaves_nothing() {
    let (folder, store) = store();
    let partial = store.partial(&sha256(b"x"), None).unwrap();
    partial.write(0, &[Bytes::from_static(b"wrong")]).unwrap();
    partial.discard().unwrap();
    assert_eq!(files_below(&folder.path().join("partials")), Vec::<String>::new());
}

#[tokio::test]
async fn reading_behind_the_end_is_an_error_and_not_a_clean_end() {
    let (_folder, store) = store();
    let blob = store.blob(&fill(&store, b"content")).unwrap();
    assert_eq!(read_chunk(&blob.file, 3, 100).await.unwrap(), "tent");
    let error = read_chunk(&blob.file, 7, 1).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}
