//! What the run of all scenarios has to tell at its end: how long each took, and what it asked of the registry.

use std::io::Write as _;
use std::sync::Mutex;
use std::time::Duration;

/// Lines of the report, in the order of the scenarios.
#[derive(Default)]
pub(crate) struct Report(Mutex<Vec<Line>>);

struct Line {
    scenario: String,
    took: Duration,
    manifests: usize,
    blobs: usize,
}

impl Report {
    pub(crate) fn add(&self, scenario: &str, took: Duration, manifests: usize, blobs: usize) {
        self.0.lock().unwrap().push(Line {
            scenario: scenario.to_owned(),
            took,
            manifests,
            blobs,
        });
    }

    /// Prints it, as the last word of the test: past the harness, which shows nothing of tests that pass.
    pub(crate) fn print(&self) {
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "\n{:>8}  {:>9}  {:>6}  scenario",
            "time", "manifests", "blobs"
        )
        .unwrap();
        for line in self.0.lock().unwrap().iter() {
            let Line {
                scenario,
                took,
                manifests,
                blobs,
            } = line;
            let took = took.as_secs_f64();
            writeln!(out, "{took:>7.1}s  {manifests:>9}  {blobs:>6}  {scenario}").unwrap();
        }
    }
}
