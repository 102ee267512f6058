//! The `cache-node` program: reads the command line and hands over to the library.

use std::io;
use std::process::ExitCode;

use cache_node::cli::{self, Cli, Command, Exit};
use cache_node::{app, cache_dir, node_config, telemetry};
use clap::Parser as _;

/// musl's own takes three times the processor time for a pull (docs/adr/007-allocator.md).
#[cfg(target_env = "musl")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    // Wrong usage ends here, with 2.
    let command = Cli::parse().command;
    let (out, err) = (&mut io::stdout(), &mut io::stderr());
    let exit = match command {
        Command::Serve(options) => match telemetry::init() {
            Ok(()) => app::run(options, err),
            Err(error) => cli::fail(&error, Exit::Usage, err),
        },
        Command::NodeConfig(options) => match telemetry::init() {
            Ok(()) => node_config::run(options, err),
            Err(error) => cli::fail(&error, Exit::Usage, err),
        },
        Command::Probe { state_dir } => cli::end(node_config::probe(&state_dir), err),
        Command::Prepare { cache_dir } => cli::end(cache_dir::prepare(&cache_dir), err),
        Command::Purge { cache_dir } => cli::purge(&cache_dir, err),
        Command::Check { config } => cli::check(&config, out, err),
        Command::Version => cli::version(out),
    };
    // The only error is a closed standard output, of which nobody is left to be told.
    exit.unwrap_or(Exit::Failure).into()
}
