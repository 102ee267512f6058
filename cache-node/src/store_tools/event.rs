//! What a command tells while it works, and how that travels from a running cache to the command line: a line of
//! JSON per event; an event of bytes is followed by so many of them.

use std::io;

use serde::{Deserialize, Serialize};

/// The longest line: far above the names of any object.
const LINE_BYTES_MAX: usize = 16 << 20;

/// Something that has happened, or was found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Event {
    /// The answer to `stat`.
    Stat(Stat),
    /// A line of `ls`.
    Object(Row),
    /// An object is what its digest says.
    Sound {
        /// The object's digest.
        digest: String,
        /// Its length.
        bytes: u64,
    },
    /// An object was not, and is not served any more.
    Condemned {
        /// The object's digest.
        digest: String,
        /// The names of which it is a part.
        names: Vec<String>,
    },
    /// An object is gone.
    Removed {
        /// The object's digest.
        digest: String,
        /// What it took on the disk.
        bytes: u64,
    },
    /// An object was left because somebody reads it.
    InUse {
        /// The object's digest.
        digest: String,
    },
    /// A name is gone.
    Forgotten {
        /// The name.
        name: String,
    },
    /// An image is in the export; what of it is not here is listed.
    Exported {
        /// The name.
        name: String,
        /// Its manifest's digest.
        digest: String,
        /// The digests of what is not here.
        missing: Vec<String>,
    },
    /// An image is not in the export, because too much of it is not here.
    LeftOut {
        /// The name.
        name: String,
        /// The digests of what is not here.
        missing: Vec<String>,
    },
    /// An object has been taken in.
    Added {
        /// The object's digest.
        digest: String,
        /// Its length.
        bytes: u64,
    },
    /// An image has been taken in.
    Imported {
        /// The name.
        name: String,
        /// Its manifest's digest.
        digest: String,
    },
    /// A name's meaning was left, because it is newer than the imported one.
    KeptNewer {
        /// The name.
        name: String,
        /// Its manifest's digest.
        digest: String,
    },
    /// So many bytes of an export follow.
    Bytes {
        /// How many.
        count: usize,
    },
    /// The command has done all that it was told.
    Done,
    /// The command could not go on.
    Failed {
        /// Why.
        message: String,
    },
}

/// An object, as `ls` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Row {
    /// What names it.
    pub digest: String,
    /// `manifest`, `config` or `layer`.
    pub kind: String,
    /// Its length.
    pub bytes: u64,
    /// What it takes on the disk.
    pub stored_bytes: u64,
    /// When it was last used (RFC 3339).
    pub last_used: String,
    /// Whether somebody reads it now.
    pub in_use: bool,
    /// The names of which it is a part.
    pub names: Vec<String>,
}

/// How things stand.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stat {
    /// Whether a running cache has answered.
    pub live: bool,
    /// The version of the directory's layout.
    pub layout_version: u32,
    /// What there is, by kind.
    pub kinds: Vec<KindTotal>,
    /// All objects.
    pub objects: u64,
    /// Their lengths together.
    pub bytes: u64,
    /// What they take on the disk.
    pub stored_bytes: u64,
    /// Names in the tag ledger.
    pub names: u64,
    /// The most that the store may hold.
    pub capacity_bytes: u64,
    /// What must stay free on the file system.
    pub min_free_bytes: u64,
    /// What the file system has left.
    pub free_bytes: u64,
    /// How many more files the file system takes.
    pub free_inodes: u64,
    /// Unfinished fills.
    pub partials: u64,
    /// What they take on the disk.
    pub partial_bytes: u64,
}

/// All objects of a kind.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct KindTotal {
    /// `manifest`, `config` or `layer`.
    pub kind: String,
    /// How many.
    pub objects: u64,
    /// Their lengths together.
    pub bytes: u64,
}

/// Where a command tells what it does. An error ends the command: nobody listens any more.
pub trait Output {
    /// Takes an event other than [`Event::Bytes`].
    ///
    /// # Errors
    /// It cannot be passed on.
    fn event(&mut self, event: Event) -> io::Result<()>;

    /// Takes the next bytes of an export.
    ///
    /// # Errors
    /// They cannot be passed on.
    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()>;
}

/// An event as it travels.
pub(super) fn encode(event: &Event) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(event)?;
    line.push(b'\n');
    Ok(line)
}

/// Takes apart what has travelled, however it was cut on the way.
#[derive(Default)]
pub(super) struct Decoder {
    line: Vec<u8>,
    /// Of an export, still to come.
    bytes_left: usize,
}

impl Decoder {
    /// Passes everything that is whole on to `output`.
    pub(super) fn feed(&mut self, mut input: &[u8], output: &mut dyn Output) -> io::Result<()> {
        while !input.is_empty() {
            if self.bytes_left > 0 {
                let (bytes, rest) = input.split_at(self.bytes_left.min(input.len()));
                output.bytes(bytes)?;
                self.bytes_left -= bytes.len();
                input = rest;
                continue;
            }
            let end = input.iter().position(|&byte| byte == b'\n');
            let (piece, rest) = input.split_at(end.map_or(input.len(), |end| end + 1));
            if self.line.len() + piece.len() > LINE_BYTES_MAX {
                return Err(io::Error::other("the cache's answer has a line that is too long"));
            }
            self.line.extend_from_slice(piece);
            input = rest;
            if end.is_some() {
                let event = serde_json::from_slice(&self.line)?;
                self.line.clear();
                match event {
                    Event::Bytes { count } => self.bytes_left = count,
                    event => output.event(event)?,
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Default)]
    struct Heard(Vec<Event>, Vec<u8>);

    impl Output for Heard {
        fn event(&mut self, event: Event) -> io::Result<()> {
            self.0.push(event);
            Ok(())
        }

        fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
            self.1.extend_from_slice(bytes);
            Ok(())
        }
    }

    proptest! {
        #[test]
        fn what_is_sent_arrives_however_it_is_cut(
            sent in prop::collection::vec((".*", prop::collection::vec(any::<u8>(), 0..40)), 0..6),
            cut in 1usize..50,
        ) {
            let (mut wire, mut expected) = (Vec::new(), Heard::default());
            for (message, bytes) in sent {
                let event = Event::Failed { message };
                wire.extend(encode(&event).unwrap());
                wire.extend(encode(&Event::Bytes { count: bytes.len() }).unwrap());
                wire.extend(&bytes);
                expected.0.push(event);
                expected.1.extend(bytes);
            }
            let (mut decoder, mut heard) = (Decoder::default(), Heard::default());
            for piece in wire.chunks(cut) {
                decoder.feed(piece, &mut heard).unwrap();
            }
            prop_assert_eq!((heard.0, heard.1), (expected.0, expected.1));
        }

        #[test]
        fn nonsense_is_an_error_and_no_panic(wire: Vec<u8>) {
            let _ = Decoder::default().feed(&wire, &mut Heard::default());
        }
    }
}
