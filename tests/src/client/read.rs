//! Reads one answer off a socket.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::sleep_until;

use super::{Answer, Call, End};
use crate::digest::Sha256Stream;

/// Header lines an answer may have.
const HEADERS_MAX: usize = 128;

/// Bytes a head or a chunk's size line may have.
const HEAD_BYTES_MAX: usize = 256 << 10;

/// What is asked of the socket at once.
const READ_BYTES: usize = 64 << 10;

/// What is asked of the socket at once when reading slowly; small, so that the kernel's buffer fills.
const SLOW_READ_BYTES: u64 = 4 << 10;

/// Why reading stops: an [`End`] in the error position, so that `?` ends it.
type Step<T> = Result<T, End>;

enum BodyKind {
    None,
    Length(u64),
    Chunked,
    UntilClose,
}

pub(super) struct Reader<'a> {
    stream: &'a mut TcpStream,
    buffer: &'a mut BytesMut,
    call: &'a Call,
    started: Instant,
    hash: Sha256Stream,
    body: BytesMut,
    answer: Answer,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        stream: &'a mut TcpStream,
        buffer: &'a mut BytesMut,
        call: &'a Call,
        started: Instant,
    ) -> Self {
        let answer = Answer {
            status: 0,
            reason: String::new(),
            headers: Vec::new(),
            body: Bytes::new(),
            received: 0,
            digest: String::new(),
            end: End::NoHead,
            head_after: None,
            first_byte_after: None,
        };
        Self {
            stream,
            buffer,
            call,
            started,
            hash: Sha256Stream::default(),
            body: BytesMut::new(),
            answer,
        }
    }

    pub(super) fn finish(self, end: End) -> Answer {
        Answer {
            body: self.body.freeze(),
            digest: self.hash.finish(),
            end,
            ..self.answer
        }
    }

    pub(super) async fn read(&mut self) -> End {
        self.read_all().await.map_or_else(|end| end, |()| End::Complete)
    }

    async fn read_all(&mut self) -> Step<()> {
        self.read_head().await?;
        match self.body_kind()? {
            BodyKind::None => Ok(()),
            BodyKind::Length(length) => self.take_body(length).await,
            BodyKind::Chunked => self.read_chunks().await,
            BodyKind::UntilClose => self.take_body(u64::MAX).await.map_err(|end| match end {
                End::FinShort => End::CloseDelimited,
                other => other,
            }),
        }
    }

    /// More bytes from the socket; `at_fin` says what a FIN means here.
    async fn fill(&mut self, at_fin: End) -> Step<()> {
        self.buffer.reserve(READ_BYTES);
        let len = match self.call.bytes_per_s {
            None => self.stream.read_buf(self.buffer).await,
            Some(_) => {
                (&mut *self.stream)
                    .take(SLOW_READ_BYTES)
                    .read_buf(self.buffer)
                    .await
            }
        };
        match len {
            Ok(0) => Err(at_fin),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(End::Rst),
            Err(error) => panic!("reading an answer: {error}"),
        }
    }

    async fn read_head(&mut self) -> Step<()> {
        loop {
            let mut lines = [httparse::EMPTY_HEADER; HEADERS_MAX];
            let mut head = httparse::Response::new(&mut lines);
            match head.parse(self.buffer) {
                Err(_) => return Err(End::Garbage),
                Ok(httparse::Status::Partial) if self.buffer.len() > HEAD_BYTES_MAX => {
                    return Err(End::Garbage);
                }
                Ok(httparse::Status::Partial) => self.fill(End::NoHead).await?,
                Ok(httparse::Status::Complete(len)) => {
                    let text = |value: &[u8]| String::from_utf8_lossy(value).into_owned();
                    self.answer.status = head.code.unwrap_or(0);
                    self.answer.reason = head.reason.unwrap_or_default().to_owned();
                    self.answer.headers = head
                        .headers
                        .iter()
                        .map(|line| (line.name.to_owned(), text(line.value)))
                        .collect();
                    self.answer.head_after = Some(self.started.elapsed());
                    let _ = self.buffer.split_to(len);
                    return Ok(());
                }
            }
        }
    }

    fn body_kind(&self) -> Step<BodyKind> {
        if self.call.method == "HEAD" || matches!(self.answer.status, 100..=199 | 204 | 304) {
            return Ok(BodyKind::None);
        }
        let chunked = self
            .answer
            .header_all("Transfer-Encoding")
            .join(",")
            .to_ascii_lowercase()
            .contains("chunked");
        match self.answer.header_all("Content-Length").first() {
            _ if chunked => Ok(BodyKind::Chunked),
            Some(length) => length.parse().map(BodyKind::Length).map_err(|_| End::Garbage),
            None => Ok(BodyKind::UntilClose),
        }
    }

    async fn take_body(&mut self, mut length: u64) -> Step<()> {
        while length > 0 {
            if self.buffer.is_empty() {
                self.fill(End::FinShort).await?;
            }
            let len = self
                .buffer
                .len()
                .min(usize::try_from(length).unwrap_or(usize::MAX));
            let piece = self.buffer.split_to(len);
            length -= piece.len() as u64;
            self.keep(&piece).await?;
        }
        Ok(())
    }

    async fn keep(&mut self, piece: &[u8]) -> Step<()> {
        self.answer
            .first_byte_after
            .get_or_insert_with(|| self.started.elapsed());
        self.answer.received += piece.len() as u64;
        self.hash.update(piece);
        if !self.call.discard {
            self.body.extend_from_slice(piece);
        }
        if self
            .call
            .leave_after
            .is_some_and(|limit| self.answer.received >= limit)
        {
            return Err(End::Left);
        }
        if let Some(rate) = self.call.bytes_per_s {
            let due = Duration::from_secs_f64(self.answer.received as f64 / rate as f64);
            sleep_until((self.started + due).into()).await;
        }
        Ok(())
    }

    async fn read_chunks(&mut self) -> Step<()> {
        loop {
            let line = self.take_line().await?;
            let size = line.split(';').next().unwrap_or_default().trim();
            let size = u64::from_str_radix(size, 16).map_err(|_| End::Garbage)?;
            if size == 0 {
                while !self.take_line().await?.is_empty() {}
                return Ok(());
            }
            self.take_body(size).await?;
            if !self.take_line().await?.is_empty() {
                return Err(End::Garbage);
            }
        }
    }

    async fn take_line(&mut self) -> Step<String> {
        loop {
            if let Some(at) = self.buffer.windows(2).position(|pair| pair == b"\r\n") {
                let line = self.buffer.split_to(at + 2);
                return Ok(String::from_utf8_lossy(&line[..at]).into_owned());
            }
            if self.buffer.len() > HEAD_BYTES_MAX {
                return Err(End::Garbage);
            }
            self.fill(End::FinShort).await?;
        }
    }
}
