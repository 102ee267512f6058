//! The Helm charts, and what in them is made from other files. It is checked in, so that a clone installs as it is, and a
//! test compares it; `make generate` writes it anew.

mod values;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

pub use values::{Documented, documented};

/// Begins the part of the chart's README that is made from its values.
const VALUES_HEADING: &str = "## Values\n";

/// The directory of a chart.
pub fn chart(name: &str) -> PathBuf {
    repository().join("charts").join(name)
}

/// The repository's own directory.
pub fn repository() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().unwrap_or(crate_dir).to_owned()
}

/// The files in charts that are made from others, by their paths.
///
/// # Errors
/// Where the others cannot be read.
pub fn generated() -> Result<BTreeMap<PathBuf, String>> {
    let mut files = BTreeMap::new();
    let crds = chart("larder-crds");
    let definition = "manifests/registrymirrors.yaml";
    let text = read(&repository().join("crds/registrymirrors.yaml"))?;
    files.insert(crds.join(definition), text.clone());

    // Copies, because helm packages no links from outside, and some of what delivers charts (Flux) drops all links.
    let copy = vendored();
    for path in files_below(&crds)? {
        files.insert(copy.join(path.strip_prefix(&crds)?), read(&path)?);
    }
    files.insert(copy.join(definition), text);

    let readme = chart("larder").join("README.md");
    let values = read(&chart("larder").join("values.yaml"))?;
    let text = with_values(&read(&readme)?, &documented(&values)?)?;
    files.insert(readme, text);
    Ok(files)
}

/// Makes those files anew.
///
/// # Errors
/// Where they cannot be written, or the others not be read.
pub fn generate() -> Result<()> {
    let files = generated()?;
    if vendored().is_dir() {
        std::fs::remove_dir_all(vendored())?;
    }
    for (path, text) in files {
        std::fs::create_dir_all(path.parent().context("a file without a directory")?)?;
        std::fs::write(&path, text).with_context(|| path.display().to_string())?;
    }
    Ok(())
}

/// The copy of the chart of definitions that is installed with the chart.
pub fn vendored() -> PathBuf {
    chart("larder").join("charts/larder-crds")
}

/// All files in a directory and those in it.
///
/// # Errors
/// Where a directory cannot be read.
pub fn files_below(dir: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    Ok(files)
}

/// A README with the table of values under its heading.
fn with_values(readme: &str, values: &[Documented]) -> Result<String> {
    let (head, _) = readme
        .split_once(VALUES_HEADING)
        .context("the README has no heading for the values")?;
    let rows = values
        .iter()
        .map(|value| format!("| `{}` | `{}` | {} |\n", value.path, value.default, value.text));
    let rows: String = rows.collect();
    Ok(format!(
        "{head}{VALUES_HEADING}\n| value | default | what |\n|---|---|---|\n{rows}"
    ))
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).with_context(|| path.display().to_string())
}
