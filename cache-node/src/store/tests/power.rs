//! A machine whose power can be cut. It lets the store work on real files, remembers what of them a disk would keep, and
//! lays that out in another directory.
//!
//! What the model takes for durable is what POSIX promises, no more. A sync of a file: its bytes, its length and its
//! times; a data sync: its bytes and its length; a sync of a directory: the names in it, but not its own name in the
//! directory above. Of everything else any mixture of what was and what came since may survive: each sector of a file by
//! itself, its length, its modification time, and each name by itself, so that a file that was renamed may have both
//! names, or none. One thing more is relied on: a file system gives to others what a shorter length cuts off only once that
//! length is on the disk, as it does with what a removed name leaves; ext4 and XFS order their journals so.

use std::collections::{BTreeMap, HashMap};
use std::ffi::OsString;
use std::path::PathBuf;

use fastrand::Rng;
use rustix::io::Errno;

use super::super::*;
use super::in_memory;

/// A disk writes so many bytes at once or not at all.
const SECTOR_BYTES: usize = 512;

#[derive(Debug)]
pub(super) struct Machine {
    boot_id: String,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    files: Vec<Inode>,
    /// The place in `files` of the one that has this inode number now.
    places: HashMap<u64, usize>,
    folders: BTreeMap<PathBuf, BTreeMap<OsString, Versions<Option<Node>>>>,
    operations: usize,
    cut_behind: usize,
}

/// What was durable last, and what it has been since.
#[derive(Clone, Debug)]
struct Versions<T>(Vec<T>);

impl<T: Clone> Versions<T> {
    fn now(&self) -> &T {
        self.0.last().unwrap()
    }

    fn sync(&mut self) {
        self.0.drain(..self.0.len() - 1);
    }

    fn survivor(&self, rng: &mut Rng, luck: Luck) -> &T {
        &self.0[self.survivor_place(rng, luck)]
    }

    fn survivor_place(&self, rng: &mut Rng, luck: Luck) -> usize {
        match luck {
            Luck::Nothing => 0,
            Luck::Everything => self.0.len() - 1,
            Luck::Some => rng.usize(..self.0.len()),
        }
    }
}

/// How much of what was not synced has reached the disk.
#[derive(Clone, Copy)]
enum Luck {
    Nothing,
    Everything,
    Some,
}

impl Luck {
    fn draw(rng: &mut Rng) -> Self {
        match rng.u8(..4) {
            0 => Self::Nothing,
            1 => Self::Everything,
            _ => Self::Some,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Node {
    File(usize),
    Folder,
}

#[derive(Debug)]
struct Inode {
    bytes: Versions<Vec<u8>>,
    /// None for the time at which something was written.
    modified: Versions<Option<SystemTime>>,
}

impl Inode {
    fn write(&mut self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = self.bytes.now().clone();
        change(&mut bytes);
        self.bytes.0.push(bytes);
        self.modified.0.push(None);
    }

    fn survivor(&self, rng: &mut Rng) -> (Vec<u8>, Option<SystemTime>) {
        let luck = Luck::draw(rng);
        let length = self.bytes.survivor(rng, luck).len();
        let mut bytes = vec![0; length];
        for (place, sector) in bytes.chunks_mut(SECTOR_BYTES).enumerate() {
            let version = self.bytes.survivor_place(rng, luck);
            // What a shorter length cuts off is there until that length is.
            let mut sources = self.bytes.0[..=version].iter().rev();
            let source =
                sources.find_map(|bytes| bytes.get(place * SECTOR_BYTES..).filter(|rest| !rest.is_empty()));
            let source = source.unwrap_or_default();
            let there = source.len().min(sector.len());
            sector[..there].copy_from_slice(&source[..there]);
        }
        let luck = Luck::draw(rng);
        (bytes, *self.modified.survivor(rng, luck))
    }
}

impl Machine {
    /// Starts with what lies in `root`; the power is cut behind so many changes.
    pub(super) fn boot(root: &Path, boot_id: impl Into<String>, cut_behind: usize) -> Arc<Self> {
        let mut state = State {
            cut_behind,
            ..State::default()
        };
        state.find(root);
        Arc::new(Self {
            boot_id: boot_id.into(),
            state: Mutex::new(state),
        })
    }

    pub(super) fn is_alive(&self) -> bool {
        self.state.lock().unwrap().is_alive()
    }

    /// Makes of `to`, whatever is in it, what a power cut leaves of `root`.
    pub(super) fn lay_out(&self, root: &Path, to: &Path, seed: u64) {
        remove_files(to);
        let state = self.state.lock().unwrap();
        state.lay_out(root, to, &mut Rng::with_seed(seed), &mut HashMap::new());
    }
}

impl State {
    fn is_alive(&self) -> bool {
        self.operations < self.cut_behind
    }

    fn find(&mut self, folder: &Path) {
        let mut names = BTreeMap::new();
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            let (path, metadata) = (entry.path(), entry.metadata().unwrap());
            let node = if metadata.is_dir() {
                self.find(&path);
                Node::Folder
            } else {
                // One file may have two names.
                let known = self.places.get(&metadata.ino()).copied();
                Node::File(known.unwrap_or_else(|| {
                    self.add(&metadata, fs::read(&path).unwrap(), metadata.modified().ok())
                }))
            };
            names.insert(entry.file_name(), Versions(vec![Some(node)]));
        }
        self.folders.insert(folder.to_owned(), names);
    }

    fn add(&mut self, metadata: &fs::Metadata, bytes: Vec<u8>, modified: Option<SystemTime>) -> usize {
        let place = self.files.len();
        self.files.push(Inode {
            bytes: Versions(vec![bytes]),
            modified: Versions(vec![modified]),
        });
        self.places.insert(metadata.ino(), place);
        place
    }

    fn file(&mut self, file: &File) -> &mut Inode {
        let inode = file.metadata().unwrap().ino();
        &mut self.files[self.places[&inode]]
    }

    fn name(&mut self, path: &Path, node: Option<Node>) {
        let names = self.folders.get_mut(path.parent().unwrap()).unwrap();
        let name = path.file_name().unwrap().to_owned();
        let versions = names.entry(name).or_insert_with(|| Versions(vec![None]));
        versions.0.push(node);
    }

    fn node(&self, path: &Path) -> Option<Node> {
        *self.folders[path.parent().unwrap()]
            .get(path.file_name().unwrap())?
            .now()
    }

    fn apply(&mut self, operation: Operation<'_>) {
        match operation {
            Operation::Create(path) => {
                let place = self.add(&fs::metadata(path).unwrap(), Vec::new(), None);
                self.name(path, Some(Node::File(place)));
            }
            Operation::CreateDirectory(path) => {
                self.name(path, Some(Node::Folder));
                self.folders.insert(path.to_owned(), BTreeMap::new());
            }
            Operation::Write(file, new, offset) => self.file(file).write(|bytes| {
                let start = usize::try_from(offset).unwrap();
                let end = start + new.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[start..end].copy_from_slice(new);
            }),
            Operation::Append(file, new) => self.file(file).write(|bytes| bytes.extend_from_slice(new)),
            Operation::SetLength(file, length) => {
                let length = usize::try_from(length).unwrap();
                self.file(file).write(|bytes| bytes.resize(length, 0));
            }
            Operation::SetModified(file, time) => self.file(file).modified.0.push(Some(time)),
            Operation::SyncData(file) => self.file(file).bytes.sync(),
            Operation::Sync(file) => {
                let file = self.file(file);
                file.bytes.sync();
                file.modified.sync();
            }
            Operation::SyncDirectory(path) => {
                let names = self.folders.get_mut(path).unwrap();
                names.values_mut().for_each(Versions::sync);
            }
            Operation::Rename(from, to) => {
                let node = self.node(from);
                self.name(from, None);
                self.name(to, node);
            }
            Operation::Remove(path) => {
                if self.node(path).is_some() {
                    self.name(path, None);
                }
            }
            Operation::Allocate(..) | Operation::SetAccessed(..) | Operation::Read(_) => {}
        }
    }

    fn lay_out(&self, from: &Path, to: &Path, rng: &mut Rng, laid: &mut HashMap<usize, PathBuf>) {
        let luck = Luck::draw(rng);
        for (name, versions) in &self.folders[from] {
            let to = to.join(name);
            match versions.survivor(rng, luck) {
                None => {
                    let _ = fs::remove_dir_all(to);
                }
                Some(Node::Folder) => {
                    let _ = fs::create_dir(&to);
                    self.lay_out(&from.join(name), &to, rng, laid);
                }
                Some(Node::File(place)) if laid.contains_key(place) => {
                    fs::hard_link(&laid[place], to).unwrap();
                }
                Some(Node::File(place)) => {
                    let (bytes, modified) = self.files[*place].survivor(rng);
                    fs::write(&to, bytes).unwrap();
                    if let Some(modified) = modified {
                        let file = fs::OpenOptions::new().write(true).open(&to).unwrap();
                        file.set_modified(modified).unwrap();
                    }
                    laid.insert(*place, to);
                }
            }
        }
    }
}

/// Folders stay, because to make and to remove them is what takes the longest.
pub(super) fn remove_files(folder: &Path) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            remove_files(&path);
        } else {
            fs::remove_file(path).unwrap();
        }
    }
}

impl Witness for Machine {
    fn before(&self, operation: Operation<'_>) -> io::Result<()> {
        match operation {
            _ if !self.is_alive() => Err(Errno::IO.into()),
            // Many file systems cannot, and to free again what was reserved takes some of the others long.
            Operation::Allocate(..) => Err(Errno::OPNOTSUPP.into()),
            _ => Ok(()),
        }
    }

    fn after(&self, operation: Operation<'_>) {
        let mut state = self.state.lock().unwrap();
        state.apply(operation);
        state.operations += usize::from(!matches!(operation, Operation::Read(_)));
    }

    fn boot_id(&self) -> String {
        self.boot_id.clone()
    }

    fn needs_real_syncs(&self) -> bool {
        false
    }
}

/// Nothing that was synced may be missing, and what was not may be: else the tests that build on this prove nothing.
#[test]
fn a_power_cut_keeps_what_was_synced_and_loses_of_the_rest_now_this_now_that() {
    let here = in_memory();
    let machine = Machine::boot(here.path(), "1", usize::MAX);
    let disk = Disk::witnessed(Arc::clone(&machine) as Arc<dyn Witness>);
    let (kept, lost) = (here.path().join("kept"), here.path().join("lost"));
    let file = disk.create_new(&kept).unwrap();
    disk.write_at(&file, &[1; 1024], 0).unwrap();
    disk.sync_data(&file).unwrap();
    disk.sync_directory(here.path()).unwrap();
    disk.write_at(&file, &[2; 1024], 0).unwrap();
    disk.rename(&kept, &lost).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for seed in 0..200 {
        let there = in_memory();
        machine.lay_out(here.path(), there.path(), seed);
        let names = ["kept", "lost"].map(|name| fs::read(there.path().join(name)).ok());
        let sectors = names.iter().flatten().next().map(|bytes| (bytes[0], bytes[512]));
        seen.insert((names.map(|bytes| bytes.is_some()), sectors));
    }
    // Both names, either or none; and with a name each sector old or new.
    assert_eq!(seen.len(), 3 * 4 + 1, "{seen:?}");
}
