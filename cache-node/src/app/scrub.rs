//! Drives the scrub of the store: on a thread of its own that yields to everybody else, and at a capped rate.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::store::{Store, Verdict};

/// How much the scrub may take of the disk.
#[derive(Clone, Copy, Debug)]
pub struct ScrubLimits {
    /// The most that it reads, in bytes per second.
    pub bytes_per_s: u64,
    /// The least time from the beginning of one round to that of the next.
    pub round: Duration,
}

impl Default for ScrubLimits {
    /// 50 GiB are seen in three and a half hours, once a day.
    fn default() -> Self {
        Self {
            bytes_per_s: 4 << 20,
            round: Duration::from_hours(24),
        }
    }
}

/// The lowest that there is: with it goes the lowest priority for the disk (ioprio_set(2)).
const NICENESS: i32 = 19;
/// How often is noted how far the round is.
const NOTE_PERIOD: Duration = Duration::from_secs(10);

/// The scrub goes on while this lives.
#[must_use = "dropped at once, nothing is scrubbed"]
pub(super) struct Running {
    _stop: Sender<()>,
}

/// Starts the scrub of `store`.
pub(super) fn start(store: Arc<Store>, limits: ScrubLimits) -> Running {
    let (stop, stopped) = mpsc::channel();
    let started = thread::Builder::new().name("scrub".to_owned()).spawn(move || {
        // On Linux this is the thread's own.
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            tracing::debug!(%error, "the scrub runs at the priority of everything else");
        }
        run(&store, limits, &stopped);
    });
    if let Err(error) = started {
        tracing::warn!(%error, "stored content is not scrubbed");
    }
    Running { _stop: stop }
}

fn run(store: &Store, limits: ScrubLimits, stopped: &Receiver<()>) {
    loop {
        let began = Instant::now();
        let mut pace = Pace::new(limits.bytes_per_s, stopped);
        let mut round = store.begin_scrub();
        let (mut noted, mut sound, mut condemned) = (Instant::now(), 0, 0);
        while let Some(verdict) = store.scrub_next(&mut round, |bytes| pace.took(bytes)) {
            match verdict {
                Verdict::Sound(_) => sound += 1,
                Verdict::Condemned(_) => condemned += 1,
                Verdict::Unknown => {}
            }
            if noted.elapsed() >= NOTE_PERIOD || pace.is_over {
                noted = Instant::now();
                let _ = store.note_scrub(&round);
            }
            if pace.is_over {
                return;
            }
        }
        let _ = store.note_scrub(&round);
        tracing::info!(
            sound,
            condemned,
            seconds = began.elapsed().as_secs(),
            "all stored content was hashed anew"
        );
        if is_over(stopped, limits.round.saturating_sub(began.elapsed())) {
            return;
        }
    }
}

/// Waits; true if the scrub is to end.
fn is_over(stopped: &Receiver<()>, wait: Duration) -> bool {
    stopped.recv_timeout(wait) != Err(RecvTimeoutError::Timeout)
}

/// Keeps to a rate by waiting after each step for as long as it should have taken.
struct Pace<'a> {
    bytes_per_s: u64,
    stopped: &'a Receiver<()>,
    last: Instant,
    is_over: bool,
}

impl<'a> Pace<'a> {
    fn new(bytes_per_s: u64, stopped: &'a Receiver<()>) -> Self {
        Self {
            bytes_per_s: bytes_per_s.max(1),
            stopped,
            last: Instant::now(),
            is_over: false,
        }
    }

    /// False when the scrub is to end.
    fn took(&mut self, bytes: u64) -> bool {
        let due = Duration::from_secs(1).mul_f64(bytes as f64 / self.bytes_per_s as f64);
        self.is_over = is_over(self.stopped, due.saturating_sub(self.last.elapsed()));
        self.last = Instant::now();
        !self.is_over
    }
}
