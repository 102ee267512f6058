//! `cache-node store`: what people do with a cache's content. A running cache is asked over the socket in its
//! directory; the directory of a stopped one is opened here.

mod console;
mod files;
mod report;

use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use larder_crds::names::CACHE_MOUNT;
use larder_program::{Exit, fail};
use rustix::process::{Gid, Uid, geteuid};

use crate::config::{Globs, canonical_host, parse_duration};
use crate::oci::Digest;
use crate::rights::{PROOF_TTL, Rights};
use crate::store::{self, Store};
use crate::store_tools::{self, Client, ClientError, Operation, Selection, Tools};
use crate::tags::Ledger;

use console::Console;
use files::{Source, Target};

/// The folder that every cache directory has.
const BLOBS: &str = "blobs";
/// Stands for the standard input and output.
const STANDARD: &str = "-";

/// Which cache, and how to show what it says.
#[derive(Debug, Args)]
pub struct StoreOptions {
    /// Where content is kept.
    #[arg(
        long,
        value_name = "DIR",
        default_value = CACHE_MOUNT,
        env = "LARDER_CACHE_DIR",
        global = true
    )]
    pub cache_dir: PathBuf,
    /// How to show it.
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "table",
        env = "LARDER_OUTPUT",
        global = true
    )]
    pub output: Format,
    /// What to do.
    #[command(subcommand)]
    pub command: StoreCommand,
}

/// For whom the output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// What can be done with content.
#[derive(Debug, Subcommand)]
pub enum StoreCommand {
    /// List objects with the names that lead to them, those used last first.
    Ls(SelectionOptions),
    /// Say how much there is, and how much room.
    Stat,
    /// Hash objects anew. What is not what its digest says is not served any more; then the exit code is 1.
    Verify(SelectionOptions),
    /// Free objects that nobody reads. Their names stay, and they are fetched again when they are asked for.
    Evict(RemovalOptions),
    /// Remove objects with their tags and rights. What another name leads to stays, unless --digest alone names it.
    Purge(RemovalOptions),
    /// Write images out as an OCI image layout, to be imported by another cache or read by other programs.
    Export {
        /// What to export; without anything, all.
        #[command(flatten)]
        selection: SelectionOptions,
        /// A tar to be written, an empty directory, or - for the standard output.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Take in the images of an OCI image layout, each file of which is verified.
    Import {
        /// A tar, a directory, or - for the standard input.
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// Which content. All that is given must fit.
#[derive(Clone, Debug, Default, PartialEq, Eq, Args)]
pub struct SelectionOptions {
    /// What belongs to images of this registry.
    #[arg(long, value_name = "HOST", value_parser = canonical_host)]
    pub registry: Option<String>,
    /// What belongs to images of these repositories: * stays within a segment, ** crosses them.
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    pub repository: Option<String>,
    /// What belongs to images of these tags.
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    pub tag: Option<String>,
    /// The object, and what it names if it is a manifest.
    #[arg(long, value_name = "DIGEST")]
    pub digest: Option<Digest>,
    /// What has not been used for so long, such as 12h or 720h.
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    pub older_than: Option<Duration>,
}

/// Which content is to go.
#[derive(Clone, Debug, PartialEq, Eq, Args)]
pub struct RemovalOptions {
    /// Which content.
    #[command(flatten)]
    pub selection: SelectionOptions,
    /// Everything.
    #[arg(
        long,
        required_unless_present = "SelectionOptions",
        conflicts_with = "SelectionOptions"
    )]
    pub all: bool,
}

fn pattern(text: &str) -> Result<String, String> {
    match Globs::new(&[text.to_owned()]) {
        Ok(_) => Ok(text.to_owned()),
        Err((_, message)) => Err(message),
    }
}

impl From<SelectionOptions> for Selection {
    fn from(options: SelectionOptions) -> Self {
        let milliseconds = |age: Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        Self {
            registry: options.registry,
            repository: options.repository,
            tag: options.tag,
            digest: options.digest.map(|digest| digest.to_string()),
            older_than_ms: options.older_than.map(milliseconds),
        }
    }
}

/// Why nothing could be done.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error("{path} is no cache directory; give one with --cache-dir")]
    NoCache {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot work as the user {uid}, to whom {path} belongs; run it as that user")]
    User {
        uid: u32,
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("cannot open the cache directory")]
    Open(#[source] store::Error),
    #[error("cannot use {path}")]
    File {
        path: String,
        #[source]
        source: io::Error,
    },
    #[error("the output cannot be written")]
    Say(#[source] io::Error),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Tools(#[from] store_tools::Error),
}

impl Error {
    /// Whether all went well but for the taking of what came out.
    fn is_of_output(&self) -> bool {
        matches!(
            self,
            Self::Client(ClientError::Output(_)) | Self::Tools(store_tools::Error::Output(_))
        )
    }
}

/// Does it, and says so on `out`, or on `err` where `out` takes an export.
///
/// # Errors
/// When `out` or `err` cannot be written to.
pub fn run(options: StoreOptions, out: &mut impl Write, err: &mut impl Write) -> io::Result<Exit> {
    let (operation, file) = match options.command {
        StoreCommand::Stat => (Operation::Stat, None),
        StoreCommand::Ls(selection) => (Operation::List(selection.into()), None),
        StoreCommand::Verify(selection) => (Operation::Verify(selection.into()), None),
        StoreCommand::Evict(removal) => (Operation::Evict(removal.selection.into()), None),
        StoreCommand::Purge(removal) => (Operation::Purge(removal.selection.into()), None),
        StoreCommand::Export { selection, file } => (Operation::Export(selection.into()), Some(file)),
        StoreCommand::Import { file } => (Operation::Import, Some(file)),
    };
    match work(
        &operation,
        file.as_deref(),
        &options.cache_dir,
        options.output,
        out,
        err,
    ) {
        Ok(exit) => Ok(exit),
        Err(error @ Error::NoCache { .. }) => fail(&error, Exit::Usage, err),
        Err(error) => fail(&error, Exit::Failure, err),
    }
}

fn work<'a>(
    operation: &Operation,
    file: Option<&Path>,
    directory: &Path,
    format: Format,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
) -> Result<Exit, Error> {
    let no_cache = |source| Error::NoCache {
        path: directory.display().to_string(),
        source,
    };
    if *operation != Operation::Import {
        fs::metadata(directory.join(BLOBS)).map_err(no_cache)?;
    }
    let metadata = fs::metadata(directory).map_err(no_cache)?;
    let client = Client::connect(directory)?;
    let at_file = |source| Error::File {
        path: file.unwrap_or(directory).display().to_string(),
        source,
    };
    // Before this process may become another user, who may not open them.
    let (source, target, words) = match (operation, file) {
        (Operation::Import, Some(file)) => (Source::open(file).map_err(at_file)?, Target::nowhere(), out),
        (_, Some(file)) if file == Path::new(STANDARD) => (Source::nothing(), Target::stream(out), err),
        (_, Some(file)) => (Source::nothing(), Target::open(file).map_err(at_file)?, out),
        (_, None) => (Source::nothing(), Target::nowhere(), out),
    };
    let mut console = Console::new(operation, format, words, target);
    let (input, packing) = source.into_parts();
    let done = match client {
        Some(client) => client.run(operation, input, &mut console).map_err(Error::from),
        None => run_stopped(directory, &metadata, operation, input, &mut console),
    };
    // What goes wrong in a directory is seen at the other end as a tar that is cut short.
    let packed = packing.map_or(Ok(()), files::join);
    if !matches!(&packed, Err(error) if error.kind() == io::ErrorKind::BrokenPipe) {
        packed.map_err(at_file)?;
    }
    let written = console.close();
    match done {
        Err(error) if !error.is_of_output() => return Err(error),
        done => {
            written.map_err(at_file)?;
            done?;
        }
    }
    console.report().map_err(Error::Say)
}

fn run_stopped(
    directory: &Path,
    metadata: &fs::Metadata,
    operation: &Operation,
    mut input: Box<dyn Read + Send>,
    console: &mut Console<'_>,
) -> Result<(), Error> {
    become_owner(metadata).map_err(|source| Error::User {
        uid: metadata.uid(),
        path: directory.display().to_string(),
        source,
    })?;
    let store = Store::open(directory).map_err(Error::Open)?;
    let ledger = Ledger::open(store.layout()).map_err(Error::Open)?;
    // A running cache has learned what its manifests name.
    for manifest in store.manifests() {
        let _ = store.peek_manifest(&manifest);
    }
    let store = Arc::new(store);
    let rights = Rights::open(Arc::clone(&store), PROOF_TTL).map_err(Error::Open)?;
    let tools = Tools::new(store, Arc::new(ledger), Arc::new(rights), false);
    Ok(tools.run(operation, &mut *input, console)?)
}

/// Root works as the user to whom the directory belongs, so that the cache can go on with what is made here. Only this
/// thread does, which makes all of it.
fn become_owner(metadata: &fs::Metadata) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(metadata.uid()), Gid::from_raw(metadata.gid()));
    if !geteuid().is_root() || uid.is_root() {
        return Ok(());
    }
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_gid(gid)?;
    Ok(rustix::thread::set_thread_uid(uid)?)
}
