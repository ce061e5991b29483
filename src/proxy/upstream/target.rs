//! One target of an upstream: where it is, and how it stands.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use http::uri::Scheme;
use http::{HeaderValue, Uri};
use tokio::sync::Semaphore;

use super::limits::semaphore;
use super::resolve::Addresses;
use crate::clock::Tick;
use crate::route::Host;

/// `http://host:port` or `https://host:port`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::proxy) struct Address {
    pub(super) encrypted: bool,
    /// An address without brackets, or a name to be resolved.
    pub(super) host: String,
    pub(super) port: u16,
}

impl Address {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let not_a_target = || {
            format!(
                "`{text}` is not a target: write `http://host:port` or `https://host:port`, \
                 without a path"
            )
        };
        let uri: Uri = text.parse().map_err(|_| not_a_target())?;
        let encrypted = uri.scheme() == Some(&Scheme::HTTPS);
        let spoken = encrypted || uri.scheme() == Some(&Scheme::HTTP);
        let bare = spoken && matches!(uri.path(), "" | "/");
        let authority = uri.authority().ok_or_else(not_a_target)?;
        let known = Host::parse(authority.as_str().as_bytes()).is_some();
        let port = match &authority.as_str()[authority.host().len()..] {
            "" => Some(default_port(encrypted)),
            port => port[1..].parse().ok(),
        };
        match port {
            Some(port) if port > 0 && bare && known && uri.query().is_none() => {
                let host = authority.host().trim_matches(['[', ']']).to_owned();
                Ok(Self {
                    encrypted,
                    host,
                    port,
                })
            }
            _ => Err(not_a_target()),
        }
    }

    /// The `Host` that means it.
    pub(super) fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        if self.port == default_port(self.encrypted) {
            host
        } else {
            format!("{host}:{}", self.port)
        }
    }
}

const fn default_port(encrypted: bool) -> u16 {
    if encrypted { 443 } else { 80 }
}

/// One target, as all workers see it.
#[derive(Debug)]
pub(in crate::proxy) struct Target {
    /// The `Host` that means it; also its name in logs and metrics.
    pub(in crate::proxy) authority: HeaderValue,
    pub(in crate::proxy) addresses: Addresses,
    /// One permit for each request that it may be sent at once.
    pub(super) connections: Option<Arc<Semaphore>>,
    pub(super) standing: Standing,
}

impl Target {
    /// `None` for a host that no header field can hold.
    pub(super) fn new(address: &Address, connections: Option<NonZeroUsize>) -> Option<Self> {
        Some(Self {
            authority: HeaderValue::try_from(address.authority()).ok()?,
            addresses: Addresses::of(&address.host, address.port),
            connections: connections.map(|most| semaphore(most.get())),
            standing: Standing::default(),
        })
    }

    pub(in crate::proxy) fn name(&self) -> &str {
        self.authority.to_str().unwrap_or_default()
    }

    /// Whether it is expected to answer, and has room.
    pub(super) fn is_open(&self, now: Tick) -> bool {
        let room = |connections: &Arc<Semaphore>| connections.available_permits() > 0;
        self.standing.is_in(now) && self.connections.as_ref().is_none_or(room)
    }
}

/// How a target stands: written seldom, read for every request.
#[derive(Debug)]
pub(super) struct Standing {
    /// What its checks say; true where there are none.
    healthy: AtomicBool,
    /// Failures of requests since the last answer.
    failures: AtomicU32,
    /// Until when it is ejected, in nanoseconds of a [`Tick`].
    out_until: AtomicU64,
}

impl Default for Standing {
    fn default() -> Self {
        Self {
            healthy: AtomicBool::new(true),
            failures: AtomicU32::new(0),
            out_until: AtomicU64::new(0),
        }
    }
}

impl Standing {
    pub(super) fn is_in(&self, now: Tick) -> bool {
        self.is_healthy() && !self.is_ejected(now)
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    pub(super) fn set_healthy(&self, healthy: bool) {
        self.healthy.store(healthy, Ordering::Relaxed);
    }

    pub(super) fn is_ejected(&self, now: Tick) -> bool {
        self.out_until.load(Ordering::Relaxed) > now.as_nanos()
    }

    pub(super) fn eject(&self, until: Tick) {
        self.out_until.store(until.as_nanos(), Ordering::Relaxed);
    }

    /// How many requests in a row have failed now.
    pub(super) fn failed(&self) -> u32 {
        self.failures
            .fetch_add(1, Ordering::Relaxed)
            .saturating_add(1)
    }

    pub(super) fn answered(&self) {
        // Most requests have nothing to write, and leave the line to its readers.
        if self.failures.load(Ordering::Relaxed) != 0 {
            self.failures.store(0, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_a_host_and_a_port() {
        for (text, host, port, authority) in [
            ("http://127.0.0.1:9000", "127.0.0.1", 9000, "127.0.0.1:9000"),
            ("http://app.internal/", "app.internal", 80, "app.internal"),
            ("http://[::1]:9000", "::1", 9000, "[::1]:9000"),
            ("https://app.internal", "app.internal", 443, "app.internal"),
            (
                "https://app.internal:80",
                "app.internal",
                80,
                "app.internal:80",
            ),
        ] {
            let address = Address::parse(text).unwrap();
            assert_eq!((&*address.host, address.port), (host, port));
            assert_eq!(Target::new(&address, None).unwrap().authority, authority);
        }
    }

    #[test]
    fn what_is_no_target_is_refused_with_what_would_do() {
        for text in [
            "127.0.0.1:9000",
            "ftp://a",
            "http://a/base",
            "http://a?x",
            "http://user@a",
            "http://a:0",
            "http://a:99999",
            "http://",
        ] {
            let problem = Address::parse(text).unwrap_err();
            assert!(problem.contains("http://"), "{problem}");
        }
    }
}
