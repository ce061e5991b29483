//! Who may come in, and who it is.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use metrics::{Counter, counter};
use tokio::net::TcpStream;

use super::crowd::{Crowd, Present};
use super::proxy_protocol::{self, Header};
use super::{Config, Connection};
use crate::telemetry::metric::{CONNECTIONS_CLOSED_CROWDED, PROXY_HEADERS_FAILED};

/// What stands between a connection that was accepted and its first byte. One
/// for each worker; what it counts is of all.
#[derive(Debug)]
pub(super) struct Gate {
    balancers: proxy_protocol::Config,
    /// They have the connections of many: no address's share is theirs.
    proxies: Vec<IpNet>,
    crowd: Arc<Crowd>,
    closed_crowded: Counter,
}

/// A connection that came in: its ends, as they are believed, and its place.
pub(super) struct Entered {
    pub(super) ends: Connection,
    pub(super) present: Option<Present>,
}

impl Gate {
    pub(super) fn new(config: &Config, crowd: Arc<Crowd>) -> Self {
        Self {
            balancers: config.proxy_protocol.clone(),
            proxies: config.trusted_proxies.clone(),
            crowd,
            closed_crowded: counter!(CONNECTIONS_CLOSED_CROWDED),
        }
    }

    /// Reads what a balancer says of a connection that it relays. `None` for one
    /// that has to be closed, which is counted.
    pub(super) async fn pass(&self, stream: &mut TcpStream, ends: Connection) -> Option<Entered> {
        let ends = if self.balancers.expects(ends.peer.ip()) {
            self.relayed(stream, ends).await?
        } else {
            ends
        };
        let client = ends.peer.ip();
        let present = if self.is_shared(client) {
            None
        } else {
            let present = self.crowd.enter(client);
            if present.is_none() {
                tracing::debug!("an address has server.max_connections_per_address: closing one");
                self.closed_crowded.increment(1);
                return None;
            }
            present
        };
        Some(Entered { ends, present })
    }

    async fn relayed(&self, stream: &mut TcpStream, ends: Connection) -> Option<Connection> {
        match self.balancers.read(stream).await {
            Ok(Header::Relayed { client, local }) => Some(Connection {
                peer: client,
                local,
                ..ends
            }),
            Ok(Header::Own) => Some(ends),
            Err(unread) => {
                tracing::debug!(peer = %ends.peer, error = %unread, "closing what a balancer sent");
                counter!(PROXY_HEADERS_FAILED, "reason" => unread.reason()).increment(1);
                None
            }
        }
    }

    /// A balancer's own connections are its health checks.
    fn is_shared(&self, client: IpAddr) -> bool {
        let address = client.to_canonical();
        self.balancers.expects(client)
            || self
                .proxies
                .iter()
                .any(|network| network.contains(&address))
    }
}
