//! Passes TCP connections on, as a stranger does who has taken a port.

use std::io::{self, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;

/// Passes on connections in threads of its own from now on, having printed `listening on ADDR`.
///
/// # Errors
/// When the address cannot be had.
pub(crate) fn serve(address: SocketAddr, target: String) -> io::Result<()> {
    let listener = TcpListener::bind(address)?;
    writeln!(io::stdout(), "listening on {}", listener.local_addr()?)?;
    thread::Builder::new().spawn(move || {
        for client in listener.incoming().flatten() {
            let target = target.clone();
            // A client that cannot be served sees its connection end.
            let _ = thread::Builder::new().spawn(move || pass_on(&client, &target));
        }
    })?;
    Ok(())
}

fn pass_on(client: &TcpStream, target: &str) -> io::Result<()> {
    let server = TcpStream::connect(target)?;
    thread::scope(|scope| {
        let _ = thread::Builder::new().spawn_scoped(scope, || copy(client, &server));
        copy(&server, client)
    })
}

fn copy(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    io::copy(&mut from, &mut to)?;
    to.shutdown(Shutdown::Write)
}
