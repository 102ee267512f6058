//! Ending when told to. PID 1 of a container has no default actions: what it does not handle, it never notices.
//! And it inherits the orphans of its namespace, which stay as zombies until it asks for them.

use std::io;

use rustix::process::{WaitOptions, wait};
use signal_hook::consts::{SIGCHLD, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

/// SIGTERM and SIGINT, from the time of its making on.
pub(crate) struct Stop(Signals);

impl Stop {
    pub(crate) fn register() -> io::Result<Self> {
        Signals::new([SIGTERM, SIGINT, SIGCHLD]).map(Self)
    }

    /// Returns when the process is told to stop; until then, takes what other processes leave behind.
    pub(crate) fn wait(mut self) {
        // Some may have ended before the signals were registered.
        reap();
        for signal in self.0.forever() {
            match signal {
                SIGCHLD => reap(),
                _ => return,
            }
        }
    }
}

fn reap() {
    while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
}
