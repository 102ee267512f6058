//! HTTP/1.0, as far as a test in a cluster needs it: a server that says who and where it is, and a client.

use std::fmt::Write as _;
use std::io::{self, BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use crate::cli::Url;

/// Size of all that comes before a body.
const HEAD_BYTES_MAX: u64 = 16 << 10;
/// How long a client may take for the next bytes of its request, and to take those of the answer.
const CLIENT_TIMEOUT: Duration = Duration::from_secs(30);

/// Serves in threads of its own from now on, having printed `listening on ADDR`: `/` answers `text` or else the
/// host's name, `/env` the environment, `/peer` the client's address.
///
/// # Errors
/// When the address cannot be had.
pub(crate) fn serve(address: SocketAddr, text: Option<String>) -> io::Result<()> {
    let text = match text {
        Some(text) => text,
        None => std::fs::read_to_string("/proc/sys/kernel/hostname")?
            .trim_end()
            .to_owned(),
    };
    let listener = TcpListener::bind(address)?;
    writeln!(io::stdout(), "listening on {}", listener.local_addr()?)?;
    thread::Builder::new().spawn(move || {
        for stream in listener.incoming().flatten() {
            let text = text.clone();
            // A client that cannot be served sees its connection end.
            let _ = thread::Builder::new().spawn(move || answer(&stream, &text));
        }
    })?;
    Ok(())
}

fn answer(mut stream: &TcpStream, text: &str) -> io::Result<()> {
    stream.set_read_timeout(Some(CLIENT_TIMEOUT))?;
    stream.set_write_timeout(Some(CLIENT_TIMEOUT))?;
    let head = Head::read(&mut BufReader::new(stream))?;
    let mut words = head.start.split(' ');
    let (status, body) = match (words.next(), words.next()) {
        (Some("GET"), Some("/")) => ("200 OK", format!("{text}\n")),
        (Some("GET"), Some("/env")) => ("200 OK", environment()),
        (Some("GET"), Some("/peer")) => ("200 OK", format!("{}\n", stream.peer_addr()?)),
        (Some("GET"), _) => ("404 Not Found", String::new()),
        _ => ("405 Method Not Allowed", String::new()),
    };
    let len = body.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len}\r\nConnection: close\r\n\r\n{body}"
    )
}

fn environment() -> String {
    let mut text = String::new();
    for (name, value) in std::env::vars_os() {
        let _ = writeln!(text, "{}={}", name.display(), value.display());
    }
    text
}

/// Asks for `url`; writes the status, a line of its own, and the body to `out`. Returns the status.
///
/// # Errors
/// When there is no answer, or not all of it.
pub(crate) fn get(url: &Url, out: &mut impl Write) -> io::Result<u16> {
    let mut stream = TcpStream::connect(url.address())?;
    // 1.0, so that the body comes as it is and ends with the connection.
    write!(
        stream,
        "GET {} HTTP/1.0\r\nHost: {}\r\n\r\n",
        url.target, url.authority
    )?;
    let mut answer = BufReader::new(stream);
    let head = Head::read(&mut answer)?;
    let status = head
        .start
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok());
    let status = status.ok_or_else(|| io::Error::other(format!("not HTTP: {}", head.start)))?;
    writeln!(out, "{status}")?;
    let sent = io::copy(&mut answer.take(head.content_length.unwrap_or(u64::MAX)), out)?;
    out.flush()?;
    match head.content_length {
        Some(promised) if sent < promised => {
            Err(io::Error::other(format!("cut after {sent} of {promised} bytes")))
        }
        _ => Ok(status),
    }
}

/// The head of a request or an answer.
struct Head {
    /// The first line.
    start: String,
    content_length: Option<u64>,
}

impl Head {
    fn read(stream: &mut BufReader<impl Read>) -> io::Result<Self> {
        let mut lines = stream.take(HEAD_BYTES_MAX).lines();
        let mut line = || {
            lines
                .next()
                .unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
        };
        let start = line()?;
        let mut content_length = None;
        loop {
            let line = line()?;
            match line.split_once(':') {
                Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                    content_length = value.trim().parse().ok();
                }
                Some(_) => {}
                None if line.is_empty() => {
                    return Ok(Self {
                        start,
                        content_length,
                    });
                }
                None => return Err(io::Error::other(format!("not a header: {line}"))),
            }
        }
    }
}
