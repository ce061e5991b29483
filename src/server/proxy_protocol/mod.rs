//! The PROXY protocol: a balancer that relays connections says whose each is.
//!
//! `[server.proxy_protocol]` lists the balancers. Each of their connections has
//! to begin with a header, before anything else, TLS too; nobody else's is read.

mod header;

pub use header::{Header, Malformed, Parsed, parse};

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::time::timeout;

use crate::setting::{self, Invalid};

/// `[server.proxy_protocol]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// The networks whose connections begin with a header, without exception.
    pub from: Vec<IpNet>,
    /// From a connection to the end of its header.
    #[serde(deserialize_with = "setting::duration")]
    pub header_timeout: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            from: Vec::new(),
            header_timeout: Duration::from_secs(5),
        }
    }
}

impl Config {
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        if self.header_timeout.is_zero() {
            let problem = "is zero: no header would come in time";
            found.push(Invalid::new(format!("{section}.header_timeout"), problem));
        }
    }

    /// Whether connections with `peer` begin with a header.
    pub(super) fn expects(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        self.from.iter().any(|network| network.contains(&peer))
    }

    /// Reads the header of a connection, and nothing behind it.
    pub(super) async fn read<T: AsyncRead + Unpin>(
        &self,
        stream: &mut T,
    ) -> Result<Header, Unread> {
        let reading = timeout(self.header_timeout, read(stream));
        reading.await.unwrap_or(Err(Unread::TooSlow))
    }
}

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error("no header in time")]
    TooSlow,
    #[error("it broke off: {0}")]
    BrokeOff(#[from] io::Error),
}

impl Unread {
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Malformed(_) => "malformed",
            Self::TooSlow => "timed_out",
            Self::BrokeOff(_) => "broke_off",
        }
    }
}

async fn read<T: AsyncRead + Unpin>(stream: &mut T) -> Result<Header, Unread> {
    let mut bytes = Vec::new();
    loop {
        match parse(&bytes)? {
            Parsed::Whole(header) => return Ok(header),
            Parsed::Missing(missing) => {
                let begin = bytes.len();
                bytes.resize(begin + missing, 0);
                stream.read_exact(&mut bytes[begin..]).await?;
            }
        }
    }
}
