//! What the commands do besides HTTP.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::net::{IpAddr, ToSocketAddrs as _};
use std::path::Path;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use rustix::io::Errno;

/// How much is written at once.
const CHUNK_BYTES: usize = 1 << 20;

/// What `task` returns, or `TimedOut`; then it runs on until the process ends, as nothing can stop a resolver.
pub(crate) fn within<T: Send + 'static>(
    timeout: Duration,
    task: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (sender, receiver) = mpsc::channel();
    thread::Builder::new().spawn(move || sender.send(task()))?;
    receiver.recv_timeout(timeout).unwrap_or_else(|_| {
        Err(io::Error::new(
            io::ErrorKind::TimedOut,
            format!("not within {timeout:?}"),
        ))
    })
}

/// The addresses of `name`, sorted.
pub(crate) fn lookup(name: &str) -> io::Result<BTreeSet<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

/// Writes `bytes` bytes to a new file at `path`, down to the disk.
pub(crate) fn write(path: &Path, bytes: u64) -> io::Result<()> {
    let mut file = File::create(path)?;
    let chunk = vec![b'x'; CHUNK_BYTES];
    let mut left = bytes;
    while left > 0 {
        let len = usize::try_from(left).map_or(CHUNK_BYTES, |left| left.min(CHUNK_BYTES));
        file.write_all(&chunk[..len])?;
        left -= len as u64;
    }
    file.sync_all()
}

/// Memory of which every page has been written to.
pub(crate) fn allocate(bytes: usize) -> io::Result<Vec<u8>> {
    let mut memory = Vec::new();
    memory.try_reserve_exact(bytes).map_err(|_| Errno::NOMEM)?;
    memory.resize(bytes, b'x');
    Ok(std::hint::black_box(memory))
}

/// The error with the name that C has for it, where a test may want to know it.
pub(crate) fn describe(error: &io::Error) -> String {
    let name = match Errno::from_io_error(error) {
        Some(Errno::ACCESS) => "EACCES",
        Some(Errno::CONNREFUSED) => "ECONNREFUSED",
        Some(Errno::DQUOT) => "EDQUOT",
        Some(Errno::HOSTUNREACH) => "EHOSTUNREACH",
        Some(Errno::IO) => "EIO",
        Some(Errno::NETUNREACH) => "ENETUNREACH",
        Some(Errno::NOENT) => "ENOENT",
        Some(Errno::NOMEM) => "ENOMEM",
        Some(Errno::NOSPC) => "ENOSPC",
        Some(Errno::PERM) => "EPERM",
        Some(Errno::ROFS) => "EROFS",
        _ => return error.to_string(),
    };
    format!("{name}: {error}")
}
