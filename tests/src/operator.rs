//! Runs the real `operator` program of this build against a cluster.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::client::Call;
use crate::process::Daemon;
use crate::program;

/// A running `operator run`. Dropping it kills it.
#[derive(Debug)]
pub struct OperatorProcess {
    daemon: Daemon,
    admin: u16,
}

impl OperatorProcess {
    /// Starts it as `identity` with this kubeconfig and these flags about its caches; it logs to a file named after it in
    /// `logs`. Waits until it is live, not until it is ready.
    ///
    /// # Errors
    /// With its log when it ends or does not come up.
    pub async fn start(identity: &str, kubeconfig: &Path, caches: &[String], logs: &Path) -> Result<Self> {
        let admin = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
        let mut command = command(kubeconfig);
        command.args(["run", "--identity", identity]).args(caches);
        command.arg(format!("--admin=127.0.0.1:{admin}"));
        let mut daemon = Daemon::start(command, logs.join(format!("{identity}.log")))?;
        daemon
            .up(async || asked(admin, "livez").await.filter(|(status, _)| *status == 200))
            .await
            .context(identity.to_owned())?;
        Ok(Self { daemon, admin })
    }

    /// Status and body of `/readyz`; nothing when it does not answer.
    pub async fn readyz(&self) -> Option<(u16, String)> {
        asked(self.admin, "readyz").await
    }

    /// `/metrics` as text; empty when it does not answer.
    pub async fn metrics(&self) -> String {
        asked(self.admin, "metrics").await.unwrap_or_default().1
    }

    /// Ends it as `kill -9` does.
    pub fn kill(self) {
        drop(self);
    }

    /// Sends SIGTERM and waits for its end.
    ///
    /// # Errors
    /// When it does not end within a minute.
    pub async fn terminate(self) -> Result<()> {
        let pid = i32::try_from(self.daemon.pid())?;
        kill_process(Pid::from_raw(pid).context("a process id")?, Signal::TERM)?;
        self.daemon.ended().await
    }
}

/// `operator cleanup`, to be run with these flags about its caches.
pub fn cleanup(kubeconfig: &Path, caches: &[String], timeout: &str) -> Command {
    let mut command = command(kubeconfig);
    command.args(["cleanup", "--timeout", timeout]).args(caches);
    command
}

fn command(kubeconfig: &Path) -> Command {
    let mut command = Command::new(program::operator());
    command.env("KUBECONFIG", kubeconfig);
    command
}

async fn asked(port: u16, what: &str) -> Option<(u16, String)> {
    let answer = Call::get(&format!("http://127.0.0.1:{port}/{what}"))
        .try_send()
        .await;
    answer.ok().map(|answer| (answer.status, answer.text()))
}
