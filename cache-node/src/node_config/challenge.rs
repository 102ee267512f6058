//! Asks whoever listens on the runtime's port to prove that it is this pod's cache.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use tokio::io::{self, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::health::Sight;
use crate::identity::{IDENTITY_PATH, IdentityKey, new_challenge};

/// How long an answer may take in all.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// The longest answer that is read: its head and 43 bytes.
const ANSWER_BYTES_MAX: u64 = 4 << 10;

/// One look. The key is read when the answer is there, and a wrong answer is asked for once more: the cache may just
/// have restarted, with a new key.
pub(super) async fn look(cache: SocketAddr, state_dir: &Path) -> Sight {
    match look_once(cache, state_dir).await {
        Sight::Stranger => look_once(cache, state_dir).await,
        sight => sight,
    }
}

async fn look_once(cache: SocketAddr, state_dir: &Path) -> Sight {
    let Ok(challenge) = new_challenge() else {
        return Sight::Silent;
    };
    let answer = match tokio::time::timeout(ANSWER_TIMEOUT, ask(cache, &challenge)).await {
        Ok(Ok(answer)) if !answer.is_empty() => answer,
        // An end without a word is what a process does that is being stopped.
        Ok(_) | Err(_) => return Sight::Silent,
    };
    let Ok(key) = IdentityKey::read(state_dir) else {
        // The cache makes its key before it listens, so this is not the one of this pod.
        return Sight::Stranger;
    };
    match parse(&answer) {
        Some((200, body)) if key.is_answer(&challenge, body) => Sight::Ready,
        Some((503, body)) if key.is_answer(&challenge, body) => Sight::NotReady,
        _ => Sight::Stranger,
    }
}

/// All that comes within the limits. A connection of its own each time: that is what has to work for the runtime.
async fn ask(cache: SocketAddr, challenge: &str) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(cache).await?;
    let request = format!(
        "GET {IDENTITY_PATH}?challenge={challenge} HTTP/1.1\r\nHost: {cache}\r\nUser-Agent: node-config\r\n\
         Connection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
    Ok(answer)
}

/// Status and body of an answer that is not chunked: ours never is.
fn parse(answer: &[u8]) -> Option<(u16, &str)> {
    let answer = str::from_utf8(answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read_as_they_come() {
        assert_eq!(
            parse(b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 3\r\n\r\nabc"),
            Some((503, "abc"))
        );
        for odd in [
            "",
            "SSH-2.0-OpenSSH",
            "HTTP/1.1 2",
            "HTTP/1.1 20x OK\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
        ] {
            assert_eq!(parse(odd.as_bytes()), None, "{odd}");
        }
    }
}
