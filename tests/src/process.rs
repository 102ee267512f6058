//! Starting, waiting for, and ending the processes of one test, with what they said kept for the failure message.

use std::fs::File;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::time::timeout;

use crate::wait::until_some;

/// Longest run of a client; far above any honest pull, so that a hang fails the test and not the whole run.
const RUN_WITHIN: Duration = Duration::from_secs(300);
/// How much of a log goes into a failure message.
const LOG_TAIL_BYTES: usize = 8 * 1024;

/// A program that runs until it is dropped. It leads a process group, so that its workers end with it.
#[derive(Debug)]
pub(crate) struct Daemon {
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts `command` with its output appended to the file `log`.
    pub(crate) fn start(mut command: Command, log: PathBuf) -> Result<Self> {
        let output = File::options().create(true).append(true).open(&log)?;
        let child = command
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .with_context(|| format!("cannot start {command:?}"))?;
        Ok(Self { child, log })
    }

    /// Waits until `ready` gives a value. Fails with the log when the program ends first or takes too long.
    pub(crate) async fn up<T>(&mut self, mut ready: impl AsyncFnMut() -> Option<T>) -> Result<T> {
        let Self { child, log } = self;
        let up = until_some(async || {
            let value = ready().await;
            if value.is_none()
                && let Some(status) = child.try_wait()?
            {
                bail!("it ended ({status})");
            }
            Ok(value)
        });
        up.await
            .with_context(|| format!("it did not come up; its log:\n{}", tail(log)))
    }

    /// Waits for the program's end.
    pub(crate) async fn ended(mut self) -> Result<()> {
        let child = &mut self.child;
        until_some(async || Ok(child.try_wait()?)).await?;
        Ok(())
    }

    /// The program's process id.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// All that the program has written to its standard output and error.
    pub(crate) fn log(&self) -> Result<String> {
        Ok(String::from_utf8_lossy(&std::fs::read(&self.log)?).into_owned())
    }
}

impl Drop for Daemon {
    /// Kills hard: nothing that a test started may outlive it, and its directory goes anyway.
    fn drop(&mut self) {
        // Only while the child is not yet reaped does its id surely name the group that we made.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// What a client that ended well has written.
#[derive(Debug)]
pub(crate) struct Output {
    pub(crate) stdout: Vec<u8>,
}

impl Output {
    /// The standard output as text without white space at its ends.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim().to_owned()
    }
}

/// Runs a client to its end; an exit code other than 0 is an error that tells what the client said. Dropping the
/// future kills the client.
pub(crate) async fn run(command: Command) -> Result<Output> {
    let shown = format!("{command:?}");
    let mut command = tokio::process::Command::from(command);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let output = timeout(RUN_WITHIN, command.output())
        .await
        .with_context(|| format!("{shown} did not end within {RUN_WITHIN:?}"))?
        .with_context(|| format!("cannot start {shown}"))?;
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    ensure!(
        output.status.success(),
        "{shown} failed ({})\n{}{}",
        output.status,
        last_bytes(&said),
        last_bytes(&complained)
    );
    Ok(Output {
        stdout: output.stdout,
    })
}

fn tail(log: &Path) -> String {
    match std::fs::read(log) {
        Ok(bytes) => last_bytes(&String::from_utf8_lossy(&bytes)).to_owned(),
        Err(error) => format!("{}: {error}", log.display()),
    }
}

fn last_bytes(text: &str) -> &str {
    &text[text.ceil_char_boundary(text.len().saturating_sub(LOG_TAIL_BYTES))..]
}
