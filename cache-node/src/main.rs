//! The `cache-node` program: reads the command line and hands over to the library.

use std::io;
use std::process::ExitCode;

use cache_node::cli::{self, Cli, Command};
use cache_node::{app, cache_dir, node_config};
use clap::Parser as _;
use larder_program::{Exit, end, fail, log};

/// What is logged when `RUST_LOG` does not say: our own events, and of the HTTP libraries only what went wrong.
const DEFAULT_FILTER: &str = "info,h2=warn,hyper=warn,hyper_util=warn,reqwest=warn,rustls=warn";

/// musl's own takes three times the processor time for a pull (docs/adr/007-allocator.md).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Wrong usage ends here, with 2.
    let command = Cli::parse().command;
    let (out, err) = (&mut io::stdout(), &mut io::stderr());
    let exit = match command {
        Command::Serve(options) => match log::init(DEFAULT_FILTER) {
            Ok(()) => app::run(options, err),
            Err(error) => fail(&error, Exit::Usage, err),
        },
        Command::NodeConfig(options) => match log::init(DEFAULT_FILTER) {
            Ok(()) => node_config::run(options, err),
            Err(error) => fail(&error, Exit::Usage, err),
        },
        Command::Probe { state_dir } => end(node_config::probe(&state_dir), err),
        Command::Prepare { cache_dir } => end(cache_dir::prepare(&cache_dir), err),
        Command::Purge { cache_dir } => cli::purge(&cache_dir, err),
        Command::Store(options) => cli::store(options, out, err),
        Command::Check { config } => cli::check(&config, out, err),
        Command::Version => cli::version(out),
    };
    // The only error is a closed standard output, of which nobody is left to be told.
    exit.unwrap_or(Exit::Failure).into()
}
