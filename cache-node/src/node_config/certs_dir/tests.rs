//! What is found comes back as it was, after every way of dying in between.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};
use std::path::PathBuf;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use rustix::fs::FileType;

use super::*;

const FOREIGN: &str = "server = \"https://theirs.test\"\n";
const BODY: &str = "server = \"https://quay.io\"\n[host.\"http://127.0.0.1:5117\"]\n";

/// All that can be seen of a tree: kind and mode, owner, time, inode and content of every entry.
type Snapshot = BTreeMap<PathBuf, (u32, u32, u32, SystemTime, u64, Vec<u8>)>;

fn snapshot(root: &Path) -> Snapshot {
    let mut seen = Snapshot::new();
    let mut pending = vec![root.to_owned()];
    while let Some(path) = pending.pop() {
        let metadata = fs::symlink_metadata(&path).unwrap();
        let content = match metadata.is_file() {
            true => fs::read(&path).unwrap(),
            false => Vec::new(),
        };
        if metadata.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let key = path.strip_prefix(root).unwrap().to_owned();
        let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
        seen.insert(
            key,
            (
                mode,
                uid,
                gid,
                metadata.modified().unwrap(),
                metadata.ino(),
                content,
            ),
        );
    }
    seen
}

fn age(path: &Path) {
    let long_ago = SystemTime::UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
}

/// A directory as it may be found: `kind` says what there is for quay.io.
fn found(kind: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("quay.io");
    fs::create_dir(dir.path().join("other.test")).unwrap();
    fs::write(dir.path().join("other.test/hosts.toml"), FOREIGN).unwrap();
    if kind != "nothing" {
        fs::create_dir(&place).unwrap();
    }
    if kind == "foreign" {
        fs::write(place.join("hosts.toml"), FOREIGN).unwrap();
        fs::set_permissions(place.join("hosts.toml"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::write(place.join("ca.crt"), "certificate").unwrap();
        age(&place.join("hosts.toml"));
    }
    if kind != "nothing" {
        age(&place);
    }
    age(dir.path());
    dir
}

fn owner() -> Owner {
    "0b6ff5a8-7d1c-4f0e-9d41-0f8d0c2b5f11".parse().unwrap()
}

fn dying(dir: &Path, steps: u32) -> io::Result<CertsDir> {
    let disk = Disk {
        steps_left: Some(AtomicU32::new(steps)),
    };
    CertsDir::with(dir, disk)
}

fn write(certs: &CertsDir, body: &str) -> io::Result<bool> {
    certs.write("quay.io", &certs.look("quay.io")?, &owner(), body)
}

fn withdraw(certs: &CertsDir) -> io::Result<()> {
    let place = certs.look("quay.io")?;
    match place.held_by(&owner()) {
        Some((found, directory)) => certs.withdraw("quay.io", found, directory),
        None => Ok(()),
    }
}

fn hosts(dir: &Path) -> Option<String> {
    fs::read_to_string(dir.join("quay.io/hosts.toml")).ok()
}

/// Directories' times are lost to a crash between two steps; everything else is not.
fn without_times_of_directories(mut snapshot: Snapshot) -> Snapshot {
    for (mode, .., modified, _, _) in snapshot.values_mut() {
        if FileType::from_raw_mode(*mode) == FileType::Directory {
            *modified = SystemTime::UNIX_EPOCH;
        }
    }
    snapshot
}

#[test]
fn what_was_found_is_restored_to_the_last_bit() {
    for kind in ["nothing", "empty", "foreign"] {
        let dir = found(kind);
        let before = snapshot(dir.path());
        let certs = CertsDir::open(dir.path()).unwrap();
        assert!(write(&certs, BODY).unwrap());
        assert!(!write(&certs, BODY).unwrap(), "nothing is left to write");
        assert!(write(&certs, "server = \"https://changed.test\"\n").unwrap());
        let mode = fs::metadata(dir.path().join("quay.io/hosts.toml"))
            .unwrap()
            .mode();
        assert_eq!(mode & 0o7777, 0o644);
        withdraw(&certs).unwrap();
        assert_eq!(snapshot(dir.path()), before, "{kind}");
    }
}

#[test]
fn several_directories_that_were_made_go_in_any_order() {
    let dir = found("nothing");
    let before = snapshot(dir.path());
    let certs = CertsDir::open(dir.path()).unwrap();
    let names = ["a.test", "b.test:5000", "[::1]:5000"];
    for name in names {
        certs.write(name, &Place::Absent, &owner(), BODY).unwrap();
    }
    for name in names {
        let place = certs.look(name).unwrap();
        let (found, directory) = place.held_by(&owner()).unwrap();
        certs.withdraw(name, found, directory).unwrap();
    }
    assert_eq!(snapshot(dir.path()), before);
}

/// Runs `operation` and lets it die after every step there is. Each time the file is the old or the new one; and what
/// comes after the next start puts everything back.
fn dies_anywhere(kind: &str, prepare: impl Fn(&CertsDir), operation: impl Fn(&CertsDir) -> io::Result<()>) {
    let new = {
        let dir = found(kind);
        let certs = CertsDir::open(dir.path()).unwrap();
        prepare(&certs);
        operation(&certs).unwrap();
        hosts(dir.path())
    };
    for steps in 0.. {
        let dir = found(kind);
        let before = snapshot(dir.path());
        prepare(&CertsDir::open(dir.path()).unwrap());
        let old = hosts(dir.path());
        let is_done = operation(&dying(dir.path(), steps).unwrap()).is_ok();
        let now = hosts(dir.path());
        assert!(now == new || (now == old && !is_done), "{kind}, {steps}: {now:?}");

        // The next run may die too, while it clears up.
        let _ = dying(dir.path(), steps % 3);
        let certs = CertsDir::open(dir.path()).unwrap();
        assert_eq!(hosts(dir.path()), now, "clearing up changes nothing");
        withdraw(&certs).unwrap();
        let after = snapshot(dir.path());
        if is_done {
            assert_eq!(after, before, "{kind}, {steps}");
            assert!(steps > 0);
            return;
        }
        assert_eq!(
            without_times_of_directories(after),
            without_times_of_directories(before),
            "{kind}, {steps}"
        );
    }
}

#[test]
fn a_crash_while_writing_leaves_the_old_file_or_the_new() {
    for kind in ["nothing", "empty", "foreign"] {
        dies_anywhere(kind, |_| {}, |certs| write(certs, BODY).map(drop));
    }
}

#[test]
fn a_crash_while_changing_ours_leaves_the_old_file_or_the_new() {
    for kind in ["nothing", "empty", "foreign"] {
        let prepare = |certs: &CertsDir| assert!(write(certs, BODY).unwrap());
        dies_anywhere(kind, prepare, |certs| {
            write(certs, "server = \"https://new.test\"\n").map(drop)
        });
    }
}

#[test]
fn a_crash_while_withdrawing_leaves_ours_or_what_was_there() {
    for kind in ["nothing", "empty", "foreign"] {
        let prepare = |certs: &CertsDir| assert!(write(certs, BODY).unwrap());
        dies_anywhere(kind, prepare, withdraw);
    }
}

#[test]
fn somebodys_file_in_a_directory_that_we_made_stays() {
    let dir = found("nothing");
    let certs = CertsDir::open(dir.path()).unwrap();
    write(&certs, BODY).unwrap();
    fs::write(dir.path().join("quay.io/ca.crt"), "certificate").unwrap();
    withdraw(&certs).unwrap();
    assert_eq!(hosts(dir.path()), None);
    assert!(dir.path().join("quay.io/ca.crt").is_file());
}

#[test]
fn what_somebody_writes_over_ours_becomes_the_original() {
    let dir = found("foreign");
    let certs = CertsDir::open(dir.path()).unwrap();
    write(&certs, BODY).unwrap();
    drop(certs);
    let theirs = dir.path().join("quay.io/hosts.toml");
    fs::remove_file(&theirs).unwrap();
    fs::write(&theirs, "server = \"https://newer.test\"\n").unwrap();
    age(&theirs);
    let certs = CertsDir::open(dir.path()).unwrap();
    let before = snapshot(&theirs);
    write(&certs, BODY).unwrap();
    withdraw(&certs).unwrap();
    assert_eq!(snapshot(&theirs), before);
    assert_eq!(fs::read_dir(dir.path().join("quay.io")).unwrap().count(), 2);
}

#[test]
fn what_was_there_counts_again_when_somebody_removes_ours() {
    let dir = found("foreign");
    write(&CertsDir::open(dir.path()).unwrap(), BODY).unwrap();
    fs::remove_file(dir.path().join("quay.io/hosts.toml")).unwrap();
    CertsDir::open(dir.path()).unwrap();
    assert_eq!(hosts(dir.path()).as_deref(), Some(FOREIGN));
}

/// A link in the place of a directory, of the file, of our own names: none is followed, and none is removed.
#[test]
fn links_lead_nowhere() {
    let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::write(outside.path().join("hosts.toml"), FOREIGN).unwrap();
    let before = snapshot(outside.path());
    symlink(outside.path(), dir.path().join("quay.io")).unwrap();
    fs::create_dir(dir.path().join("file.test")).unwrap();
    symlink(
        outside.path().join("hosts.toml"),
        dir.path().join("file.test/hosts.toml"),
    )
    .unwrap();
    fs::write(dir.path().join("plain.test"), "").unwrap();
    let certs = CertsDir::open(dir.path()).unwrap();
    assert!(matches!(certs.look("quay.io").unwrap(), Place::Opaque(_)));
    assert!(matches!(certs.look("plain.test").unwrap(), Place::Opaque(_)));
    let Place::Directory(found) = certs.look("file.test").unwrap() else {
        panic!("a directory")
    };
    assert!(matches!(found.hosts, Hosts::Opaque(_)));
    assert!(write(&certs, BODY).is_err());
    assert!(certs.write("quay.io", &Place::Absent, &owner(), BODY).is_err());
    drop(certs);
    CertsDir::open(dir.path()).unwrap();
    assert_eq!(snapshot(outside.path()), before);
    assert_eq!(certs_entries(dir.path()), ["file.test", "plain.test", "quay.io"]);
}

fn certs_entries(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let mut names: Vec<_> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn two_at_once_take_turns() {
    let dir = found("nothing");
    let first = CertsDir::open(dir.path()).unwrap();
    let path = dir.path().to_owned();
    let (sender, opened) = std::sync::mpsc::channel();
    let second = std::thread::spawn(move || {
        let certs = CertsDir::open(&path).unwrap();
        sender
            .send(certs.look("quay.io").unwrap() == Place::Absent)
            .unwrap();
    });
    assert!(opened.try_recv().is_err());
    write(&first, BODY).unwrap();
    drop(first);
    assert!(!opened.recv().unwrap(), "the second sees what the first wrote");
    second.join().unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is asked for, nothing beside the directory is touched, and nothing in it that is not one of its entries.
    #[test]
    fn no_name_leads_out(name in "(\\.\\./|/|\\.)?[a-z.:\\[\\]/\\x00_~-]{0,12}(/\\.\\.|/hosts.toml)?") {
        let outer = tempfile::tempdir().unwrap();
        let dir = outer.path().join("certs.d");
        fs::create_dir(&dir).unwrap();
        fs::write(outer.path().join("hosts.toml"), FOREIGN).unwrap();
        age(outer.path());
        let before = snapshot(outer.path());
        let certs = CertsDir::open(&dir).unwrap();
        let place = certs.look(&name);
        for place in place.iter().chain([&Place::Absent]) {
            if certs.write(&name, place, &owner(), BODY).is_ok() {
                prop_assert_eq!(certs.names().unwrap(), [name.as_str()]);
                prop_assert!(!name.contains('/'));
            }
        }
        let mut after = snapshot(outer.path());
        after.retain(|path, _| !path.starts_with("certs.d"));
        let mut expected = before;
        expected.retain(|path, _| !path.starts_with("certs.d"));
        prop_assert_eq!(after, expected);
    }
}
