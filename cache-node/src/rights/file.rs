//! The file of access rights: append-only JSON lines, written anew without what is no longer stored when most of it is
//! history. Whatever is lost of it costs a question to upstream, so nothing is synced.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};

use super::facts::{Event, Facts};
use super::line::{self, Said};
use crate::oci::Digest;
use crate::store::{Error, Layout};
use crate::upstream::Salt;

/// The file is written anew when it has this many lines more than twice what was left of it the last time.
const HISTORY_LINES_MAX: usize = 1_000;

/// The file as it is appended to.
#[derive(Debug)]
pub(super) struct Journal {
    file: File,
    lines: usize,
    lines_max: usize,
}

/// What was read at start.
pub(super) struct Loaded {
    pub(super) facts: Facts,
    pub(super) salt: Option<Salt>,
    /// None if the file is missing or torn: it has to be written anew.
    pub(super) journal: Option<Journal>,
}

/// Reads what is known of content that is stored. Blocks.
pub(super) fn load(layout: &Layout, is_stored: impl Fn(&Digest) -> bool) -> Result<Loaded, Error> {
    let path = layout.rights();
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => return Err(Error::io("read", &path)(error)),
    };
    let (mut facts, mut salt) = (Facts::default(), None);
    let (mut lines, mut torn) = (0, usize::from(!text.ends_with(b"\n")));
    for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        lines += 1;
        match line::parse(line) {
            Some(Said::Salt(found)) => salt = Some(found),
            Some(Said::Event(Event::Content { digest, .. })) if !is_stored(&digest) => {}
            Some(Said::Event(event)) => drop(facts.apply(&event)),
            None => torn += 1,
        }
    }
    if torn > 0 && lines > 0 {
        tracing::warn!(torn, "torn lines of the file of access rights were left out");
    }
    let journal = match OpenOptions::new().append(true).open(&path) {
        Ok(file) if torn == 0 && salt.is_some() => Some(Journal {
            file,
            lines,
            lines_max: lines_max(&facts),
        }),
        _ => None,
    };
    Ok(Loaded { facts, salt, journal })
}

fn lines_max(facts: &Facts) -> usize {
    2 * facts.len() + HISTORY_LINES_MAX
}

impl Journal {
    /// Writes the file anew, with all of `facts`.
    pub(super) fn rewrite(layout: &Layout, salt: &Salt, facts: &Facts) -> Result<Self, Error> {
        let path = layout.rights();
        let mut text = Vec::new();
        line::write_salt(&mut text, salt);
        for event in facts.events() {
            line::write_event(&mut text, &event);
        }
        layout.write_atomically(&path, &text)?;
        let file = OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(Error::io("open", &path))?;
        Ok(Self {
            file,
            lines: facts.len(),
            lines_max: lines_max(facts),
        })
    }

    /// Whether so many lines more are better written together with all others, anew.
    pub(super) fn is_history(&self, lines: usize) -> bool {
        self.lines + lines > self.lines_max
    }

    /// Appends whole lines.
    pub(super) fn append(&mut self, layout: &Layout, text: &[u8], lines: usize) -> Result<(), Error> {
        self.file
            .write_all(text)
            .map_err(Error::io("write", &layout.rights()))?;
        self.lines += lines;
        Ok(())
    }
}
