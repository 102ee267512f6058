//! A failed test tells where the logs of its cluster are, and they are still there.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use super::place::Place;

/// Directories of the clusters that run in this process.
static RUNNING: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

/// While this lives, a panic anywhere in the process keeps the logs of a cluster, and names them.
#[derive(Debug)]
pub(super) struct NamesLogs(PathBuf);

impl NamesLogs {
    pub(super) fn of(place: &Place) -> Self {
        static HOOK: Once = Once::new();
        HOOK.call_once(|| {
            let earlier = std::panic::take_hook();
            std::panic::set_hook(Box::new(move |panic| {
                earlier(panic);
                running().iter().for_each(|dir| keep_logs(dir));
            }));
        });
        running().push(place.dir().to_owned());
        Self(place.dir().to_owned())
    }
}

impl Drop for NamesLogs {
    fn drop(&mut self) {
        running().retain(|dir| *dir != self.0);
    }
}

fn running() -> MutexGuard<'static, Vec<PathBuf>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[expect(
    clippy::print_stderr,
    reason = "it belongs to the panic's message, which is there too"
)]
fn keep_logs(dir: &Path) {
    match std::fs::write(dir.join("keep-logs"), "") {
        Ok(()) => eprintln!("logs of the cluster: {}", dir.join("logs").display()),
        Err(error) => eprintln!(
            "the logs of the cluster in {} cannot be kept: {error}",
            dir.display()
        ),
    }
}
