//! What the hosts do to sockets below HTTP.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;

/// After our FIN, how long the client may take to send its own before we stop reading.
const LINGER_MAX: Duration = Duration::from_secs(5);

/// Before an RST, how long the client may take to receive what was sent before it.
const DELIVERY_MAX: Duration = Duration::from_secs(5);

/// How often the send queue is looked at.
const DELIVERY_POLL: Duration = Duration::from_millis(1);

/// A byte stream over TCP, plain or TLS.
pub(super) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {
    /// The socket below.
    fn tcp(&self) -> &TcpStream;
}

impl Wire for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl Wire for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// Whether the client's first bytes are HTTP/2's preface. Nothing is consumed.
pub(super) async fn starts_http2(stream: &TcpStream) -> bool {
    let mut start = [0; 4];
    matches!(stream.peek(&mut start).await, Ok(len) if len > 0 && start[..len] == b"PRI "[..len])
}

/// Ends our direction with FIN. Reads on until the client ends its own, because closing a socket with unread
/// bytes in it would send an RST.
pub(super) async fn close_with_fin(mut wire: impl Wire) {
    if wire.shutdown().await.is_ok() {
        let _ = timeout(LINGER_MAX, until_client_leaves(&mut wire)).await;
    }
}

/// Closes with RST, once the client's kernel has everything sent so far. (An RST discards what is still queued
/// here, so that the client would see fewer bytes than the script says.)
pub(super) async fn close_with_rst(wire: impl Wire) {
    let _ = timeout(DELIVERY_MAX, delivered(wire.tcp())).await;
    wire.tcp().set_zero_linger().expect("set SO_LINGER");
}

/// Reads and discards until the client closes or breaks the connection.
pub(super) async fn until_client_leaves(wire: &mut impl Wire) {
    let mut discarded = [0; 1024];
    while matches!(wire.read(&mut discarded).await, Ok(1..)) {}
}

async fn delivered(tcp: &TcpStream) {
    let (Ok(local), Ok(peer)) = (tcp.local_addr(), tcp.peer_addr()) else {
        return;
    };
    while send_queue_bytes(local, peer).is_some_and(|queued| queued > 0) {
        sleep(DELIVERY_POLL).await;
    }
}

/// Unacknowledged bytes of a connection, from the kernel's table (proc_net_tcp(5)). Linux offers the same by the
/// SIOCOUTQ ioctl, which needs unsafe code.
fn send_queue_bytes(local: SocketAddr, peer: SocketAddr) -> Option<u64> {
    let (local, peer) = (table_address(local)?, table_address(peer)?);
    let table = std::fs::read_to_string("/proc/self/net/tcp").ok()?;
    let mut rows = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let row = rows.find(|row| row.get(1) == Some(&local.as_str()) && row.get(2) == Some(&peer.as_str()))?;
    u64::from_str_radix(row.get(4)?.split_once(':')?.0, 16).ok()
}

fn table_address(address: SocketAddr) -> Option<String> {
    let SocketAddr::V4(v4) = address else { return None };
    Some(format!(
        "{:08X}:{:04X}",
        u32::from_ne_bytes(v4.ip().octets()),
        v4.port()
    ))
}
