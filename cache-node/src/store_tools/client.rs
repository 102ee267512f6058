//! The command line's side of the control socket.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;

use super::Operation;
use super::control::{OPERATIONS_PATH, SOCKET_NAME, open_directory, short_path};
use super::event::{Decoder, Event, Output};

/// So much of an archive is read at once.
const PIECE_BYTES: usize = 64 << 10;
/// So many pieces wait for a cache that is slower.
const PIECES_WAITING_MAX: usize = 4;
/// The longest refusal.
const REFUSAL_BYTES_MAX: usize = 4 << 10;

/// A connection to the process that holds a cache directory.
#[derive(Debug)]
pub struct Client(UnixStream);

/// Why a running cache has not done what it was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// It does not let us.
    #[error("cannot connect to {SOCKET_NAME}")]
    Connect(#[source] io::Error),
    /// It does not understand, or has no time.
    #[error("the cache refuses: {0}")]
    Refused(String),
    /// It could not go on, and says why.
    #[error("{0}")]
    Failed(String),
    /// It, or the connection to it, ended before it was done.
    #[error("the cache has ended before it was done")]
    Ended,
    /// The connection failed.
    #[error("the connection to the cache failed")]
    Http(#[from] hyper::Error),
    /// What it says cannot be understood, or not be passed on.
    #[error("the cache's answer cannot be passed on")]
    Output(#[from] io::Error),
}

impl Client {
    /// Connects to the process that holds `directory`; `None` if there is none. Blocks.
    ///
    /// # Errors
    /// There is one, or another reason why nobody can connect.
    pub fn connect(directory: &Path) -> Result<Option<Self>, ClientError> {
        let directory = open_directory(directory).map_err(ClientError::Connect)?;
        match UnixStream::connect(short_path(&directory, SOCKET_NAME)) {
            Ok(stream) => Ok(Some(Self(stream))),
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
                _ => Err(ClientError::Connect(error)),
            },
        }
    }

    /// Has the cache do it; `input` is what an import reads. Blocks, and passes on what the cache tells.
    ///
    /// # Errors
    /// The cache could not do it as a whole.
    pub fn run(
        self,
        operation: &Operation,
        input: Box<dyn Read + Send>,
        output: &mut dyn Output,
    ) -> Result<(), ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()?;
        let ended = runtime.block_on(self.converse(operation, input, output));
        // A terminal or a pipe that is still being read must not hold up the end.
        runtime.shutdown_background();
        ended
    }

    async fn converse(
        self,
        operation: &Operation,
        input: Box<dyn Read + Send>,
        output: &mut dyn Output,
    ) -> Result<(), ClientError> {
        self.0.set_nonblocking(true)?;
        let stream = tokio::net::UnixStream::from_std(self.0)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        let mut line = serde_json::to_vec(operation).map_err(io::Error::from)?;
        line.push(b'\n');
        let (pieces, body) = mpsc::channel(PIECES_WAITING_MAX);
        tokio::task::spawn_blocking(move || send(line.into(), input, &pieces));
        let body = futures_util::stream::unfold(body, async |mut body| Some((body.recv().await?, body)));
        let body = StreamBody::new(
            body.map(|piece: io::Result<Bytes>| piece.map(Frame::data))
                .boxed(),
        );
        let request = Request::post(OPERATIONS_PATH)
            .header("host", "localhost")
            .body(body);
        let response = sender.send_request(request.map_err(io::Error::other)?).await?;
        let is_refused = response.status() != StatusCode::OK;
        let mut answer = response.into_body();
        if is_refused {
            let mut refusal = BytesMut::new();
            while let Some(frame) = answer.frame().await
                && refusal.len() < REFUSAL_BYTES_MAX
            {
                refusal.extend_from_slice(frame?.data_ref().map_or(&[], |data| data));
            }
            return Err(ClientError::Refused(
                String::from_utf8_lossy(&refusal).into_owned(),
            ));
        }
        let (mut decoder, mut listener) = (Decoder::default(), Listener { output, end: None });
        while let Some(frame) = answer.frame().await {
            let frame = frame.map_err(|_| ClientError::Ended)?;
            decoder.feed(frame.data_ref().map_or(&[], |data| data), &mut listener)?;
        }
        listener.end.unwrap_or(Err(ClientError::Ended))
    }
}

fn send(line: Bytes, mut input: Box<dyn Read + Send>, pieces: &mpsc::Sender<io::Result<Bytes>>) {
    let mut next = Ok(line);
    while pieces.blocking_send(next).is_ok() {
        let mut piece = BytesMut::zeroed(PIECE_BYTES);
        next = match input.read(&mut piece) {
            Ok(0) => return,
            Ok(read) => {
                piece.truncate(read);
                Ok(piece.freeze())
            }
            Err(error) => Err(error),
        };
    }
}

/// Keeps the last word for itself.
struct Listener<'a> {
    output: &'a mut dyn Output,
    end: Option<Result<(), ClientError>>,
}

impl Output for Listener<'_> {
    fn event(&mut self, event: Event) -> io::Result<()> {
        match event {
            Event::Done => self.end = Some(Ok(())),
            Event::Failed { message } => self.end = Some(Err(ClientError::Failed(message))),
            event => self.output.event(event)?,
        }
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.output.bytes(bytes)
    }
}
