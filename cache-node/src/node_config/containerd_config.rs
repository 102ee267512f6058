//! Whether containerd reads the directory in which `hosts.toml` files are written, told from its own configuration.
//!
//! That file is never changed, and its content never logged: it may hold passwords. containerd reads `config.toml`,
//! then the files that each one imports. How they are merged differs: 1.x replaces a plugin's whole section by that
//! of a later file, 2.x merges them key by key. A file of version 3 says that it is 2.x; before that it may be either,
//! and the directory counts only where both would read it.
//!
//! A list of directories counts as none: 2.x reads no `hosts.toml` then (1.7 would read them all), and a node that is
//! upgraded must not lose its cache in silence.

mod files;

use toml_edit::{Item, TableLike};

pub use files::{Files, Unreadable};

const CRI_IMAGES: &str = "io.containerd.cri.v1.images";
const CRI: &str = "io.containerd.grpc.v1.cri";
/// What version 1 called it.
const CRI_SHORT: &str = "cri";

/// What containerd makes of its configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It reads the directory.
    Reads,
    /// It reads no `hosts.toml`.
    Unset,
    /// It reads another directory.
    Elsewhere,
}

/// What one file says, as far as it matters here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// 0 where it says none, which means 1.
    pub version: i64,
    /// Further files, as they are written.
    pub imports: Vec<String>,
    sections: Vec<(String, Option<String>)>,
}

/// Why a configuration could not be judged. Never says what is in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// It cannot be parsed.
    #[error("it is not TOML")]
    NotToml,
    /// A value is of another type than containerd wants.
    #[error("a value has the wrong type")]
    WrongType,
}

/// Reads one file.
///
/// # Errors
/// containerd could not read it either.
pub fn parse(text: &str) -> Result<Parsed, Malformed> {
    let document = toml_edit::Document::parse(text).map_err(|_| Malformed::NotToml)?;
    let root = document.as_table();
    let version = root.get("version").map_or(Some(0), Item::as_integer);
    let imports = match root.get("imports") {
        None => Vec::new(),
        Some(imports) => imports
            .as_array()
            .and_then(|imports| {
                imports
                    .iter()
                    .map(|path| path.as_str().map(str::to_owned))
                    .collect()
            })
            .ok_or(Malformed::WrongType)?,
    };
    let mut sections = Vec::new();
    if let Some(plugins) = table(root.get("plugins"))? {
        for (name, section) in plugins.iter() {
            if [CRI_IMAGES, CRI, CRI_SHORT].contains(&name) {
                sections.push((name.to_owned(), config_path(section)?));
            }
        }
    }
    Ok(Parsed {
        version: version.ok_or(Malformed::WrongType)?,
        imports,
        sections,
    })
}

fn config_path(section: &Item) -> Result<Option<String>, Malformed> {
    let Some(section) = table(Some(section))? else {
        return Ok(None);
    };
    let Some(registry) = table(section.get("registry"))? else {
        return Ok(None);
    };
    match registry.get("config_path") {
        None => Ok(None),
        Some(path) => path
            .as_str()
            .map(|path| Some(path.to_owned()))
            .ok_or(Malformed::WrongType),
    }
}

fn table(item: Option<&Item>) -> Result<Option<&dyn TableLike>, Malformed> {
    item.map(|item| item.as_table_like().ok_or(Malformed::WrongType))
        .transpose()
}

/// What containerd makes of these files, in the order in which it reads them, for `directory`.
pub fn judge(files: &[Parsed], directory: &str) -> Verdict {
    let version = files
        .iter()
        .rfind(|file| file.version > 0)
        .map_or(1, |file| file.version);
    let readings = match version {
        1 => vec![section(files, CRI_SHORT, Merge::Replace).or_else(|| section(files, CRI, Merge::Replace))],
        2 => vec![
            section(files, CRI, Merge::Replace),
            section(files, CRI, Merge::Deep).or_else(|| section(files, CRI_IMAGES, Merge::Deep)),
        ],
        _ => vec![section(files, CRI_IMAGES, Merge::Deep)],
    };
    let verdicts = readings.into_iter().map(|path| match path {
        None => Verdict::Unset,
        Some(path) if path.is_empty() || path.contains(':') => Verdict::Unset,
        Some(path) if is_same_directory(path, directory) => Verdict::Reads,
        Some(_) => Verdict::Elsewhere,
    });
    verdicts
        .reduce(|one, other| if one == Verdict::Reads { other } else { one })
        .unwrap_or(Verdict::Unset)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Merge {
    Replace,
    Deep,
}

/// The `config_path` that a plugin ends up with.
fn section<'a>(files: &'a [Parsed], plugin: &str, merge: Merge) -> Option<&'a str> {
    let sections = files
        .iter()
        .flat_map(|file| &file.sections)
        .filter(|(name, _)| name == plugin);
    let mut paths = sections.map(|(_, path)| path.as_deref());
    match merge {
        Merge::Replace => paths.next_back().flatten(),
        // An empty value overrides nothing.
        Merge::Deep => paths.rev().flatten().find(|path| !path.is_empty()),
    }
}

fn is_same_directory(one: &str, other: &str) -> bool {
    let parts = |path: &str| -> Vec<String> {
        path.split('/')
            .filter(|part| !matches!(*part, "" | "."))
            .map(str::to_owned)
            .collect()
    };
    one.starts_with('/') == other.starts_with('/') && parts(one) == parts(other)
}

#[cfg(test)]
mod tests;
