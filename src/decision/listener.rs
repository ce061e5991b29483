//! Where questions come in: sockets of the file system, and addresses.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use super::caller::Caller;
use super::config::Place;
use super::{DecisionConfig, Dialect};
use crate::inherited::{self, Inherited};
use crate::secret::Secret;
use crate::socket_file::SocketFile;

/// A place cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("decisions.{name}.listen: cannot listen at {place}: {source}")]
pub struct BindError {
    name: String,
    place: String,
    source: io::Error,
}

/// All listeners of a deployment; nobody is answered yet.
#[derive(Debug, Default)]
pub struct Listeners(pub(super) Vec<Listener>);

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) dialect: Dialect,
    pub(super) caller: Caller,
    pub(super) bound: Bound,
}

#[derive(Debug)]
pub(super) enum Bound {
    Address(TcpListener),
    /// Without its file where that is another process's to remove.
    Socket(UnixListener, Option<SocketFile>),
}

impl Listeners {
    /// Of `configs`, which are sound: on the sockets that were `inherited`, where
    /// they were. `secret` is there where one needs it.
    pub fn bind(
        configs: &BTreeMap<String, DecisionConfig>,
        secret: Option<&Secret<String>>,
        inherited: &mut Inherited,
    ) -> Result<Self, BindError> {
        let mut listeners = Vec::with_capacity(configs.len());
        for (name, config) in configs {
            let Some((dialect, place)) = config.compile("decisions", &mut Vec::new()) else {
                continue;
            };
            let failed = |source| BindError {
                name: name.clone(),
                place: config.listen.clone(),
                source,
            };
            let caller = match (&place, secret) {
                (Place::Socket { .. }, _) => Caller::Socket,
                (Place::Address(_), Some(secret)) => Caller::Secret(secret.clone()),
                (Place::Address(_), None) => {
                    let problem = "there is no secret to know callers by";
                    return Err(failed(io::Error::other(problem)));
                }
            };
            listeners.push(Listener {
                name: name.clone(),
                dialect,
                caller,
                bound: Bound::to(&place, inherited, name).map_err(failed)?,
            });
        }
        Ok(Self(listeners))
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Copies of the sockets, by what they are for.
    pub fn copies(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let copy = |listener: &Listener| {
            let copy = match &listener.bound {
                Bound::Address(listener) => listener.try_clone()?.into(),
                Bound::Socket(listener, _) => listener.try_clone()?.into(),
            };
            Ok((inherited::decision(&listener.name), copy))
        };
        self.0.iter().map(copy).collect()
    }
}

impl Bound {
    fn to(place: &Place, inherited: &mut Inherited, name: &str) -> io::Result<Self> {
        let given = inherited::decision(name);
        match place {
            Place::Address(address) => {
                if let Some(listener) = inherited.one_internet(&given)? {
                    return Ok(Self::Address(listener));
                }
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Address(listener))
            }
            Place::Socket { path, mode } => {
                if let Some(listener) = inherited.file(&given, path, *mode)? {
                    return Ok(Self::Socket(listener, None));
                }
                let (listener, file) = SocketFile::bind(path, *mode)?;
                Ok(Self::Socket(listener, Some(file)))
            }
        }
    }
}
