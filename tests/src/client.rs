//! A small HTTP/1.1 client that hides nothing: raw header lines, exact bytes, and how the connection ended.
//!
//! Libraries tidy up what tests of a cache are about: a short body, an RST, a header sent twice.

mod read;

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use read::Reader;

/// How long a call may take in all unless it says otherwise.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(60);

/// How an answer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of the announced length, or the last chunk, or no body was due.
    Complete,
    /// FIN, where neither length nor chunks were announced: complete as far as one can know.
    CloseDelimited,
    /// FIN before the announced length or the last chunk.
    FinShort,
    /// RST, wherever.
    Rst,
    /// FIN before a whole head.
    NoHead,
    /// What came was not HTTP.
    Garbage,
    /// We left, as [`Call::leave_after`] says.
    Left,
    /// Not over when [`Call::timeout`] was.
    TimedOut,
}

/// One answer. With [`End::NoHead`], [`End::Garbage`] or an early [`End::Rst`], `status` is 0.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Reason phrase as sent.
    pub reason: String,
    /// Header lines in their order and spelling.
    pub headers: Vec<(String, String)>,
    /// The body without chunk framing; empty after [`Call::discard_body`].
    pub body: Bytes,
    /// Body bytes received, kept or not.
    pub received: u64,
    /// sha256 digest of the bytes received.
    pub digest: String,
    /// How it ended.
    pub end: End,
    /// From sending the request to the whole head.
    pub head_after: Option<Duration>,
    /// From sending the request to the first byte of the body.
    pub first_byte_after: Option<Duration>,
}

impl Answer {
    /// All values of a header, in order. Names are compared without regard to case.
    pub fn header_all(&self, name: &str) -> Vec<&str> {
        let named = self
            .headers
            .iter()
            .filter(|(key, _)| key.eq_ignore_ascii_case(name));
        named.map(|(_, value)| value.as_str()).collect()
    }

    /// The only value of a header. Panics if there are several lines.
    pub fn header(&self, name: &str) -> Option<&str> {
        let all = self.header_all(name);
        assert!(all.len() <= 1, "several lines of {name}: {all:?}");
        all.first().copied()
    }

    /// Asserts that a blob came whole and right.
    pub fn assert_whole(&self, digest: &str) {
        assert_eq!((self.status, self.end), (200, End::Complete), "{}", self.text());
        assert_eq!(self.digest, digest);
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON. Panics if it is not.
    pub fn json(&self) -> serde_json::Value {
        let parsed = serde_json::from_slice(&self.body);
        parsed.unwrap_or_else(|error| {
            panic!(
                "{} with a body that is not JSON ({error}): {}",
                self.status,
                self.text()
            )
        })
    }

    /// The code of the first error of an OCI error body. Panics if there is none.
    pub fn error_code(&self) -> String {
        let json = self.json();
        json["errors"][0]["code"]
            .as_str()
            .unwrap_or_else(|| panic!("no OCI error in {json}"))
            .to_owned()
    }
}

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Call {
    method: String,
    host: String,
    target: String,
    headers: Vec<(String, String)>,
    body: Bytes,
    leave_after: Option<u64>,
    bytes_per_s: Option<u64>,
    discard: bool,
    timeout: Duration,
}

impl Call {
    /// A request of any method. The part of `http://HOST:PORT/…` behind the port goes out verbatim.
    pub fn new(method: &str, url: &str) -> Self {
        let rest = url.strip_prefix("http://").expect("an http:// URL");
        let (host, target) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
        Self {
            method: method.to_owned(),
            host: host.to_owned(),
            target: target.to_owned(),
            headers: Vec::new(),
            body: Bytes::new(),
            leave_after: None,
            bytes_per_s: None,
            discard: false,
            timeout: TIMEOUT_DEFAULT,
        }
    }

    /// A GET.
    pub fn get(url: &str) -> Self {
        Self::new("GET", url)
    }

    /// A HEAD.
    pub fn head(url: &str) -> Self {
        Self::new("HEAD", url)
    }

    /// Adds a header line. `Host` is ours unless given.
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// Adds `Range: bytes=…`.
    pub fn range(self, range: &str) -> Self {
        self.header("Range", format!("bytes={range}"))
    }

    /// Sends this body, with its length.
    pub fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Closes the connection as soon as this many body bytes have come.
    pub fn leave_after(mut self, bytes: u64) -> Self {
        self.leave_after = Some(bytes);
        self
    }

    /// Reads no faster than this.
    pub fn slowly(mut self, bytes_per_s: u64) -> Self {
        self.bytes_per_s = Some(bytes_per_s.max(1));
        self
    }

    /// Hashes and counts the body, but does not keep it.
    pub fn discard_body(mut self) -> Self {
        self.discard = true;
        self
    }

    /// Gives up after this time; 60 s unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends it on a connection of its own. Panics when the connection is refused.
    pub async fn send(self) -> Answer {
        self.try_send().await.expect("connect")
    }

    /// Sends it on a connection of its own. The error is that of connecting.
    pub async fn try_send(self) -> std::io::Result<Answer> {
        let mut connection = Connection::open(&self.host).await?;
        let call = self.header("Connection", "close");
        Ok(connection.send(call).await)
    }

    fn render(&self) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        if !self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("Host"))
        {
            head += &format!("Host: {}\r\n", self.host);
        }
        for (name, value) in &self.headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !self.body.is_empty() || matches!(self.method.as_str(), "POST" | "PUT" | "PATCH") {
            head += &format!("Content-Length: {}\r\n", self.body.len());
        }
        let mut bytes = (head + "\r\n").into_bytes();
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// One connection, for several calls in a row.
pub struct Connection {
    stream: TcpStream,
    buffer: BytesMut,
}

impl Connection {
    /// Connects to `HOST:PORT`.
    pub async fn open(host: &str) -> std::io::Result<Self> {
        Ok(Self {
            stream: TcpStream::connect(host).await?,
            buffer: BytesMut::new(),
        })
    }

    /// Sends a call and reads its answer. The connection can be used again after [`End::Complete`].
    pub async fn send(&mut self, call: Call) -> Answer {
        let started = Instant::now();
        // A server may answer and close before it has read everything; what it said still counts.
        let _ = self.stream.write_all(&call.render()).await;
        let mut reader = Reader::new(&mut self.stream, &mut self.buffer, &call, started);
        let end = tokio::time::timeout(call.timeout, reader.read())
            .await
            .unwrap_or(End::TimedOut);
        let answer = reader.finish(end);
        if end == End::Left {
            // Leaving means closing now, not when the caller drops the connection.
            let _ = self.stream.shutdown().await;
        }
        answer
    }

    /// Sends bytes that need not be HTTP.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }
}
