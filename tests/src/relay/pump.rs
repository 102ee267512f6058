//! One direction of a connection: what is read is written later, in the same order.

use std::io;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// How much is read at once.
const PIECE_BYTES_MAX: usize = 64 << 10;

/// How many pieces may be on their way; then no more is read. With pieces of full size, 4 MiB.
const PIECES_MAX: usize = 64;

/// Passes on what comes from `from`, each piece `delay` after it came, then its end. `delivered` counts the bytes.
pub(super) async fn run(
    from: impl AsyncRead + Unpin,
    to: impl AsyncWrite + Unpin,
    delay: &Mutex<Duration>,
    delivered: &AtomicU64,
) -> io::Result<()> {
    let (sender, receiver) = mpsc::channel(PIECES_MAX);
    tokio::try_join!(read(from, sender, delay), write(to, receiver, delivered)).map(drop)
}

/// A piece and when it is due; an empty one is the end.
type Piece = (Instant, Vec<u8>);

async fn read(
    mut from: impl AsyncRead + Unpin,
    pieces: mpsc::Sender<Piece>,
    delay: &Mutex<Duration>,
) -> io::Result<()> {
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES_MAX);
        let is_end = from.read_buf(&mut piece).await? == 0;
        let due = Instant::now() + *delay.lock().unwrap();
        // It fails when the other side broke, which the writer tells.
        if pieces.send((due, piece)).await.is_err() || is_end {
            return Ok(());
        }
    }
}

async fn write(
    mut to: impl AsyncWrite + Unpin,
    mut pieces: mpsc::Receiver<Piece>,
    delivered: &AtomicU64,
) -> io::Result<()> {
    while let Some((due, piece)) = pieces.recv().await {
        sleep_until(due).await;
        if piece.is_empty() {
            return to.shutdown().await;
        }
        to.write_all(&piece).await?;
        delivered.fetch_add(piece.len() as u64, Ordering::Relaxed);
    }
    Ok(())
}

/// Reads and discards until the other end closes or breaks.
pub(super) async fn swallow(from: &mut (impl AsyncRead + Unpin)) {
    let _ = tokio::io::copy(from, &mut tokio::io::sink()).await;
}
