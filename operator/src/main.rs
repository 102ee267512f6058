//! The `operator` program: reads the command line and hands over to the library.

use std::io;
use std::process::ExitCode;

use clap::Parser as _;
use larder_program::{Exit, fail, log};
use operator::cli::{self, Cli, Command};
use operator::run;

/// What is logged when `RUST_LOG` does not say: our own events, and of the libraries only what went wrong.
const DEFAULT_FILTER: &str = "info,h2=warn,hyper=warn,hyper_util=warn,kube=warn,rustls=warn,tower=warn";

fn main() -> ExitCode {
    // The only one there is; that it is installed already cannot be.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    // Wrong usage ends here, with 2.
    let command = Cli::parse().command;
    let (out, err) = (&mut io::stdout(), &mut io::stderr());
    let exit = match (command, log::init(DEFAULT_FILTER)) {
        (Command::Crd, _) => cli::crd(out),
        (_, Err(error)) => fail(&error, Exit::Usage, err),
        (Command::Run(options), Ok(())) => run::run(options, err),
        (Command::Cleanup(options), Ok(())) => run::cleanup(options, err),
    };
    // The only error is a closed standard output, of which nobody is left to be told.
    exit.unwrap_or(Exit::Failure).into()
}
