//! The `operator` program: reads the command line and hands over to the library.

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use operator::cli::{self, Cli, Command, Exit};
use operator::{run, telemetry};

fn main() -> ExitCode {
    // The only one there is; that it is installed already cannot be.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Wrong usage ends here, with 2.
    let command = Cli::parse().command;
    let (out, err) = (&mut io::stdout(), &mut io::stderr());
    let exit = match (command, telemetry::init()) {
        (Command::Crd, _) => cli::crd(out),
        (_, Err(error)) => cli::fail(&error, Exit::Usage, err),
        (Command::Run(options), Ok(())) => run::run(options, err),
        (Command::Cleanup(options), Ok(())) => run::cleanup(options, err),
    };
    // The only error is a closed standard output, of which nobody is left to be told.
    exit.unwrap_or(Exit::Failure).into()
}
