//! What benchmarks have in common.

use std::fmt;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

/// Builds the `cache-node` program in the benchmark's own profile: Cargo builds what a benchmark depends on, but not a
/// program that it starts.
///
/// # Errors
/// It does not build, or Cargo did not start the benchmark.
pub fn build_cache_node() -> Result<()> {
    let cargo = std::env::var_os("CARGO").context("run this by `cargo bench`")?;
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "-p", "cache-node"]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    ensure!(command.status()?.success(), "cache-node does not build");
    Ok(())
}

/// Prints a line, or several.
#[expect(clippy::print_stdout, reason = "a benchmark is run to be read")]
pub fn show(text: &str) {
    println!("{text}");
}

/// Samples of one figure: shown as their median and, where they differ, the least and the greatest.
#[derive(Clone, Debug, Default)]
pub struct Spread(Vec<f64>);

impl Spread {
    /// Adds a sample.
    pub fn add(&mut self, sample: f64) {
        self.0.push(sample);
        self.0.sort_by(f64::total_cmp);
    }

    /// The middle one; NaN without any.
    pub fn median(&self) -> f64 {
        self.0.get(self.0.len() / 2).copied().unwrap_or(f64::NAN)
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = f.precision().unwrap_or(2);
        write!(f, "{:.decimals$}", self.median())?;
        match (self.0.first(), self.0.last()) {
            (Some(least), Some(greatest)) if least < greatest => {
                write!(f, " [{least:.decimals$}–{greatest:.decimals$}]")
            }
            _ => Ok(()),
        }
    }
}
