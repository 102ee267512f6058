//! The ledger: an append-only file of JSON lines, written anew when most of it is history.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, RepoName, Tag};
use crate::store::{Error, Layout};

/// The most names remembered; beyond it, those that were checked longest ago are forgotten.
const ENTRIES_MAX: usize = 100_000;
/// The file is written anew when it has this many lines more than twice its entries.
const HISTORY_LINES_MAX: usize = 1_000;

/// A name that can change its meaning.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Name {
    /// A tag.
    Tag(Tag),
    /// The list of what refers to a manifest, of one artifact type or of all.
    Referrers(Digest, Option<String>),
}

/// A name within a repository of a registry.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// The configured registry's host.
    pub registry: String,
    /// The repository, as upstream knows it.
    pub repository: RepoName,
    /// The name.
    pub name: Name,
}

/// What a name meant when upstream was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The digest of the content.
    pub digest: Digest,
    /// When, in milliseconds since the epoch.
    pub checked_at: u64,
    /// How much longer or shorter than configured this entry is fresh, in percent.
    pub jitter_percent: i8,
    /// For lists of referrers: the filters that upstream applied.
    pub filters_applied: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    registry: String,
    repository: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tag: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    subject: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    artifact_type: Option<String>,
    /// Absent: the name is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
    #[serde(default)]
    checked_at: u64,
    #[serde(default)]
    jitter_percent: i8,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    filters_applied: Option<String>,
}

/// All names of one cache directory.
#[derive(Debug)]
pub struct Ledger {
    layout: Layout,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    entries: HashMap<Key, Entry>,
    /// None after a write that failed: the next one writes the file anew.
    file: Option<File>,
    lines: usize,
}

/// Now, in milliseconds since the epoch.
pub(crate) fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

impl Ledger {
    /// Reads the ledger of a cache directory. Lines that are torn or make no sense are left out: they cost one
    /// question to upstream. Blocks.
    ///
    /// # Errors
    /// The file cannot be read or written.
    pub fn open(layout: &Layout) -> Result<Self, Error> {
        let path = layout.tag_ledger();
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io("read", &path)(error)),
        };
        let mut entries = HashMap::new();
        for line in String::from_utf8_lossy(&text).lines() {
            match serde_json::from_str::<Line>(line).ok().and_then(Line::parse) {
                Some((key, Some(entry))) => drop(entries.insert(key, entry)),
                Some((key, None)) => drop(entries.remove(&key)),
                None => tracing::warn!("a torn line of the tag ledger was left out"),
            }
        }
        let (file, lines) = match rewrite(layout, &entries) {
            Ok((file, lines)) => (Some(file), lines),
            // What was read is still true, and a full disk shall not keep anybody from starting.
            Err(error) if error.is_disk_trouble() => (None, 0),
            Err(error) => return Err(error),
        };
        Ok(Self {
            layout: layout.clone(),
            state: Mutex::new(State { entries, file, lines }),
        })
    }

    /// What `key` meant when it was last checked.
    pub fn get(&self, key: &Key) -> Option<Entry> {
        self.state().entries.get(key).cloned()
    }

    /// Every name with what it means, in no order.
    pub fn entries(&self) -> Vec<(Key, Entry)> {
        let state = self.state();
        let entries = state.entries.iter();
        entries.map(|(key, entry)| (key.clone(), entry.clone())).collect()
    }

    /// How many names are remembered.
    pub fn len(&self) -> usize {
        self.state().entries.len()
    }

    /// Whether no name is remembered.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Remembers what `key` means. Blocks for a small write.
    ///
    /// # Errors
    /// The file cannot be written; the entry holds until the process ends.
    pub fn record(&self, key: Key, entry: Entry) -> Result<(), Error> {
        let line = Line::new(&key, Some(&entry));
        let mut state = self.state();
        state.entries.insert(key, entry);
        if state.entries.len() > ENTRIES_MAX {
            state.forget_oldest();
        }
        self.append(&mut state, &line)
    }

    /// Forgets `key`: upstream says that it means nothing any more. Blocks for a small write.
    ///
    /// # Errors
    /// The file cannot be written; the entry may be back after a restart.
    pub fn remove(&self, key: &Key) -> Result<(), Error> {
        let mut state = self.state();
        if state.entries.remove(key).is_none() {
            return Ok(());
        }
        self.append(&mut state, &Line::new(key, None))
    }

    fn append(&self, state: &mut State, line: &Line) -> Result<(), Error> {
        let path = self.layout.tag_ledger();
        let mut text = serde_json::to_vec(line)
            .map_err(io::Error::other)
            .map_err(Error::io("write", &path))?;
        text.push(b'\n');
        if let Some(mut file) = state.file.take()
            && state.lines < 2 * state.entries.len() + HISTORY_LINES_MAX
        {
            file.write_all(&text).map_err(Error::io("write", &path))?;
            state.lines += 1;
            state.file = Some(file);
            return Ok(());
        }
        let (file, lines) = rewrite(&self.layout, &state.entries)?;
        (state.file, state.lines) = (Some(file), lines);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Forgets a tenth at once, so that a full ledger does not search for its oldest entry at every insertion.
    fn forget_oldest(&mut self) {
        let mut times: Vec<_> = self.entries.values().map(|entry| entry.checked_at).collect();
        let (_, &mut cut, _) = times.select_nth_unstable(ENTRIES_MAX / 10);
        self.entries.retain(|_, entry| entry.checked_at > cut);
    }
}

fn rewrite(layout: &Layout, entries: &HashMap<Key, Entry>) -> Result<(File, usize), Error> {
    let path = layout.tag_ledger();
    let mut text = Vec::new();
    for (key, entry) in entries {
        let written = serde_json::to_writer(&mut text, &Line::new(key, Some(entry)));
        written
            .map_err(io::Error::other)
            .map_err(Error::io("write", &path))?;
        text.push(b'\n');
    }
    layout.write_atomically(&path, &text)?;
    let file = OpenOptions::new()
        .append(true)
        .open(&path)
        .map_err(Error::io("open", &path))?;
    Ok((file, entries.len()))
}

impl Line {
    fn new(key: &Key, entry: Option<&Entry>) -> Self {
        let (tag, subject, artifact_type) = match &key.name {
            Name::Tag(tag) => (Some(tag.to_string()), None, None),
            Name::Referrers(subject, artifact_type) => {
                (None, Some(subject.to_string()), artifact_type.clone())
            }
        };
        Self {
            registry: key.registry.clone(),
            repository: key.repository.to_string(),
            tag,
            subject,
            artifact_type,
            digest: entry.map(|entry| entry.digest.to_string()),
            checked_at: entry.map_or(0, |entry| entry.checked_at),
            jitter_percent: entry.map_or(0, |entry| entry.jitter_percent),
            filters_applied: entry.and_then(|entry| entry.filters_applied.clone()),
        }
    }

    fn parse(self) -> Option<(Key, Option<Entry>)> {
        let name = match (self.tag, self.subject) {
            (Some(tag), None) => Name::Tag(tag.parse().ok()?),
            (None, Some(subject)) => Name::Referrers(subject.parse().ok()?, self.artifact_type),
            _ => return None,
        };
        let key = Key {
            registry: self.registry,
            repository: self.repository.parse().ok()?,
            name,
        };
        let Some(digest) = self.digest else {
            return Some((key, None));
        };
        let entry = Entry {
            digest: digest.parse().ok()?,
            checked_at: self.checked_at,
            jitter_percent: self.jitter_percent,
            filters_applied: self.filters_applied,
        };
        Some((key, Some(entry)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oci::Algorithm;
    use crate::store::Store;

    fn key(name: Name) -> Key {
        Key {
            registry: "up.test".into(),
            repository: "acme/app".parse().unwrap(),
            name,
        }
    }

    fn tag(text: &str) -> Key {
        key(Name::Tag(text.parse().unwrap()))
    }

    fn entry(content: &str) -> Entry {
        let digest = Digest::of(Algorithm::Sha256, content.as_bytes());
        Entry {
            digest,
            checked_at: 7,
            jitter_percent: -3,
            filters_applied: Some("artifactType".into()),
        }
    }

    #[test]
    fn survives_a_restart_and_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let ledger = Ledger::open(store.layout()).unwrap();
        let referrers = key(Name::Referrers(entry("subject").digest, Some("a/b".into())));
        ledger.record(tag("a"), entry("1")).unwrap();
        ledger.record(tag("a"), entry("2")).unwrap();
        ledger.record(tag("b"), entry("3")).unwrap();
        ledger.record(referrers.clone(), entry("4")).unwrap();
        ledger.remove(&tag("b")).unwrap();
        drop(ledger);
        let path = store.layout().tag_ledger();
        let mut text = fs::read(&path).unwrap();
        text.extend_from_slice(b"{\"registry\":\"up.te");
        fs::write(&path, text).unwrap();

        let ledger = Ledger::open(store.layout()).unwrap();
        assert_eq!(ledger.get(&tag("a")), Some(entry("2")));
        assert_eq!(ledger.get(&tag("b")), None);
        assert_eq!(ledger.get(&referrers), Some(entry("4")));
    }

    #[test]
    fn history_is_compacted() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let ledger = Ledger::open(store.layout()).unwrap();
        for _ in 0..3 * HISTORY_LINES_MAX {
            ledger.record(tag("a"), entry("1")).unwrap();
        }
        let text = fs::read_to_string(store.layout().tag_ledger()).unwrap();
        assert!(
            text.lines().count() <= HISTORY_LINES_MAX + 2,
            "{}",
            text.lines().count()
        );
    }
}
