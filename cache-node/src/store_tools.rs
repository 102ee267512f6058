//! What people do with the content of a cache: list it, verify it, free it, remove it, carry it to another node.
//!
//! The same functions work on a running cache, asked over a Unix socket in its directory, and on a stopped one, whose
//! directory the command line then opens itself. They block.

mod catalog;
mod client;
mod control;
mod directory;
mod event;
mod export;
mod image_layout;
mod import;
mod member;
mod selection;
mod tar_reader;

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::oci::{Digest, RepoName};
use crate::rights::Rights;
use crate::store::{self, IntakeError, Removal, Store, Verdict};
use crate::tags::Ledger;
use crate::upstream::Repository;

use catalog::{Catalog, full_name};
use selection::Filter;
use tar_reader::ArchiveError;

pub use client::{Client, ClientError};
pub use control::{ControlSocket, SOCKET_NAME};
pub use directory::{pack, unpack};
pub use event::{Event, KindTotal, Output, Row, Stat};
pub use selection::Selection;

/// How deep indexes may lie in each other; in the field it is one.
const INDEX_DEPTH_MAX: usize = 8;

/// What there is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// Say how things stand.
    Stat,
    /// List objects.
    List(Selection),
    /// Hash objects anew.
    Verify(Selection),
    /// Free objects; their names stay, and they come back when they are asked for.
    Evict(Selection),
    /// Remove objects with their names and rights.
    Purge(Selection),
    /// Write images out as a tar of an OCI image layout.
    Export(Selection),
    /// Take images in from a tar of an OCI image layout.
    Import,
}

/// Why an operation ended early.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The store or the tag ledger failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// An object cannot be taken in.
    #[error(transparent)]
    Intake(#[from] IntakeError),
    /// The archive is damaged, or has what an archive of an image layout has not.
    #[error("the archive is refused")]
    Archive(#[from] ArchiveError),
    /// What the archive says of its images does not hold.
    #[error("the archive is refused: {0}")]
    Layout(String),
    /// The selection makes no sense.
    #[error("{0}")]
    Selection(String),
    /// An object that was to be exported is not what its digest says.
    #[error("{0} is not what its digest says; it is not served any more, and the export is not whole")]
    Condemned(Digest),
    /// An object that was to be exported is gone.
    #[error("{0} was removed meanwhile, and the export is not whole; try again")]
    Gone(Digest),
    /// Nobody takes the output.
    #[error("the output cannot be written")]
    Output(#[from] io::Error),
}

/// The tools, with what they work on.
#[derive(Clone)]
pub struct Tools {
    store: Arc<Store>,
    ledger: Arc<Ledger>,
    rights: Arc<Rights>,
    is_live: bool,
}

impl Tools {
    /// Tools for this store and its ledgers; `is_live` if a cache serves from them.
    pub fn new(store: Arc<Store>, ledger: Arc<Ledger>, rights: Arc<Rights>, is_live: bool) -> Self {
        Self {
            store,
            ledger,
            rights,
            is_live,
        }
    }

    /// Does it; `input` is read by an import only. Blocks.
    ///
    /// # Errors
    /// It could not be done as a whole. What was done has been told.
    pub fn run(
        &self,
        operation: &Operation,
        input: &mut dyn Read,
        output: &mut dyn Output,
    ) -> Result<(), Error> {
        let filter = |selection| Filter::new(selection, SystemTime::now()).map_err(Error::Selection);
        let done = match operation {
            Operation::Stat => self.stat(output),
            Operation::List(selection) => self.list(&filter(selection)?, output),
            Operation::Verify(selection) => self.verify(&filter(selection)?, output),
            Operation::Evict(selection) => self.evict(&filter(selection)?, output),
            Operation::Purge(selection) => self.purge(&filter(selection)?, output),
            Operation::Export(selection) => self.export(&filter(selection)?, output),
            Operation::Import => self.import(input, output),
        };
        self.rights.flush();
        done
    }

    fn catalog(&self) -> Catalog {
        Catalog::new(&self.store, &self.ledger)
    }

    fn stat(&self, output: &mut dyn Output) -> Result<(), Error> {
        let (objects, usage) = (self.store.objects(), self.store.usage());
        let mut kinds: BTreeMap<_, (u64, u64)> = BTreeMap::new();
        for object in &objects {
            let (count, bytes) = kinds.entry(object.kind).or_default();
            *count += 1;
            *bytes += object.length;
        }
        let kinds = kinds.into_iter().map(|(kind, (objects, bytes))| KindTotal {
            kind: kind.as_str().to_owned(),
            objects,
            bytes,
        });
        let stat = Stat {
            live: self.is_live,
            layout_version: store::LAYOUT,
            kinds: kinds.collect(),
            objects: objects.len() as u64,
            bytes: objects.iter().map(|object| object.length).sum(),
            stored_bytes: objects.iter().map(|object| object.stored_bytes).sum(),
            names: self.ledger.len() as u64,
            capacity_bytes: usage.budget.capacity_bytes,
            min_free_bytes: usage.budget.min_free_bytes,
            free_bytes: usage.space.available_bytes,
            free_inodes: usage.space.available_inodes,
            partials: usage.partials.objects,
            partial_bytes: usage.partials.stored_bytes,
        };
        Ok(output.event(Event::Stat(stat))?)
    }

    fn list(&self, filter: &Filter, output: &mut dyn Output) -> Result<(), Error> {
        let catalog = self.catalog();
        let mut names = catalog.names_by_object();
        for object in catalog.select(&self.store, filter) {
            output.event(Event::Object(Row {
                digest: object.digest.to_string(),
                kind: object.kind.as_str().to_owned(),
                bytes: object.length,
                stored_bytes: object.stored_bytes,
                last_used: rfc3339(object.last_used),
                in_use: object.is_in_use,
                names: names.remove(&object.digest).unwrap_or_default(),
            }))?;
        }
        Ok(())
    }

    fn verify(&self, filter: &Filter, output: &mut dyn Output) -> Result<(), Error> {
        let catalog = self.catalog();
        let mut names = catalog.names_by_object();
        for object in catalog.select(&self.store, filter) {
            let digest = object.digest.to_string();
            match self.store.verify(&object.digest, |_| true) {
                Verdict::Sound(_) => output.event(Event::Sound {
                    digest,
                    bytes: object.length,
                })?,
                Verdict::Condemned(_) => output.event(Event::Condemned {
                    digest,
                    names: names.remove(&object.digest).unwrap_or_default(),
                })?,
                Verdict::Unknown => {}
            }
        }
        Ok(())
    }

    fn evict(&self, filter: &Filter, output: &mut dyn Output) -> Result<(), Error> {
        let catalog = self.catalog();
        for object in catalog.select(&self.store, filter) {
            let digest = object.digest.to_string();
            if object.is_in_use {
                output.event(Event::InUse { digest })?;
            } else if self.store.remove(&object.digest, Removal::Evicted) {
                output.event(Event::Removed {
                    digest,
                    bytes: object.stored_bytes,
                })?;
            }
        }
        Ok(())
    }

    /// Names go first: a crash in between leaves content that nobody can ask for by name, not names without content.
    fn purge(&self, filter: &Filter, output: &mut dyn Output) -> Result<(), Error> {
        let catalog = self.catalog();
        let names = catalog.select_names(filter);
        let objects = catalog.select_for_purge(&self.store, filter, &names);
        for (key, entry) in &names {
            self.ledger.remove(key)?;
            for digest in catalog.content_of_name_alone(key, entry, &names) {
                self.rights
                    .withdraw(&digest, &repository(&key.registry, &key.repository));
            }
            output.event(Event::Forgotten { name: full_name(key) })?;
        }
        for object in objects {
            self.rights.forget(&object.digest);
            if self.store.remove(&object.digest, Removal::Purged) {
                output.event(Event::Removed {
                    digest: object.digest.to_string(),
                    bytes: object.stored_bytes,
                })?;
            }
        }
        Ok(())
    }
}

fn repository(registry: &str, name: &RepoName) -> Repository {
    Repository {
        registry: registry.into(),
        name: name.clone(),
    }
}

/// To the second.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let timestamp = i64::try_from(seconds)
        .ok()
        .and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    timestamp.unwrap_or_default().to_string()
}
