//! Reads what a `values.yaml` says of each value, in the notation of helm-docs: a comment that begins with `# --`.

use anyhow::{Context as _, Result};
use serde_json::Value;

/// A value of a chart, as its comment describes it.
#[derive(Clone, Debug, PartialEq)]
pub struct Documented {
    /// Where it is, for example `operator.image.tag`.
    pub path: String,
    /// What it is unless somebody says otherwise.
    pub default: Value,
    /// What the comment says, on one line.
    pub text: String,
}

/// Every value that a comment describes, in the order of the file.
///
/// # Errors
/// Where the file is no YAML, or a comment describes no value.
pub fn documented(yaml: &str) -> Result<Vec<Documented>> {
    let values: Value = serde_saphyr::from_str(yaml)?;
    let mut found = Vec::new();
    let mut comment: Option<String> = None;
    // The keys around the line, each with its indentation.
    let mut keys: Vec<(usize, &str)> = Vec::new();
    for line in yaml.lines() {
        let trimmed = line.trim_start();
        if let Some(text) = trimmed.strip_prefix("# -- ") {
            comment = Some(text.to_owned());
        } else if let Some(text) = trimmed.strip_prefix("# ") {
            comment = comment.map(|comment| comment + " " + text);
        } else if let Some((key, _)) = trimmed.split_once(':') {
            let indentation = line.len() - trimmed.len();
            keys.retain(|&(around, _)| around < indentation);
            keys.push((indentation, key));
            if let Some(text) = comment.take() {
                let keys: Vec<&str> = keys.iter().map(|&(_, key)| key).collect();
                let path = keys.join(".");
                let default = values.pointer(&format!("/{}", keys.join("/")));
                let default = default.with_context(|| format!("no value {path}"))?.clone();
                found.push(Documented { path, default, text });
            }
        } else {
            comment = None;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_belong_to_the_key_below_them() {
        let yaml = "# Not about a value.\n\na:\n  # -- The first,\n  # on two lines.\n  b: 1\n  c: {d: x}\n# -- The last.\ne: []\n";
        let found = documented(yaml).unwrap();
        let found: Vec<_> = found
            .iter()
            .map(|value| format!("{} = {}: {}", value.path, value.default, value.text))
            .collect();
        assert_eq!(found, ["a.b = 1: The first, on two lines.", "e = []: The last."]);
    }
}
