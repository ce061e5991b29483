//! The sockets of an edge.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};

use tokio::net::TcpListener;

use crate::admin::HealthConfig;
use crate::app::error::ServeError;
use crate::config::Config;
use crate::decision::Listeners;
use crate::inherited::{self, Inherited};
use crate::server::{self, Server};

/// The ports, taken before anything that takes long: whoever wants them learns
/// at once that they are not to be had.
pub(in crate::app) struct Sockets {
    pub(super) server: Server,
    pub(super) probes: TcpListener,
    pub(super) decisions: Listeners,
}

impl Sockets {
    /// On the sockets that another process gave, where it did.
    pub(in crate::app) fn of(
        config: &Config,
        mut inherited: Inherited,
    ) -> Result<Self, ServeError> {
        let mut sockets = Self::on(&config.server, &config.health, &mut inherited)?;
        let secret = config.decision_secret.as_ref();
        sockets.decisions = Listeners::bind(&config.decisions, secret, &mut inherited)?;
        // Clients would wait in them for ever.
        let names: Vec<_> = inherited.names().collect();
        if !names.is_empty() {
            return Err(ServeError::Unserved(names.join("`, `")));
        }
        Ok(sockets)
    }

    /// As [`of`](Self::of), without those of decisions.
    pub(in crate::app) fn on(
        server: &server::Config,
        health: &HealthConfig,
        inherited: &mut Inherited,
    ) -> Result<Self, ServeError> {
        let address = health.listen;
        let probes = inherited
            .one_internet(inherited::HEALTH)
            .and_then(|given| given.map_or_else(|| std::net::TcpListener::bind(address), Ok))
            .and_then(|listener| {
                listener.set_nonblocking(true)?;
                TcpListener::from_std(listener)
            })
            .map_err(|source| ServeError::Health { address, source })?;
        Ok(Self {
            server: Server::inherit(server, inherited)?,
            probes,
            decisions: Listeners::default(),
        })
    }

    /// Where the traffic comes in.
    pub(in crate::app) const fn traffic(&self) -> SocketAddr {
        self.server.address()
    }

    pub(in crate::app) fn health(&self) -> io::Result<SocketAddr> {
        self.probes.local_addr()
    }

    /// Copies of all of them, by what they are for.
    pub(in crate::app) fn copies(&self) -> io::Result<Vec<(String, OwnedFd)>> {
        let probes = self.probes.as_fd().try_clone_to_owned()?;
        let mut copies = self.server.copies()?;
        copies.push((inherited::HEALTH.to_owned(), probes));
        copies.extend(self.decisions.copies()?);
        Ok(copies)
    }
}
