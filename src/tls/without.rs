//! A build without TLS: there is nothing of it, and a configuration that wants
//! it was refused.

use tokio::net::TcpStream;

use super::{Config, Encrypted};
use crate::clock::{Clock, Timestamp};
use crate::setting::Invalid;

/// Of no connection.
pub type Stream = TcpStream;

/// Nothing is one.
#[derive(Clone, Debug)]
pub enum Tls {}

/// Nothing to look at.
pub const fn check(_: &str, _: &Config, _: Timestamp) -> Vec<Invalid> {
    Vec::new()
}

impl Tls {
    pub const fn load(_: &str, _: &Config, _: bool) -> Result<Option<Self>, Vec<Invalid>> {
        Ok(None)
    }

    pub fn reload(&self, _: &Config) -> Result<(), Vec<Invalid>> {
        match *self {}
    }

    #[expect(clippy::unused_async, reason = "with TLS it never ends")]
    pub async fn follow(self, _: Clock) {
        match self {}
    }

    #[expect(clippy::unused_async, reason = "with TLS it takes time")]
    pub async fn accept(&self, _: TcpStream) -> Option<Encrypted> {
        match *self {}
    }
}
