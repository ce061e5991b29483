//! What a route's connections may become.

use std::time::Duration;

use http::HeaderValue;

/// Which protocols a connection may go on with after a 101, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnels {
    /// In lower case.
    pub protocols: Box<[HeaderValue]>,
    /// For a tunnel in which nothing moves.
    pub idle_timeout: Duration,
    /// No bound when `None`.
    pub lifetime: Option<Duration>,
}

impl Tunnels {
    /// The listed protocol of that name.
    pub fn protocol(&self, name: &[u8]) -> Option<&HeaderValue> {
        let mut protocols = self.protocols.iter();
        protocols.find(|protocol| protocol.as_bytes().eq_ignore_ascii_case(name))
    }
}

impl Default for Tunnels {
    fn default() -> Self {
        Self {
            protocols: [HeaderValue::from_static("websocket")].into(),
            idle_timeout: Duration::from_mins(10),
            lifetime: None,
        }
    }
}
