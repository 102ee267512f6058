//! A machine of the cluster: a network, mount and PID namespace with a first process whose end is the machine's end.
//!
//! So `kill -9` of that process is a power cut, and a test process that dies takes its machines with it, because their
//! first processes then see the end of their standard input.

use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use tempfile::NamedTempFile;

use crate::process::{Daemon, Output, run};

/// Directories of programs that every machine has from the distribution.
const SYSTEM_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A `bash` that runs one of this module's scripts, which is passed as text: the crate needs no files at run time.
pub(super) fn script(name: &str, text: &str) -> Command {
    let mut command = Command::new("bash");
    command.args(["-c", text, name]);
    command
}

/// A running machine. Dropping it is a power cut.
#[derive(Debug)]
pub(super) struct Machine {
    /// `unshare`, which waits for the first process.
    keeper: Child,
    /// The first process, as the machine around numbers it.
    first: Pid,
    /// The same, but never another that got its number later.
    first_fd: OwnedFd,
    /// Its end is the machine's end.
    _power: ChildStdin,
    dir: PathBuf,
    path: String,
}

impl Machine {
    /// Starts a machine with its files in `dir`; `programs` are directories that come first in its `PATH`.
    pub(super) fn start(dir: &Path, log: &Path, programs: &[PathBuf]) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let mut command = Command::new("unshare");
        command
            .args([
                "--mount",
                "--net",
                "--pid",
                "--fork",
                "--kill-child",
                "--mount-proc",
            ])
            .args(["--propagation", "private", "--"])
            .args(["bash", "-c", include_str!("scripts/machine.sh"), "machine.sh"])
            .arg(dir);
        let mut keeper = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::options().create(true).append(true).open(log)?)
            .process_group(0)
            .spawn()
            .context("cannot start unshare")?;
        let power = keeper.stdin.take().context("no input")?;
        let mut line = String::new();
        BufReader::new(keeper.stdout.take().context("no output")?).read_line(&mut line)?;
        ensure!(
            line == "ready\n",
            "the machine did not start: see {}",
            log.display()
        );
        let first = only_child(keeper.id())?;
        let first_fd = pidfd_open(first, PidfdFlags::empty())?;
        let mut path: Vec<String> = programs.iter().map(|dir| dir.display().to_string()).collect();
        path.push(SYSTEM_PATH.to_owned());
        Ok(Self {
            keeper,
            first,
            first_fd,
            _power: power,
            dir: dir.to_owned(),
            path: path.join(":"),
        })
    }

    /// The process id to name this machine's namespaces by.
    pub(super) fn pid(&self) -> u32 {
        self.first.as_raw_nonzero().get().unsigned_abs()
    }

    /// `path` in this machine, as other processes can open it.
    pub(super) fn inside(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.pid()))
    }

    /// `path` of a directory or file that the machine has for itself (see `scripts/machine.sh`); it outlives the machine.
    pub(super) fn own(&self, path: &str) -> PathBuf {
        own(&self.dir, path)
    }

    /// A command in this machine's namespaces with a clean environment; arguments are added by the caller.
    pub(super) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .args([
                "--mount",
                "--net",
                "--pid",
                "--target",
                &self.pid().to_string(),
                "--",
            ])
            .args(["env", "--ignore-environment", "HOME=/root"])
            .arg(format!("PATH={}", self.path))
            .arg(program);
        command
    }

    /// Runs a program in this machine to its end.
    pub(super) async fn run(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        let mut command = self.command(program);
        command.args(arguments);
        run(command).await
    }

    /// Runs `ip` with one command per line.
    pub(super) async fn ip(&self, commands: &str) -> Result<()> {
        let mut batch = NamedTempFile::new_in(&self.dir)?;
        batch.write_all(commands.as_bytes())?;
        let mut command = self.command("ip");
        command.arg("-batch").arg(batch.path());
        run(command).await.with_context(|| commands.to_owned())?;
        Ok(())
    }

    /// Cuts the power without waiting for the end.
    pub(super) fn cut_power(&self) {
        let _ = pidfd_send_signal(&self.first_fd, Signal::KILL);
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.cut_power();
        // The kernel lets the first process end last, so after this the machine is gone.
        let _ = self.keeper.wait();
    }
}

/// `path` of a directory or file that the machine with its files in `dir` has for itself.
pub(super) fn own(dir: &Path, path: &str) -> PathBuf {
    dir.join(format!("root{path}"))
}

/// A program of a machine that runs until it is stopped.
#[derive(Debug)]
pub(super) struct Service {
    daemon: Daemon,
    name: String,
    pub(super) started: Timestamp,
}

impl Service {
    /// Starts `command`, which [`Machine::command`] made, with its output appended to `log`.
    pub(super) fn start(name: &str, command: Command, log: PathBuf) -> Result<Self> {
        let daemon = Daemon::start(command, log)?;
        Ok(Self {
            daemon,
            name: name.to_owned(),
            started: Timestamp::now(),
        })
    }

    /// Waits until `ready` gives a value. Fails with the log when the program ends first or takes too long.
    pub(super) async fn up<T>(&mut self, ready: impl AsyncFnMut() -> Option<T>) -> Result<T> {
        self.daemon.up(ready).await.with_context(|| self.name.clone())
    }

    /// Asks the program to end and waits until it has.
    pub(super) async fn stop(self) -> Result<()> {
        kill_process(only_child(self.daemon.pid())?, Signal::TERM)?;
        self.daemon
            .ended()
            .await
            .with_context(|| format!("{} did not end on SIGTERM", self.name))
    }
}

/// The child of `nsenter` or `unshare`, which fork once and wait.
fn only_child(parent: u32) -> Result<Pid> {
    let children = std::fs::read_to_string(format!("/proc/{parent}/task/{parent}/children"))?;
    let child = children
        .split_whitespace()
        .next()
        .and_then(|pid| pid.parse().ok());
    child
        .and_then(Pid::from_raw)
        .context("the program has not started")
}
