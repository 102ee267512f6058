//! The process around the app: its runtime, its signals, its last words.

use std::io::{self, IsTerminal as _, Write};

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{App, Error, Limits};
use crate::cli::{self, Exit, ServeOptions};

/// Threads that may wait for the disk at once. Hashing, writing and syncing of every fill share them.
const BLOCKING_THREADS_MAX: usize = 128;

/// Serves until SIGTERM or SIGINT. What keeps it from starting is said on `err`.
///
/// # Errors
/// When `err` cannot be written to.
pub fn run(options: ServeOptions, err: &mut impl Write) -> io::Result<Exit> {
    let is_trial = options.config.is_none();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return cli::fail(&error, Exit::Failure, err),
    };
    runtime.block_on(async {
        let app = match App::build(options, Limits::default()).await {
            Ok(app) => app,
            Err(error @ Error::Config(_)) => return cli::fail(&error, Exit::Usage, err),
            Err(error) => return cli::fail(&error, Exit::Failure, err),
        };
        // Somebody tries it out; in a cluster there is a configuration, and nothing but log lines is wanted.
        if is_trial || io::stderr().is_terminal() {
            err.write_all(cli::next_steps(app.addresses().listen).as_bytes())?;
        }
        let shutdown = CancellationToken::new();
        if let Err(error) = cancel_on_signal(&shutdown) {
            return cli::fail(&error, Exit::Failure, err);
        }
        app.run(shutdown).await;
        Ok(Exit::Success)
    })
}

fn cancel_on_signal(shutdown: &CancellationToken) -> io::Result<()> {
    for kind in [SignalKind::terminate(), SignalKind::interrupt()] {
        let (mut signals, shutdown) = (signal(kind)?, shutdown.clone());
        tokio::spawn(async move {
            signals.recv().await;
            shutdown.cancel();
        });
    }
    Ok(())
}
