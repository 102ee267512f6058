//! Errors of a configuration document: all of them at once, each with the path of its field.

use std::fmt;

/// How many errors are kept; a document with more is broken in a way that a list does not explain.
const ERRORS_MAX: usize = 64;
const QUOTED_CHARS_MAX: usize = 64;

/// One mistake in a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// The field, such as `spec.registries[1].endpoints[0].url`; empty when it is the document itself.
    pub path: String,
    /// What is wrong and how to mend it: one line.
    pub message: String,
}

/// Everything that is wrong with a document: at least one error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigErrors(Vec<FieldError>);

/// Collects errors while a document is checked, up to a limit.
#[derive(Debug, Default)]
pub(super) struct Collector {
    errors: Vec<FieldError>,
    omitted: usize,
}

impl ConfigErrors {
    pub(super) fn one(message: impl Into<String>) -> Self {
        Self(vec![FieldError::new(String::new(), &message.into())])
    }

    /// The errors, in the order of their discovery.
    pub fn iter(&self) -> std::slice::Iter<'_, FieldError> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a ConfigErrors {
    type Item = &'a FieldError;
    type IntoIter = std::slice::Iter<'a, FieldError>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl FieldError {
    fn new(path: String, message: &str) -> Self {
        Self {
            path: one_line(&path),
            message: one_line(message),
        }
    }
}

impl Collector {
    pub(super) fn add(&mut self, path: impl Into<String>, message: impl AsRef<str>) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(FieldError::new(path.into(), message.as_ref()));
        } else {
            self.omitted += 1;
        }
    }

    /// The value, or a report of the error at `path`.
    pub(super) fn check<T>(&mut self, path: impl Into<String>, result: Result<T, String>) -> Option<T> {
        result.map_err(|message| self.add(path, message)).ok()
    }

    /// The value if nothing was reported. A value is missing only where something was.
    pub(super) fn finish<T>(mut self, value: Option<T>) -> Result<T, ConfigErrors> {
        if self.omitted > 0 {
            let message = format!("{} more errors are not shown", self.omitted);
            self.errors.push(FieldError::new(String::new(), &message));
        }
        value
            .filter(|_| self.errors.is_empty())
            .ok_or(ConfigErrors(self.errors))
    }
}

/// A value from the document, quoted and shortened for a message.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(QUOTED_CHARS_MAX) {
        Some((end, _)) => format!("{:?}…", &text[..end]),
        None => format!("{text:?}"),
    }
}

fn one_line(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text.to_owned()
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path, self.message)
        }
    }
}

impl fmt::Display for ConfigErrors {
    /// One line for each error.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.0.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigErrors {}
