//! The `cache-node` program: reads the command line and hands over to the library.

use std::io;
use std::process::ExitCode;

use cache_node::cli::{self, Cli, Command, Exit};
use clap::Parser as _;

fn main() -> ExitCode {
    // Wrong usage ends here, with 2.
    let command = Cli::parse().command;
    let exit = match command {
        Command::Serve(_) => Ok(Exit::Failure),
        Command::Check { config } => cli::check(&config, &mut io::stdout().lock(), &mut io::stderr().lock()),
        Command::Version => cli::version(&mut io::stdout().lock()),
    };
    // The only error is a closed standard output, of which nobody is left to be told.
    exit.unwrap_or(Exit::Failure).into()
}
