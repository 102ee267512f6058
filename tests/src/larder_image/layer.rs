//! Makes a layer's tar of what a `Dockerfile` copies. Nothing in it depends on where and when that is done: entries are
//! sorted, times are zero, and of a mode only whether the file is a program remains.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::dockerfile::Copy;

const PROGRAM_MODE: u32 = 0o755;
const FILE_MODE: u32 = 0o644;

/// What is at a path of the image.
struct Node {
    owner: (u64, u64),
    /// `None` for a folder.
    source: Option<PathBuf>,
}

/// The tar of all `copies` from `context`, with the folders that they are in.
///
/// # Errors
/// When a source cannot be read, or is neither a file nor a folder.
pub(super) fn tar_of(copies: &[Copy], context: &Path) -> Result<Vec<u8>> {
    let mut nodes = BTreeMap::new();
    for copy in copies {
        let to = Path::new(copy.to.trim_start_matches('/'));
        for folder in to.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()) {
            // Folders on the way get the owner too, as every builder has it.
            nodes.entry(folder.to_owned()).or_insert(Node {
                owner: copy.owner,
                source: None,
            });
        }
        add(&mut nodes, &context.join(&copy.from), to, copy.owner)?;
    }
    let mut tar = tar::Builder::new(Vec::new());
    for (path, node) in nodes {
        append(&mut tar, &path, &node).with_context(|| format!("add {}", path.display()))?;
    }
    Ok(tar.into_inner()?)
}

fn add(nodes: &mut BTreeMap<PathBuf, Node>, source: &Path, to: &Path, owner: (u64, u64)) -> Result<()> {
    let kind = fs::symlink_metadata(source)
        .with_context(|| format!("look at {}", source.display()))?
        .file_type();
    if kind.is_dir() {
        nodes.insert(to.to_owned(), Node { owner, source: None });
        for entry in fs::read_dir(source)? {
            let entry = entry?;
            add(nodes, &entry.path(), &to.join(entry.file_name()), owner)?;
        }
    } else if kind.is_file() {
        let source = Some(source.to_owned());
        nodes.insert(to.to_owned(), Node { owner, source });
    } else {
        bail!("{} is neither a file nor a folder", source.display());
    }
    Ok(())
}

fn append(tar: &mut tar::Builder<Vec<u8>>, path: &Path, node: &Node) -> Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_mtime(0);
    header.set_uid(node.owner.0);
    header.set_gid(node.owner.1);
    match &node.source {
        None => {
            header.set_entry_type(tar::EntryType::Directory);
            header.set_mode(PROGRAM_MODE);
            header.set_size(0);
            tar.append_data(&mut header, path.join(""), std::io::empty())?;
        }
        Some(source) => {
            let is_program = fs::metadata(source)?.permissions().mode() & 0o111 != 0;
            let content = fs::read(source)?;
            header.set_mode(if is_program { PROGRAM_MODE } else { FILE_MODE });
            header.set_size(content.len() as u64);
            tar.append_data(&mut header, path, content.as_slice())?;
        }
    }
    Ok(())
}
