//! A build without TLS: there is nothing of it, and a configuration that wants
//! it was refused.

use tokio::net::TcpStream;

use super::Config;
use crate::clock::{Clock, Timestamp};
use crate::server::Secured;
use crate::server::connection::Spoken;
use crate::setting::Invalid;

/// Nothing is one.
#[derive(Clone, Debug)]
pub enum Tls {}

/// Nothing to look at.
pub const fn check(_: &Config, _: Timestamp) -> Vec<Invalid> {
    Vec::new()
}

impl Tls {
    #[expect(clippy::unnecessary_wraps, reason = "with TLS it may fail")]
    pub(in crate::server) const fn load(_: &Config, _: bool) -> Result<Option<Self>, Vec<Invalid>> {
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
    pub(in crate::server) async fn accept(
        &self,
        _: TcpStream,
    ) -> Option<(TcpStream, Spoken, Secured)> {
        match *self {}
    }
}
