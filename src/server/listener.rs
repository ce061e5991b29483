//! Listening sockets that share a port.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Socket, TcpKeepalive, Type};

/// Connections that wait to be accepted, per worker.
const BACKLOG: i32 = 1024;

/// After how long without a byte the kernel asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("server.listen: cannot listen on {address}: {source}{advice}", advice = self.advice())]
pub struct BindError {
    address: SocketAddr,
    source: io::Error,
}

impl BindError {
    /// Another process has the port.
    pub fn is_taken(&self) -> bool {
        self.source.kind() == io::ErrorKind::AddrInUse
    }

    fn advice(&self) -> &'static str {
        match self.source.kind() {
            io::ErrorKind::AddrInUse => " (stop what has the port, or use another one)",
            io::ErrorKind::AddrNotAvailable => " (use an address of this machine, or 0.0.0.0)",
            io::ErrorKind::PermissionDenied => " (use a port from 1024 on)",
            _ => "",
        }
    }
}

/// `count` sockets on `address`, at least one.
pub(super) fn bind(address: SocketAddr, count: usize) -> Result<Vec<TcpListener>, BindError> {
    let failed = |source| BindError { address, source };
    // why: a socket that shares its port would also share it with another
    // process of ours. One that does not share tells whether there is one.
    bound(address, false).map_err(failed)?;
    let first = listening(address).map_err(failed)?;
    let address = first.local_addr().map_err(failed)?;
    let rest = (1..count).map(|_| listening(address).map_err(failed));
    std::iter::once(Ok(first)).chain(rest).collect()
}

fn listening(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = bound(address, true)?;
    // What a listening socket is set to, its connections inherit.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

fn bound(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_share_a_port_that_nobody_else_gets() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let address: SocketAddr = address.parse().unwrap();
            let listeners = bind(address, 3).unwrap();
            let address = listeners[0].local_addr().unwrap();
            assert!(
                listeners
                    .iter()
                    .all(|listener| listener.local_addr().unwrap() == address)
            );
            let error = bind(address, 1).unwrap_err();
            assert!(error.is_taken());
            let text = error.to_string();
            assert!(text.contains("server.listen") && text.contains(&address.to_string()));
        }
    }
}
