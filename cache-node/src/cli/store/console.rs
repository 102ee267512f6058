//! What a person or a program sees of a command: objects as they come, all else at the end.

use std::io::{self, Write};

use larder_program::Exit;

use super::Format;
use super::files::Target;
use super::report::{self, Report};
use crate::store_tools::{Event, Operation, Output};

/// Takes what the tools tell.
pub(super) struct Console<'a> {
    operation: &'a Operation,
    format: Format,
    words: &'a mut dyn Write,
    target: Target<'a>,
    rows: u64,
    report: Report,
}

impl<'a> Console<'a> {
    pub(super) fn new(
        operation: &'a Operation,
        format: Format,
        words: &'a mut dyn Write,
        target: Target<'a>,
    ) -> Self {
        Self {
            operation,
            format,
            words,
            target,
            rows: 0,
            report: Report::default(),
        }
    }

    /// Brings an export to where it should be.
    pub(super) fn close(&mut self) -> io::Result<()> {
        std::mem::replace(&mut self.target, Target::nowhere()).close()
    }

    /// Says what was done.
    pub(super) fn report(&mut self) -> io::Result<Exit> {
        match (self.operation, self.format) {
            (Operation::Stat, _) => {}
            (Operation::List(_), Format::Table) => {
                if self.rows == 0 {
                    writeln!(self.words, "no objects")?;
                }
            }
            (Operation::List(_), Format::Json) => {
                let end = if self.rows == 0 { "[]" } else { "\n]" };
                writeln!(self.words, "{end}")?;
            }
            (operation, Format::Table) => self.words.write_all(self.report.table(operation).as_bytes())?,
            (_, Format::Json) => self.json()?,
        }
        self.words.flush()?;
        Ok(if self.report.is_bad() {
            Exit::Failure
        } else {
            Exit::Success
        })
    }

    fn json(&mut self) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *self.words, &self.report)?;
        writeln!(self.words)
    }
}

impl Output for Console<'_> {
    fn event(&mut self, event: Event) -> io::Result<()> {
        match (event, self.format) {
            (Event::Object(row), Format::Table) => {
                if self.rows == 0 {
                    self.words.write_all(report::header().as_bytes())?;
                }
                self.rows += 1;
                self.words.write_all(report::row(&row).as_bytes())
            }
            (Event::Object(row), Format::Json) => {
                let start = if self.rows == 0 { "[\n" } else { ",\n" };
                self.rows += 1;
                write!(self.words, "{start}{}", serde_json::to_string(&row)?)
            }
            (Event::Stat(stat), Format::Table) => self.words.write_all(report::stat(&stat).as_bytes()),
            (Event::Stat(stat), Format::Json) => {
                writeln!(self.words, "{}", serde_json::to_string_pretty(&stat)?)
            }
            (event, _) => {
                self.report.add(event);
                Ok(())
            }
        }
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.target.write(bytes)
    }
}
