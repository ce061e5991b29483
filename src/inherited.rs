//! Listening sockets that another process opened and gave to this one, each
//! under the name of what it is for.
//!
//! Clients that connect meanwhile wait in them: nobody is refused while
//! processes come and go. What comes in by a socket is believed according to
//! its kind, so a socket of another kind than was configured is refused.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::Path;

use socket2::{Domain, Socket, Type};

/// What `server.listen` is without them.
pub const TRAFFIC: &str = "traffic";
/// What `server.tls.listen` is.
pub const TLS: &str = "tls";
/// What `health.listen` is.
pub const HEALTH: &str = "health";

/// What `decisions.<decision>.listen` is.
pub fn decision(decision: &str) -> String {
    format!("decisions.{decision}")
}

/// Sockets that nobody has taken into use yet.
#[derive(Debug, Default)]
pub struct Inherited {
    sockets: BTreeMap<String, Vec<Socket>>,
    /// The names of those that come from another process of ours.
    ours: BTreeSet<String>,
}

impl Inherited {
    pub fn add(&mut self, name: impl Into<String>, socket: OwnedFd) {
        let named = self.sockets.entry(name.into()).or_default();
        named.push(socket.into());
    }

    /// As [`add`](Self::add), from another process of ours.
    pub fn add_ours(&mut self, name: &str, socket: OwnedFd) {
        self.ours.insert(name.to_owned());
        self.add(name, socket);
    }

    /// The names of those that are left.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.sockets.keys().map(String::as_str)
    }

    /// All of `name`; none where none were given.
    pub fn internet(&mut self, name: &str) -> io::Result<Vec<Socket>> {
        let sockets = self.sockets.remove(name).unwrap_or_default();
        for socket in &sockets {
            let domain = socket.domain()?;
            if !listens(socket)? || ![Domain::IPV4, Domain::IPV6].contains(&domain) {
                return Err(unusable(name, "is no listening socket of TCP"));
            }
            socket.set_nonblocking(true)?;
        }
        Ok(sockets)
    }

    /// As [`internet`](Self::internet), where there can be only one.
    pub fn one_internet(&mut self, name: &str) -> io::Result<Option<std::net::TcpListener>> {
        let mut sockets = self.internet(name)?;
        let socket = sockets.pop();
        if !sockets.is_empty() {
            return Err(unusable(name, "is the name of several: one is served"));
        }
        Ok(socket.map(Into::into))
    }

    /// The one of `name` that is a file, which is to be at `path` with `mode`.
    /// Whoever may open it is believed.
    pub fn file(&mut self, name: &str, path: &Path, mode: u32) -> io::Result<Option<UnixListener>> {
        let mut sockets = self.sockets.remove(name).unwrap_or_default();
        let Some(socket) = sockets.pop() else {
            return Ok(None);
        };
        if !sockets.is_empty() {
            return Err(unusable(name, "is the name of several: one is served"));
        }
        if !listens(&socket)? || socket.domain()? != Domain::UNIX {
            return Err(unusable(name, "is no listening socket of the file system"));
        }
        let listener = UnixListener::from(OwnedFd::from(socket));
        if self.ours.contains(name) {
            // It was renamed, and does not know its name.
            if !fs::symlink_metadata(path)?.file_type().is_socket() {
                return Err(unusable(
                    name,
                    "is a socket whose file is gone: another file is there",
                ));
            }
            fs::set_permissions(path, Permissions::from_mode(mode))?;
        } else {
            closed_to_others(name, &listener)?;
        }
        listener.set_nonblocking(true)?;
        Ok(Some(listener))
    }
}

fn closed_to_others(name: &str, listener: &UnixListener) -> io::Result<()> {
    let address = listener.local_addr()?;
    let Some(path) = address.as_pathname() else {
        let problem = "has no file, whose permissions say who may ask";
        return Err(unusable(name, problem));
    };
    if fs::symlink_metadata(path)?.permissions().mode() & 0o007 != 0 {
        let problem = "lets everybody ask: give its file the mode 0660 or 0600";
        return Err(unusable(name, problem));
    }
    Ok(())
}

fn listens(socket: &Socket) -> io::Result<bool> {
    Ok(socket.r#type()? == Type::STREAM && socket.is_listener()?)
}

fn unusable(name: &str, problem: &str) -> io::Error {
    let problem = format!("the socket that was given as `{name}` {problem}");
    io::Error::new(io::ErrorKind::InvalidInput, problem)
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream, UdpSocket};

    use super::*;

    fn given(sockets: Vec<OwnedFd>) -> Inherited {
        let mut inherited = Inherited::default();
        for socket in sockets {
            inherited.add("given", socket);
        }
        inherited
    }

    #[test]
    fn only_listening_sockets_of_tcp_are_taken_for_such() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let connection = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let datagrams = UdpSocket::bind("127.0.0.1:0").unwrap();
        let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let file = UnixListener::bind(directory.path().join("sock")).unwrap();
        for wrong in [
            connection.into(),
            datagrams.into(),
            bound.into(),
            file.into(),
        ] {
            let error = given(vec![wrong]).internet("given").unwrap_err();
            assert!(error.to_string().contains("`given` is no"), "{error}");
        }
        let mut both = given(vec![listener.try_clone().unwrap().into(), listener.into()]);
        assert_eq!(both.internet("other").unwrap().len(), 0);
        assert_eq!(both.names().collect::<Vec<_>>(), ["given"]);
        assert_eq!(both.internet("given").unwrap().len(), 2);
        assert_eq!(both.names().count(), 0);
    }

    #[test]
    fn where_one_is_served_several_are_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let copies = vec![listener.try_clone().unwrap().into(), listener.into()];
        assert!(given(copies).one_internet("given").is_err());
        assert!(given(vec![]).one_internet("given").unwrap().is_none());
    }

    #[test]
    fn who_may_ask_over_a_file_its_permissions_say() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edge.sock");
        let listener = UnixListener::bind(&path).unwrap();
        for (mode, is_taken) in [(0o660, true), (0o600, true), (0o666, false), (0o661, false)] {
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let mut inherited = given(vec![listener.try_clone().unwrap().into()]);
            assert_eq!(
                inherited.file("given", &path, 0o660).is_ok(),
                is_taken,
                "{mode:o}"
            );
        }
        // What another process of ours made has the mode that is configured now.
        let mut ours = Inherited::default();
        ours.add_ours("given", listener.into());
        assert!(ours.file("given", &path, 0o600).unwrap().is_some());
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        // Whoever reaches it would be believed.
        let internet = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(
            given(vec![internet.into()])
                .file("given", &path, 0o660)
                .is_err()
        );
    }
}
