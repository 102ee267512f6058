//! Where the log goes and how it looks: text for a person at a terminal, JSON for everything else.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::TryInitError;

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `RUST_LOG` cannot be read as a filter.
    #[error("RUST_LOG is no log filter: {0}")]
    Filter(#[from] ParseError),
    /// The process has a log already.
    #[error("the log is set up already")]
    Twice(#[from] TryInitError),
}

/// Sends the log to standard error, as `RUST_LOG` (such as `debug` or `info,cache_node::fill=trace`) filters it, or
/// `default_filter` where it does not say.
///
/// # Errors
/// [`Error::Filter`] when `RUST_LOG` is wrong, [`Error::Twice`] when called again.
pub fn init(default_filter: &str) -> Result<(), Error> {
    let directives = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let filter = match directives.as_str() {
        "" => EnvFilter::try_new(default_filter)?,
        directives => EnvFilter::try_new(directives)?,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr);
    if io::stderr().is_terminal() {
        init_with(builder.finish())
    } else {
        init_with(
            builder
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .finish(),
        )
    }
}

fn init_with(subscriber: impl tracing_subscriber::util::SubscriberInitExt) -> Result<(), Error> {
    Ok(subscriber.try_init()?)
}
