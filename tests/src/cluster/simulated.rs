//! A cluster whose nodes are objects and nothing else: the test makes and patches them, and answers at their addresses,
//! all of which lead to the control plane's machine. So one machine can have thousands.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Cluster;
use super::control_plane::Controllers;
use crate::process::Daemon;

/// A program that runs in the control plane's machine until it is dropped, which kills it.
#[derive(Debug)]
pub struct Program(Daemon);

impl Cluster {
    /// Starts a control plane that leaves nodes and DaemonSets to the test.
    ///
    /// # Errors
    /// As [`Self::with_nodes`].
    pub async fn simulated() -> Result<Self> {
        Self::start_with(&[], Controllers::ForSimulatedNodes).await
    }

    /// Makes all addresses of `range` this control plane's own.
    ///
    /// # Errors
    /// With what `ip` said.
    pub async fn own_addresses(&self, range: &str) -> Result<()> {
        let machine = &self.site.control_plane.machine;
        machine.ip(&format!("route add local {range} dev lo\n")).await
    }

    /// Listens in the control plane's network.
    ///
    /// # Errors
    /// Where the network cannot be entered or the address is taken.
    pub fn listen(&self, address: SocketAddr) -> Result<TcpListener> {
        let network = File::open(format!("/proc/{}/ns/net", self.site.control_plane.machine.pid()))?;
        // Its thread moves, and a socket stays where it was made.
        let listening = thread::spawn(move || -> Result<TcpListener> {
            move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))
        });
        listening
            .join()
            .map_err(|_| anyhow!("the listening thread panicked"))?
    }

    /// Starts a program in the control plane's machine, with [`Self::kubeconfig`] as its own; it logs to a file of this
    /// name.
    ///
    /// # Errors
    /// Where it cannot be started.
    pub fn run(&self, name: &str, program: &Path, arguments: &[&str]) -> Result<Program> {
        let mut command = self.site.control_plane.machine.command("env");
        command
            .arg(format!("KUBECONFIG={}", self.kubeconfig().display()))
            .arg(program)
            .args(arguments);
        Daemon::start(command, self.logs().join(format!("{name}.log"))).map(Program)
    }
}

impl Program {
    /// The most memory that it has ever used, in bytes.
    ///
    /// # Errors
    /// Where it has ended.
    pub fn memory_bytes_max(&self) -> Result<u64> {
        // `nsenter` waits for the program, whose number the machine around sees as that of its child.
        let keeper = self.0.pid();
        let children = std::fs::read_to_string(format!("/proc/{keeper}/task/{keeper}/children"))?;
        let program = children.trim();
        let status = std::fs::read_to_string(format!("/proc/{program}/status"))?;
        let mut lines = status.lines();
        let line = lines
            .find_map(|line| line.strip_prefix("VmHWM:"))
            .context("no VmHWM")?;
        let kib = line.trim().trim_end_matches(" kB").parse::<u64>()?;
        Ok(kib << 10)
    }
}
