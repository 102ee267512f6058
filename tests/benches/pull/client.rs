//! The measuring client: reads 32 KiB at a time, as Go's `io.Copy` in containerd does, and keeps nothing.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use larder_tests::digest::Sha256Stream;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::sleep_until;

const READ_BYTES: usize = 32 << 10;
const HEADERS_MAX: usize = 64;

/// What is done with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Nothing.
    Discard,
    /// It is hashed, as every runtime does, and the digest must be the one in the URL.
    Hash,
    /// Nothing, slowly, and only its beginning.
    Slow {
        /// How fast.
        bytes_per_s: u64,
        /// How much of it.
        bytes: u64,
    },
}

/// One body that came whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    /// When its first byte was there.
    pub(crate) first_byte: Instant,
    /// From connecting to the last byte.
    pub(crate) elapsed: Duration,
}

/// Gets a blob over a connection of its own.
///
/// # Errors
/// Where the answer is no 200 with a length, comes short, or has another digest.
pub(crate) async fn get(url: &str, mode: Mode) -> Result<Taken> {
    let started = Instant::now();
    let (host, target) = url
        .strip_prefix("http://")
        .and_then(|rest| rest.split_once('/'))
        .context("a URL")?;
    let mut stream = TcpStream::connect(host).await?;
    let request = format!("GET /{target} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut buffer = vec![0; READ_BYTES];
    let (length, mut piece) = read_head(&mut stream, &mut buffer)
        .await
        .with_context(|| url.to_owned())?;
    let length = match mode {
        Mode::Slow { bytes, .. } => length.min(bytes),
        Mode::Discard | Mode::Hash => length,
    };
    let mut hash = Sha256Stream::default();
    let mut first_byte = None;
    let mut taken = 0;
    while taken < length {
        if piece.is_empty() {
            let count = stream.read(&mut buffer).await?;
            ensure!(count > 0, "{url} ended after {taken} of {length} bytes");
            piece = 0..count;
        }
        first_byte.get_or_insert_with(Instant::now);
        taken += piece.len() as u64;
        match mode {
            Mode::Discard => {}
            Mode::Hash => hash.update(&buffer[piece.clone()]),
            Mode::Slow { bytes_per_s, .. } => {
                let due = Duration::from_secs_f64(taken as f64 / bytes_per_s as f64);
                sleep_until((started + due).into()).await;
            }
        }
        piece = 0..0;
    }
    let elapsed = started.elapsed();
    if mode == Mode::Hash {
        let digest = hash.finish();
        ensure!(url.contains(&digest), "{url} has the digest {digest}");
    }
    let first_byte = first_byte.context("an empty body")?;
    Ok(Taken { first_byte, elapsed })
}

/// The body's length, and where in `buffer` its first bytes are.
async fn read_head(stream: &mut TcpStream, buffer: &mut [u8]) -> Result<(u64, std::ops::Range<usize>)> {
    let mut filled = 0;
    loop {
        let count = stream.read(&mut buffer[filled..]).await?;
        ensure!(count > 0, "no whole head");
        filled += count;
        let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut head = httparse::Response::new(&mut lines);
        let httparse::Status::Complete(end) = head.parse(&buffer[..filled])? else {
            continue;
        };
        ensure!(head.code == Some(200), "status {:?}", head.code);
        let length = head
            .headers
            .iter()
            .find(|line| line.name.eq_ignore_ascii_case("Content-Length"));
        let length = std::str::from_utf8(length.context("no Content-Length")?.value)?.parse()?;
        return Ok((length, end..filled));
    }
}
