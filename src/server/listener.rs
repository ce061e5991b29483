//! Listening sockets that share a port.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Socket, TcpKeepalive, Type};

use crate::inherited::Inherited;

/// Connections that wait to be accepted, per worker.
const BACKLOG: i32 = 1024;

/// After how long without a byte the kernel asks whether the peer is still there.
const KEEPALIVE: Duration = Duration::from_mins(1);

/// The address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("{setting}: cannot listen on {address}: {source}{advice}", advice = self.advice())]
pub struct BindError {
    /// Which one it was.
    setting: &'static str,
    address: SocketAddr,
    source: io::Error,
}

impl From<BindError> for io::Error {
    fn from(error: BindError) -> Self {
        Self::new(error.source.kind(), error)
    }
}

impl BindError {
    const fn new(setting: &'static str, address: SocketAddr, source: io::Error) -> Self {
        Self {
            setting,
            address,
            source,
        }
    }

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

/// Sockets that have a port. Our own refuse connections until they listen.
#[derive(Debug)]
pub(super) struct Bound {
    setting: &'static str,
    address: SocketAddr,
    sockets: Vec<Socket>,
    /// Whether they listened before they came to us.
    inherited: bool,
}

impl Bound {
    /// Those that were inherited under `name`, or else `count` on `address`.
    pub(super) fn inherited_or_to(
        inherited: &mut Inherited,
        name: &str,
        address: SocketAddr,
        count: usize,
        setting: &'static str,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError::new(setting, address, source);
        let sockets = inherited.internet(name).map_err(failed)?;
        let Some(first) = sockets.first() else {
            return Self::to(address, count, setting);
        };
        let address = local(first).map_err(failed)?;
        sockets.iter().try_for_each(prepare).map_err(failed)?;
        Ok(Self {
            setting,
            address,
            sockets,
            inherited: true,
        })
    }

    /// `count` sockets on `address`, which `setting` names; at least one.
    pub(super) fn to(
        address: SocketAddr,
        count: usize,
        setting: &'static str,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError::new(setting, address, source);
        // Shares the port with nobody who listens, not even one of ours.
        let first = prepared(address, false).map_err(failed)?;
        let address = local(&first).map_err(failed)?;
        let rest = (1..count).map(|_| prepared(address, true).map_err(failed));
        let sockets = std::iter::once(Ok(first)).chain(rest);
        Ok(Self {
            setting,
            address,
            sockets: sockets.collect::<Result<_, _>>()?,
            inherited: false,
        })
    }

    /// With the port that was given for port 0.
    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Copies, for whoever serves next.
    pub(super) fn copies(&self) -> io::Result<Vec<Socket>> {
        self.sockets.iter().map(Socket::try_clone).collect()
    }

    /// Listens, with one socket or more for each of `workers`.
    pub(super) fn listen(self, workers: usize) -> Result<Vec<Vec<TcpListener>>, BindError> {
        let (setting, address) = (self.setting, self.address);
        let failed = |source| BindError::new(setting, address, source);
        if !self.inherited {
            listen_alone(&self.sockets).map_err(failed)?;
        }
        spread(&self.sockets, workers).map_err(failed)
    }
}

/// Every worker accepts on a socket at least, and every socket is accepted on:
/// the kernel gives each its share of the connections.
fn spread(sockets: &[Socket], workers: usize) -> io::Result<Vec<Vec<TcpListener>>> {
    let mut of_workers: Vec<_> = (0..workers).map(|_| Vec::new()).collect();
    for turn in 0..workers.max(sockets.len()) {
        let socket = sockets[turn % sockets.len()].try_clone()?;
        of_workers[turn % workers].push(socket.into());
    }
    Ok(of_workers)
}

/// Sockets that share a port would also share it with another process of ours,
/// and each would get a part of the clients. So the first one does not share it
/// until it listens: the kernel lets one such listen, however many are bound.
fn listen_alone(sockets: &[Socket]) -> io::Result<()> {
    let Some((first, rest)) = sockets.split_first() else {
        return Ok(());
    };
    first.listen(BACKLOG)?;
    first.set_reuse_port(true)?;
    rest.iter().try_for_each(|socket| socket.listen(BACKLOG))
}

fn prepared(address: SocketAddr, shared: bool) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
    socket.bind(&address.into())?;
    prepare(&socket)?;
    Ok(socket)
}

fn prepare(socket: &Socket) -> io::Result<()> {
    // What a listening socket is set to, its connections inherit.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

fn local(socket: &Socket) -> io::Result<SocketAddr> {
    let address = socket.local_addr()?.as_socket();
    address.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn sockets_share_a_port_that_nobody_else_gets() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let address: SocketAddr = address.parse().unwrap();
            let bound = Bound::to(address, 3, "server.listen").unwrap();
            let address = bound.address();
            let listeners = bound.listen(3).unwrap();
            assert!(listeners.iter().all(|of_worker| of_worker.len() == 1));
            assert!(
                listeners
                    .iter()
                    .flatten()
                    .all(|listener| listener.local_addr().unwrap() == address)
            );
            let error = Bound::to(address, 1, "server.listen").unwrap_err();
            assert!(error.is_taken());
            let text = error.to_string();
            assert!(text.contains("server.listen") && text.contains(&address.to_string()));
        }
    }

    #[test]
    fn until_it_listens_a_socket_refuses_and_another_one_may_come_first() {
        let bound = Bound::to("127.0.0.1:0".parse().unwrap(), 2, "server.listen").unwrap();
        let refused = TcpStream::connect(bound.address()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        let first = Bound::to(bound.address(), 1, "server.listen")
            .unwrap()
            .listen(1)
            .unwrap();
        assert!(bound.listen(2).unwrap_err().is_taken());
        drop(first);
    }

    #[test]
    fn of_those_that_begin_to_listen_in_the_same_moment_no_two_share_the_port() {
        for _ in 0..200 {
            let first = Bound::to("127.0.0.1:0".parse().unwrap(), 2, "server.listen").unwrap();
            let address = first.address();
            let second = Bound::to(address, 2, "server.listen").unwrap();
            let together = Barrier::new(2);
            let listening = thread::scope(|scope| {
                let begun = [first, second].map(|bound| {
                    let together = &together;
                    scope.spawn(move || {
                        together.wait();
                        bound.listen(2)
                    })
                });
                begun.map(|begun| begun.join().unwrap())
            });
            let sharing = listening.iter().filter(|result| result.is_ok()).count();
            assert!(sharing <= 1);
            for refused in listening.iter().filter_map(|result| result.as_ref().err()) {
                assert!(refused.is_taken(), "{refused}");
            }
        }
    }

    #[test]
    fn every_socket_of_a_port_gets_its_share_of_the_clients() {
        let bound = Bound::to("127.0.0.1:0".parse().unwrap(), 3, "server.listen").unwrap();
        let address = bound.address();
        let listeners: Vec<_> = bound.listen(3).unwrap().into_iter().flatten().collect();
        let mut reached = std::collections::BTreeSet::new();
        // The kernel chooses by a hash of the client's port.
        for _ in 0..500 {
            let _client = TcpStream::connect(address).unwrap();
            let ready = |listener: &&TcpListener| listener.accept().is_ok();
            reached.extend(listeners.iter().position(|listener| ready(&listener)));
        }
        assert_eq!(
            reached.len(),
            listeners.len(),
            "only {reached:?} are reached"
        );
    }

    #[test]
    fn no_inherited_socket_is_left_alone_and_no_worker_without_one() {
        for (sockets, workers, each) in [
            (1, 1, &[1][..]),
            (1, 3, &[1, 1, 1]),
            (3, 1, &[3]),
            (3, 2, &[2, 1]),
            (2, 3, &[1, 1, 1]),
        ] {
            let own: Vec<TcpListener> = (0..sockets)
                .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
                .collect();
            let mut inherited = Inherited::default();
            for listener in &own {
                inherited.add("traffic", listener.try_clone().unwrap().into());
            }
            let elsewhere = "127.0.0.1:1".parse().unwrap();
            let bound = Bound::inherited_or_to(
                &mut inherited,
                "traffic",
                elsewhere,
                workers,
                "server.listen",
            )
            .unwrap();
            assert_eq!(bound.address(), own[0].local_addr().unwrap());
            let spread = bound.listen(workers).unwrap();
            let counts: Vec<_> = spread.iter().map(Vec::len).collect();
            assert_eq!(counts, each, "{sockets} sockets, {workers} workers");
            let ports = |listeners: &mut dyn Iterator<Item = &TcpListener>| {
                listeners
                    .map(|listener| listener.local_addr().unwrap().port())
                    .collect::<std::collections::BTreeSet<_>>()
            };
            assert_eq!(ports(&mut spread.iter().flatten()), ports(&mut own.iter()));
        }
    }
}
