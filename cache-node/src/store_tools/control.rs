//! The Unix socket in the cache directory on which a running cache does what the tools are asked for.
//!
//! A request is a line of JSON that says what to do, followed by the archive of an import; the answer is a line of
//! JSON per event. Only the directory's owner and root can connect.

use std::io::{self, Read};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use bytes::{Buf as _, Bytes, BytesMut};
use http::StatusCode;
use http_body_util::BodyExt as _;
use larder_program::chain;
use rustix::fs::{AtFlags, Mode, OFlags, Stat};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;

use super::event::{Event, Output, encode};
use super::{Operation, Tools};

/// The socket's name in the cache directory.
pub const SOCKET_NAME: &str = "control.sock";
/// Where operations are asked for.
pub(super) const OPERATIONS_PATH: &str = "/v1/operations";

/// Operations at once: each takes a thread, and the disk's time from pulls.
const OPERATIONS_MAX: usize = 4;
/// The longest line that says what to do.
const REQUEST_LINE_BYTES_MAX: usize = 64 << 10;
/// So much of an answer is gathered before it is sent.
const ANSWER_CHUNK_BYTES: usize = 64 << 10;
/// So many chunks wait for whoever is slower.
const CHUNKS_WAITING_MAX: usize = 4;
const DIRECTORY_MODE: Mode = Mode::RWXU;
const SOCKET_MODE: Mode = Mode::RUSR.union(Mode::WUSR);

/// The socket, bound. It is removed when this is dropped.
#[derive(Debug)]
pub struct ControlSocket {
    listener: UnixListener,
    directory: OwnedFd,
    identity: (u64, u64),
}

/// A path in an open directory that is short enough for a socket's address, however long the directory's own is.
pub(super) fn short_path(directory: &OwnedFd, name: &str) -> String {
    format!("/proc/self/fd/{}/{name}", directory.as_raw_fd())
}

pub(super) fn open_directory(directory: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(directory, flags, Mode::empty())?)
}

impl ControlSocket {
    /// Binds the socket of a cache directory that this process holds, and so replaces one that a dead process left. It
    /// is made in a directory that nobody else may enter, and appears under its name with its final mode. Blocks.
    ///
    /// # Errors
    /// The file system takes no socket.
    pub fn bind(directory: &Path) -> io::Result<Self> {
        let directory = open_directory(directory)?;
        let private = format!("tmp/control-{:016x}", fastrand::u64(..));
        rustix::fs::mkdirat(&directory, &private, DIRECTORY_MODE)?;
        let bound = Self::bind_in(&directory, &format!("{private}/{SOCKET_NAME}"));
        rustix::fs::unlinkat(&directory, &private, AtFlags::REMOVEDIR)?;
        let (listener, identity) = bound?;
        Ok(Self {
            listener,
            directory,
            identity,
        })
    }

    fn bind_in(directory: &OwnedFd, private: &str) -> io::Result<(UnixListener, (u64, u64))> {
        let listener = UnixListener::bind(short_path(directory, private))?;
        let published = (|| {
            rustix::fs::chmodat(directory, private, SOCKET_MODE, AtFlags::empty())?;
            let stat = rustix::fs::statat(directory, private, AtFlags::SYMLINK_NOFOLLOW)?;
            rustix::fs::renameat(directory, private, directory, SOCKET_NAME)?;
            listener.set_nonblocking(true)?;
            Ok(identity(&stat))
        })();
        if published.is_err() {
            let _ = rustix::fs::unlinkat(directory, private, AtFlags::empty());
        }
        published.map(|identity| (listener, identity))
    }

    /// Does what is asked until `stop`; operations under way are then cut short.
    ///
    /// # Errors
    /// The socket cannot be served.
    pub async fn serve(self, tools: Tools, stop: CancellationToken) -> io::Result<()> {
        let listener = tokio::net::UnixListener::from_std(self.listener.try_clone()?)?;
        let service = Service {
            tools,
            places: Arc::new(Semaphore::new(OPERATIONS_MAX)),
            stop: stop.clone(),
        };
        let router = Router::new()
            .route(OPERATIONS_PATH, post(operate))
            .with_state(service);
        tokio::select! {
            served = axum::serve(listener, router) => served,
            () = stop.cancelled() => Ok(()),
        }
    }
}

impl Drop for ControlSocket {
    /// Leaves a socket alone that a successor has put in its place.
    fn drop(&mut self) {
        let found = rustix::fs::statat(&self.directory, SOCKET_NAME, AtFlags::SYMLINK_NOFOLLOW);
        if found.is_ok_and(|stat| identity(&stat) == self.identity) {
            let _ = rustix::fs::unlinkat(&self.directory, SOCKET_NAME, AtFlags::empty());
        }
    }
}

fn identity(stat: &Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

#[derive(Clone)]
struct Service {
    tools: Tools,
    places: Arc<Semaphore>,
    stop: CancellationToken,
}

async fn operate(State(service): State<Service>, request: Request) -> Response {
    let mut body = request.into_body();
    let operation = match request_line(&mut body).await {
        Ok((line, rest)) => serde_json::from_slice::<Operation>(&line)
            .map(|operation| (operation, rest))
            .map_err(|error| format!("the first line is no operation: {error}")),
        Err(message) => Err(message.to_owned()),
    };
    let (operation, rest) = match operation {
        Ok(operation) => operation,
        Err(message) => return (StatusCode::BAD_REQUEST, message).into_response(),
    };
    let Ok(place) = service.places.try_acquire_owned() else {
        let message = format!("{OPERATIONS_MAX} operations are under way; try again later");
        return (StatusCode::SERVICE_UNAVAILABLE, message).into_response();
    };
    let (pieces, input) = mpsc::channel(CHUNKS_WAITING_MAX);
    let (chunks, output) = mpsc::channel(CHUNKS_WAITING_MAX);
    tokio::spawn(pump(body, rest, pieces));
    tokio::task::spawn_blocking(move || {
        let mut input = Input {
            pieces: input,
            piece: Bytes::new(),
        };
        let mut answer = Answer {
            chunks,
            gathered: BytesMut::new(),
            stop: service.stop,
        };
        let last = match service.tools.run(&operation, &mut input, &mut answer) {
            Ok(()) => Event::Done,
            Err(error) => Event::Failed {
                message: chain(&error),
            },
        };
        // Whoever has gone does not want to know.
        let _ = answer.event(last).and_then(|()| answer.send());
        drop(place);
    });
    Body::from_stream(futures_util::stream::unfold(output, async |mut output| {
        let chunk: Bytes = output.recv().await?;
        Some((Ok::<_, io::Error>(chunk), output))
    }))
    .into_response()
}

/// The first line of a body, and what of the rest came with it.
async fn request_line(body: &mut Body) -> Result<(BytesMut, Bytes), &'static str> {
    let mut line = BytesMut::new();
    loop {
        if let Some(end) = line.iter().position(|&byte| byte == b'\n') {
            let rest = line.split_off(end + 1);
            return Ok((line, rest.freeze()));
        }
        if line.len() > REQUEST_LINE_BYTES_MAX {
            return Err("the first line is too long");
        }
        match body.frame().await {
            Some(Ok(frame)) => line.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            Some(Err(_)) => return Err("the request was cut short"),
            None => return Ok((line, Bytes::new())),
        }
    }
}

/// Passes a body on. When nobody wants it any more it is read all the same, for the other side has to come to the
/// point where it reads the answer.
async fn pump(mut body: Body, first: Bytes, pieces: mpsc::Sender<io::Result<Bytes>>) {
    let _ = pieces.send(Ok(first)).await;
    while let Some(frame) = body.frame().await {
        let piece = match frame {
            Ok(frame) => frame.into_data().map_err(|_| io::ErrorKind::InvalidData.into()),
            Err(error) => Err(io::Error::other(error)),
        };
        let is_last = piece.is_err();
        let _ = pieces.send(piece).await;
        if is_last {
            return;
        }
    }
}

struct Input {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    piece: Bytes,
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
        }
        let read = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..read]);
        Ok(read)
    }
}

struct Answer {
    chunks: mpsc::Sender<Bytes>,
    gathered: BytesMut,
    stop: CancellationToken,
}

impl Answer {
    fn send(&mut self) -> io::Result<()> {
        let chunk = self.gathered.split().freeze();
        let sent = self.chunks.blocking_send(chunk);
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn gather(&mut self, event: &Event, bytes: &[u8]) -> io::Result<()> {
        if self.chunks.is_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        if self.stop.is_cancelled() {
            return Err(io::Error::other("the cache is being stopped"));
        }
        self.gathered.extend_from_slice(&encode(event)?);
        self.gathered.extend_from_slice(bytes);
        if self.gathered.len() >= ANSWER_CHUNK_BYTES {
            self.send()?;
        }
        Ok(())
    }
}

impl Output for Answer {
    fn event(&mut self, event: Event) -> io::Result<()> {
        self.gather(&event, &[])
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.gather(&Event::Bytes { count: bytes.len() }, bytes)
    }
}
