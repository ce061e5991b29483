//! Where questions come in: sockets of the file system, and addresses.

use std::collections::BTreeMap;
use std::io;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;

use super::caller::Caller;
use super::config::{Place, Proof};
use super::{DecisionConfig, Dialect};
use crate::inherited::{self, Inherited};
use crate::secret::Secret;
use crate::socket_file::SocketFile;
use crate::tls::Tls;

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
    Address(TcpListener, Option<Tls>),
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
            let section = format!("decisions.{name}");
            let Some(compiled) = config.compile(&section, &mut Vec::new()) else {
                continue;
            };
            let failed = |source| BindError {
                name: name.clone(),
                place: config.listen.clone(),
                source,
            };
            let caller = match (compiled.proof, secret) {
                (Proof::Connection, _) => Caller::Connected,
                (Proof::Secret, Some(secret)) => Caller::Secret(secret.clone()),
                (Proof::Secret, None) => {
                    let problem = "there is no secret to know callers by";
                    return Err(failed(io::Error::other(problem)));
                }
            };
            // A proxy asks by HTTP/1.
            let tls = Tls::load(&section, &config.tls(), false).map_err(|found| {
                let found: Vec<_> = found.iter().map(ToString::to_string).collect();
                failed(io::Error::other(found.join("; ")))
            })?;
            listeners.push(Listener {
                name: name.clone(),
                dialect: compiled.dialect,
                caller,
                bound: Bound::to(&compiled.place, tls, inherited, name).map_err(failed)?,
            });
        }
        Ok(Self(listeners))
    }

    /// To look after the certificates of all that have any.
    pub fn tls(&self) -> impl Iterator<Item = &Tls> {
        self.0.iter().filter_map(|listener| match &listener.bound {
            Bound::Address(_, tls) => tls.as_ref(),
            Bound::Socket(..) => None,
        })
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Copies of the sockets, by what they are for.
    pub fn copies(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let copy = |listener: &Listener| {
            let copy = match &listener.bound {
                Bound::Address(listener, _) => listener.try_clone()?.into(),
                Bound::Socket(listener, _) => listener.try_clone()?.into(),
            };
            Ok((inherited::decision(&listener.name), copy))
        };
        self.0.iter().map(copy).collect()
    }
}

impl Bound {
    fn to(
        place: &Place,
        tls: Option<Tls>,
        inherited: &mut Inherited,
        name: &str,
    ) -> io::Result<Self> {
        let given = inherited::decision(name);
        match place {
            Place::Address(address) => {
                if let Some(listener) = inherited.one_internet(&given)? {
                    return Ok(Self::Address(listener, tls));
                }
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Address(listener, tls))
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
