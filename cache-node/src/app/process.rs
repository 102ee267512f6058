//! The process around the app: its runtime, its signals, its last words.

use std::io::{self, IsTerminal as _, Write};

use larder_program::{Exit, fail, stop_on_signals};

use super::{App, Error, Limits, descriptors};
use crate::cli::{self, ServeOptions};

/// Threads that may wait for the disk at once. Hashing, writing and syncing of every fill share them.
const BLOCKING_THREADS_MAX: usize = 128;

/// Serves until SIGTERM or SIGINT. What keeps it from starting is said on `err`.
///
/// # Errors
/// When `err` cannot be written to.
pub fn run(options: ServeOptions, err: &mut impl Write) -> io::Result<Exit> {
    let is_trial = options.config.is_none();
    let limits = Limits::default().within(descriptors::raise_limit());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, Exit::Failure, err),
    };
    runtime.block_on(async {
        let app = match App::build(options, limits).await {
            Ok(app) => app,
            Err(error @ Error::Config(_)) => return fail(&error, Exit::Usage, err),
            Err(error) => return fail(&error, Exit::Failure, err),
        };
        // Somebody tries it out; in a cluster there is a configuration, and nothing but log lines is wanted.
        if is_trial || io::stderr().is_terminal() {
            err.write_all(cli::next_steps(app.addresses().listen).as_bytes())?;
        }
        let shutdown = match stop_on_signals() {
            Ok(shutdown) => shutdown,
            Err(error) => return fail(&error, Exit::Failure, err),
        };
        app.run(shutdown).await;
        Ok(Exit::Success)
    })
}
