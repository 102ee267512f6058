//! How a program ends, and its last words.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

/// How the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// 0
    Success,
    /// 1: it failed while running.
    Failure,
    /// 2: it was told something wrong, by its arguments or its configuration.
    Usage,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        match exit {
            Exit::Success => Self::SUCCESS,
            Exit::Failure => Self::FAILURE,
            Exit::Usage => Self::from(2),
        }
    }
}

/// Says on `err` why the process cannot go on, with every cause.
///
/// # Errors
/// When `err` cannot be written to.
pub fn fail(error: &dyn Error, exit: Exit, err: &mut impl Write) -> io::Result<Exit> {
    writeln!(err, "{}", chain(error))?;
    Ok(exit)
}

/// How a command ends that does one thing.
///
/// # Errors
/// When `err` cannot be written to.
pub fn end<E: Error>(result: Result<(), E>, err: &mut impl Write) -> io::Result<Exit> {
    match result {
        Ok(()) => Ok(Exit::Success),
        Err(error) => fail(&error, Exit::Failure, err),
    }
}

/// An error with every cause.
pub fn chain(error: &dyn Error) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        // Writing to a string cannot fail.
        let _ = write!(words, ": {error}");
        cause = error.source();
    }
    words
}
