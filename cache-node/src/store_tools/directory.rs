//! An OCI image layout as a directory: made of a tar, or made into one.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use super::member::{INDEX_FILE, LAYOUT_FILE, Member};
use super::tar_reader::TarReader;
use crate::oci::Algorithm;

/// Of every file in a tar.
const FILE_MODE: u32 = 0o644;

/// Writes the files of a tar into the empty directory `directory`. Blocks.
///
/// # Errors
/// The directory is not empty, the tar is no layout, or something cannot be written.
pub fn unpack(tar: impl Read, directory: &Path) -> io::Result<()> {
    if fs::read_dir(directory)?.next().is_some() {
        return Err(io::Error::other(format!("{} is not empty", directory.display())));
    }
    let mut tar = TarReader::new(tar);
    while let Some(entry) = tar.next().map_err(io::Error::other)? {
        let path = Member::parse(&entry.path).map_err(io::Error::other)?.path();
        let Some(path) = path.filter(|_| entry.is_file) else {
            continue;
        };
        let path = directory.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        let mut file = File::create_new(&path)?;
        if io::copy(&mut tar, &mut file)? != entry.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.sync_all()?;
    }
    Ok(())
}

/// Writes the layout in `directory` as a tar. Follows no symbolic link. Blocks.
///
/// # Errors
/// Something cannot be read, or is no file.
pub fn pack(directory: &Path, tar: impl Write) -> io::Result<()> {
    let mut tar = tar::Builder::new(tar);
    for name in [LAYOUT_FILE, INDEX_FILE] {
        append(&mut tar, directory, Path::new(name))?;
    }
    for algorithm in Algorithm::ALL {
        let folder = Path::new("blobs").join(algorithm.as_str());
        let entries = match fs::read_dir(directory.join(&folder)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            append(&mut tar, directory, &folder.join(entry?.file_name()))?;
        }
    }
    tar.into_inner()?.flush()
}

fn append(tar: &mut tar::Builder<impl Write>, directory: &Path, path: &Path) -> io::Result<()> {
    let at = |error: io::Error| io::Error::other(format!("{}: {error}", directory.join(path).display()));
    let mut options = OpenOptions::new();
    // A pipe would be waited for.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    options.read(true).custom_flags(flags.bits().cast_signed());
    let file = options.open(directory.join(path)).map_err(at)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(at(io::Error::other("it is no file")));
    }
    let mut header = tar::Header::new_gnu();
    header.set_size(metadata.len());
    header.set_mode(FILE_MODE);
    tar.append_data(&mut header, path, file.take(metadata.len()))
}
