//! Plays a reply's body in time: pieces, pauses, rate and the cut, the same for HTTP/1.1 and HTTP/2.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::{Instant, sleep, sleep_until};

use super::reply::{Body, Ending, Reply};

/// The largest piece written at once.
const PIECE_BYTES_MAX: u64 = 64 << 10;

/// A limited rate is kept by this many pieces per second.
const PIECES_PER_S: u64 = 50;

/// What comes next in a body.
pub(super) enum Play {
    Data(Bytes),
    End(Ending),
}

/// A body being sent.
pub(super) struct Playback {
    body: Body,
    sent: u64,
    cut: Option<(u64, Ending)>,
    pauses: Vec<(u64, Duration)>,
    rate: Option<u64>,
    started: Option<Instant>,
}

impl Playback {
    pub(super) fn new(reply: &Reply) -> Self {
        let mut pauses = reply.pauses.clone();
        pauses.sort_unstable_by_key(|(at, _)| std::cmp::Reverse(*at));
        Self {
            body: reply.body.clone(),
            sent: 0,
            cut: reply.cut,
            pauses,
            rate: reply.rate,
            started: None,
        }
    }

    /// The next piece. Waits where the reply says so.
    pub(super) async fn next(&mut self) -> Play {
        while let Some((_, pause)) = self.pauses.pop_if(|(at, _)| *at <= self.sent) {
            sleep(pause).await;
        }
        let (limit, ending) = match self.cut {
            Some((at, ending)) => (at.min(self.body.total()), ending),
            None => (self.body.total(), Ending::Complete),
        };
        if self.sent >= limit {
            return Play::End(ending);
        }
        let next_pause = self.pauses.last().map_or(limit, |(at, _)| *at);
        let mut piece = PIECE_BYTES_MAX.min(limit - self.sent).min(next_pause - self.sent);
        if let Some(rate) = self.rate {
            piece = piece.min((rate / PIECES_PER_S).max(1));
            let started = *self.started.get_or_insert_with(Instant::now);
            sleep_until(started + Duration::from_secs_f64(self.sent as f64 / rate as f64)).await;
        }
        let bytes = self.body.read(self.sent, piece as usize);
        self.sent += bytes.len() as u64;
        Play::Data(bytes)
    }
}
