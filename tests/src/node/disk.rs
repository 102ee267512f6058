//! A file system that a node has for itself: it can be filled, turned read-only, broken and taken away, and other tests never
//! see it. It outlives the node's process, and ends with the test's.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::fs::statvfs;
use tempfile::TempDir;

/// mkfs.xfs makes none smaller.
pub const XFS_BYTES_MIN: u64 = 300 << 20;
/// Directory on the disk of all that others put there.
const OTHERS: &str = "others";
/// `st_blocks` counts in these (stat(3type)).
const STAT_BLOCK_BYTES: u64 = 512;
/// The first process of the mount namespace: its end, which is that of its input, ends the namespace.
const KEEP: &str = r#"mount $0 "$1" "$2"; echo ready; read -r _"#;

/// What is on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileSystem {
    /// Debian's and Ubuntu's.
    Ext4,
    /// Red Hat's and Amazon's.
    Xfs,
    /// In memory.
    Tmpfs,
}

/// A mounted file system in a mount namespace of its own.
#[derive(Debug)]
pub struct Disk {
    keeper: Child,
    files: TempDir,
}

impl Disk {
    /// A file system of so many bytes.
    pub fn new(file_system: FileSystem, bytes: u64) -> Self {
        Self::with(file_system, bytes, None)
    }

    /// One that also can have only about so many files; of XFS as few as it can be told.
    pub fn of_few_files(file_system: FileSystem, bytes: u64, inodes: u64) -> Self {
        Self::with(file_system, bytes, Some(inodes))
    }

    fn with(file_system: FileSystem, bytes: u64, inodes: Option<u64>) -> Self {
        let files = tempfile::tempdir().expect("create a temporary directory");
        let image = files.path().join("image");
        let image_file = File::create(&image).expect("create the disk's image");
        image_file.set_len(bytes).expect("give the image its size");
        let mut options = vec![];
        let make = match file_system {
            FileSystem::Ext4 => {
                options.extend(inodes.map(|inodes| format!("-N{inodes}")));
                Some(("mkfs.ext4", ["-qm0", "-Elazy_itable_init=0,nodiscard"].as_slice()))
            }
            FileSystem::Xfs => {
                options.extend(inodes.map(|_| "-imaxpct=1".to_owned()));
                Some(("mkfs.xfs", ["-qK"].as_slice()))
            }
            FileSystem::Tmpfs => None,
        };
        let mount = match make {
            Some((program, arguments)) => {
                run(Command::new(program).args(arguments).args(&options).arg(&image));
                "-oloop".to_owned()
            }
            None => {
                let inodes = inodes
                    .map(|inodes| format!(",nr_inodes={inodes}"))
                    .unwrap_or_default();
                format!("-ttmpfs -osize={bytes}{inodes}")
            }
        };
        let keeper = keep(&mount, &image, &mount_point(&files));
        Self { keeper, files }
    }

    /// Where it is mounted, as processes in its namespace see it.
    pub fn mount_point(&self) -> PathBuf {
        mount_point(&self.files)
    }

    /// The same, as everybody sees it.
    pub fn path(&self) -> PathBuf {
        let seen = self.mount_point();
        let seen = seen.strip_prefix("/").expect("an absolute path");
        Path::new("/proc")
            .join(self.keeper.id().to_string())
            .join("root")
            .join(seen)
    }

    /// The file that stands for the disk.
    pub fn image(&self) -> PathBuf {
        self.files.path().join("image")
    }

    /// A command in the disk's namespace.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let namespace = format!("--mount=/proc/{}/ns/mnt", self.keeper.id());
        command.arg(namespace).arg("--").arg(program);
        command
    }

    /// Runs a shell's line in the disk's namespace, with the mount point as `$0`. Panics when it fails.
    pub fn shell(&self, line: &str) {
        run(self.command("sh").args(["-ec", line]).arg(self.mount_point()));
    }

    /// Mounts the image anew, as after a reboot. No process may use the disk.
    pub fn remount(&self) {
        let image = self.image();
        let image = image.display();
        self.shell(&format!("umount $0; mount -o loop {image} $0"));
    }

    /// Others take every last byte. Returns how many they got.
    pub fn fill(&self) -> u64 {
        let mut ballast = self.open_ballast();
        let mut taken = 0;
        for piece in [vec![1; 1 << 20], vec![1; 4 << 10], vec![1]] {
            while let Ok(written @ 1..) = ballast.write(&piece) {
                taken += written as u64;
            }
        }
        taken
    }

    /// Others take so many bytes. Panics when there are fewer.
    pub fn take(&self, bytes: usize) {
        let mut ballast = self.open_ballast();
        ballast.write_all(&vec![1; bytes]).expect("write the ballast");
    }

    fn open_ballast(&self) -> File {
        fs::create_dir_all(self.path().join(OTHERS)).expect("create the others' directory");
        let mut options = File::options();
        options.create(true).append(true);
        options
            .open(self.path().join(OTHERS).join("ballast"))
            .expect("create the ballast")
    }

    /// Others make files until there can be no more. Returns how many they made.
    pub fn fill_inodes(&self) -> usize {
        let others = self.path().join(OTHERS);
        fs::create_dir_all(&others).expect("create the others' directory");
        let first = fs::read_dir(&others).expect("list the others' files").count();
        let made = |number: &usize| match File::create_new(others.join(number.to_string())) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::StorageFull => false,
            Err(error) => panic!("cannot make files: {error}"),
        };
        (first..).take_while(made).count()
    }

    /// Others leave, and take their files with them.
    pub fn free(&self) {
        fs::remove_dir_all(self.path().join(OTHERS)).expect("remove the others' files");
    }

    /// What an ordinary user may still write, in bytes.
    pub fn available_bytes(&self) -> u64 {
        let found = statvfs(self.path()).expect("ask the file system");
        found.f_bavail * found.f_frsize
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        // A keeper that was killed has ended all the same.
        let _ = self.keeper.wait();
    }
}

/// What the files at and below `path` take on their disk, in bytes. Files that come and go meanwhile may be left out.
pub fn disk_usage_bytes(path: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(path) else { return 0 };
    let used = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_usage_bytes(&entry.path()),
        Ok(metadata) => metadata.blocks() * STAT_BLOCK_BYTES,
        Err(_) => 0,
    });
    used.sum()
}

fn mount_point(files: &TempDir) -> PathBuf {
    files.path().join("disk")
}

fn keep(options: &str, image: &Path, mount_point: &Path) -> Child {
    fs::create_dir(mount_point).expect("create the mount point");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "--", "sh", "-ec", KEEP])
        .arg(options)
        .args([image, mount_point])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    let mut keeper = command.spawn().expect("start unshare");
    let mut line = String::new();
    let output = keeper.stdout.take().expect("asked for above");
    BufReader::new(output)
        .read_line(&mut line)
        .expect("read the keeper's output");
    assert_eq!(line, "ready\n", "the disk cannot be mounted");
    keeper
}

fn run(command: &mut Command) {
    let output = command.output().expect("start a program");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
