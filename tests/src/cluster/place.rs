//! A cluster's place on this machine: the number from which its addresses, interfaces, cgroups and directory follow.
//!
//! A janitor process holds the place and gives it back when the process that started the cluster ends, even by
//! `kill -9`: see `scripts/janitor.sh`.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Stdio};

use anyhow::{Context as _, Result, bail};

use super::machine::script;

/// Clusters that can run at once on one machine.
const PLACES: u8 = 16;
/// Exit code of a janitor that finds its place taken.
const TAKEN: i32 = 75;
/// Where clusters live: on a real disk, because containerd's file systems do.
pub const CLUSTERS_DIR: &str = "/var/tmp/larder-clusters";

/// A place that this process holds until the value is dropped or the process ends.
#[derive(Debug)]
pub(super) struct Place {
    number: u8,
    dir: PathBuf,
    janitor: Child,
    /// Its end tells the janitor to clean up.
    held: Option<ChildStdin>,
}

impl Place {
    /// Takes the first free place, and cleans what an earlier cluster left there.
    pub(super) fn take() -> Result<Self> {
        for number in 0..PLACES {
            if let Some(place) = Self::try_take(number)? {
                return Ok(place);
            }
        }
        bail!("all {PLACES} places for clusters are taken: see {CLUSTERS_DIR}")
    }

    fn try_take(number: u8) -> Result<Option<Self>> {
        let dir = Path::new(CLUSTERS_DIR).join(number.to_string());
        let mut janitor = script("janitor.sh", include_str!("scripts/janitor.sh"));
        janitor
            .arg(&dir)
            .arg(cgroup_prefix(number))
            .arg(interface(number));
        let mut janitor = janitor
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // A Ctrl-C in the terminal is for the cluster; the janitor is needed after it.
            .process_group(0)
            .spawn()
            .context("cannot start bash")?;
        let held = janitor.stdin.take();
        let mut line = String::new();
        BufReader::new(janitor.stdout.take().context("no output")?).read_line(&mut line)?;
        if line == "ready\n" {
            return Ok(Some(Self {
                number,
                dir,
                janitor,
                held,
            }));
        }
        match janitor.wait()?.code() {
            Some(TAKEN) => Ok(None),
            _ => bail!("the janitor of {} did not start", dir.display()),
        }
    }

    /// The directory of all that the cluster writes.
    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// The directory of the components' logs.
    pub(super) fn logs(&self) -> PathBuf {
        self.dir.join("logs")
    }

    /// An address in the cluster's network of machines, 10.77.NUMBER.0/24.
    pub(super) fn address(&self, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, last)
    }

    /// The interface through which this machine takes part in that network.
    pub(super) fn interface(&self) -> String {
        interface(self.number)
    }

    /// The cgroup under which a node's containers live, without the leading `/`.
    pub(super) fn cgroup(&self, machine: &str) -> String {
        format!("{}{machine}", cgroup_prefix(self.number))
    }

    /// Keeps the logs when all else is removed.
    pub(super) fn keep_logs(&self) {
        let _ = File::create(self.dir.join("keep-logs"));
    }
}

fn interface(number: u8) -> String {
    format!("larder{number}")
}

fn cgroup_prefix(number: u8) -> String {
    format!("larder-{number}-")
}

impl Drop for Place {
    /// Waits for the janitor, so that nothing is left when a test has ended. The machines must have ended before.
    fn drop(&mut self) {
        self.held = None;
        let _ = self.janitor.wait();
    }
}
