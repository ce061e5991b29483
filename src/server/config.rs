//! `[server]`.

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;
use std::time::Duration;

use bytesize::ByteSize;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer};

use super::{http2, proxy_protocol};
use crate::pace::Pace;
use crate::setting::{self, Invalid};
use crate::tls;

/// hyper's read buffer is no smaller, so neither is what it lets through.
const SMALLEST_HEADER_BYTES: ByteSize = ByteSize::kib(8);

/// `[server]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    #[serde(deserialize_with = "setting::address")]
    pub listen: SocketAddr,
    pub workers: Workers,
    /// The proxies in front of us: what they say of a client's address is believed.
    pub trusted_proxies: Vec<IpNet>,
    /// How many of them a request passes: the client is this many from the
    /// right of `X-Forwarded-For`.
    pub trusted_hops: NonZeroUsize,
    /// From a connection, or the end of its TLS handshake, to the first byte of
    /// its first request.
    #[serde(deserialize_with = "setting::duration")]
    pub first_byte_timeout: Duration,
    /// For a request head, from its first byte to its last.
    #[serde(deserialize_with = "setting::duration")]
    pub header_timeout: Duration,
    /// For a connection with no request, or one that takes nothing of its answer.
    #[serde(deserialize_with = "setting::duration")]
    pub idle_timeout: Duration,
    /// What a client has to take of its answer in a second, beyond that.
    pub min_rate: ByteSize,
    /// A larger head is refused with 431. Also what is read ahead of a body.
    pub max_header_bytes: ByteSize,
    pub max_headers: usize,
    /// Of all workers together; a connection beyond is closed at once.
    pub max_connections: usize,
    /// Of one client address (IPv6: one /64), unless it is a proxy's or a
    /// balancer's; a connection beyond is closed at once.
    pub max_connections_per_address: usize,
    /// How old a connection may get, a tenth of it by chance: then its next answer
    /// is its last, and of HTTP/2 no more requests are taken. Any age when not set.
    #[serde(deserialize_with = "setting::optional_duration")]
    pub max_connection_age: Option<Duration>,
    /// How long accepting goes on after the signal to stop.
    #[serde(deserialize_with = "setting::duration")]
    pub drain_delay: Duration,
    /// How long what is in flight may take after that.
    #[serde(deserialize_with = "setting::duration")]
    pub drain_timeout: Duration,
    /// How long of that a connection without a request is kept, in case one is on
    /// its way: that one is answered, and is the last.
    #[serde(deserialize_with = "setting::duration")]
    pub drain_idle: Duration,
    pub proxy_protocol: proxy_protocol::Config,
    pub http2: http2::Config,
    pub tls: tls::Config,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0, 0, 0, 0], 8080)),
            workers: Workers::Auto,
            trusted_proxies: Vec::new(),
            trusted_hops: NonZeroUsize::MIN,
            first_byte_timeout: Duration::from_secs(15),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(75),
            min_rate: ByteSize::b(Pace::USUAL.min_rate),
            max_header_bytes: ByteSize::kib(32),
            max_headers: 100,
            max_connections: 20_000,
            max_connections_per_address: 2000,
            max_connection_age: None,
            drain_delay: Duration::ZERO,
            drain_timeout: Duration::from_secs(7),
            drain_idle: Duration::from_secs(1),
            proxy_protocol: proxy_protocol::Config::default(),
            http2: http2::Config::default(),
            tls: tls::Config::default(),
        }
    }
}

impl Config {
    /// Whether a running server can go on to `next`: all that differs is what
    /// TLS loads anew.
    pub fn is_served_as(&self, next: &Self) -> bool {
        let with_tls_of = |other: &Self| tls::Config {
            listen: self.tls.listen,
            ..other.tls.clone()
        };
        let reloadable = self.tls.is_on() == next.tls.is_on();
        let as_next = Self {
            tls: if reloadable {
                with_tls_of(next)
            } else {
                self.tls.clone()
            },
            ..self.clone()
        };
        as_next == *next
    }

    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        let mut invalid = |key: &str, problem: String| {
            found.push(Invalid::new(format!("{section}.{key}"), problem));
        };
        for (key, duration) in [
            ("first_byte_timeout", self.first_byte_timeout),
            ("header_timeout", self.header_timeout),
            ("idle_timeout", self.idle_timeout),
        ] {
            if duration.is_zero() {
                invalid(key, "is zero: nothing would be served".into());
            }
        }
        if self.min_rate.as_u64() == 0 {
            invalid(
                "min_rate",
                "is zero: for nearly no bound, write `1B`".into(),
            );
        }
        let bytes = self.max_header_bytes;
        if bytes < SMALLEST_HEADER_BYTES || bytes > ByteSize::mib(1) {
            invalid("max_header_bytes", "use 8KiB to 1MiB".into());
        }
        if !(8..=1000).contains(&self.max_headers) {
            invalid("max_headers", "use 8 to 1000".into());
        }
        for (key, most) in [
            ("max_connections", self.max_connections),
            (
                "max_connections_per_address",
                self.max_connections_per_address,
            ),
        ] {
            if most == 0 {
                invalid(key, "is zero: nothing would be served".into());
            }
        }
        if self.max_connection_age.is_some_and(|age| age.is_zero()) {
            let problem = "is zero: every answer would be the last of its connection";
            invalid("max_connection_age", problem.into());
        }
        if self.tls.listen == Some(self.listen) {
            let problem = "is the address of the plain traffic, `server.listen`: choose another \
                           port, or leave it out to speak only TLS there";
            invalid("tls.listen", problem.into());
        }
        self.proxy_protocol
            .problems(&format!("{section}.proxy_protocol"), found);
        self.http2.problems(&format!("{section}.http2"), found);
        self.tls.problems(&format!("{section}.tls"), found);
    }
}

/// How many workers there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Workers {
    /// One for each whole CPU that the process may use, at least one.
    #[default]
    Auto,
    Count(NonZeroUsize),
}

impl Workers {
    pub fn count(self) -> usize {
        match self {
            // Reads the affinity mask and the cgroup's quota.
            Self::Auto => available_parallelism().map_or(1, NonZeroUsize::get),
            Self::Count(count) => count.get(),
        }
    }
}

impl<'de> Deserialize<'de> for Workers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged, expecting = "expected `\"auto\"` or a number of at least 1")]
        enum Written {
            Auto(Auto),
            Count(NonZeroUsize),
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Auto {
            Auto,
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Auto(Auto::Auto) => Self::Auto,
            Written::Count(count) => Self::Count(count),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn workers_are_counted_or_left_to_the_machine() {
        let workers = |text: &str| {
            let text = format!("workers = {text}");
            toml::from_str::<Config>(&text).map(|config| config.workers)
        };
        assert_eq!(workers("\"auto\""), Ok(Workers::Auto));
        assert_eq!(workers("3").unwrap().count(), 3);
        assert!(Workers::Auto.count() >= 1);
        for bad in ["0", "\"many\"", "-1"] {
            let error = workers(bad).unwrap_err().to_string();
            assert!(error.contains("`\"auto\"`"), "{error}");
        }
    }

    #[test]
    fn the_defaults_are_sound_and_nonsense_is_named() {
        let mut found = Vec::new();
        Config::default().problems("server", &mut found);
        assert_eq!(found, []);
        let config: Config = toml::from_str(
            "header_timeout = '0s'\nmax_header_bytes = '1KiB'\nmax_headers = 1\nmax_connections = 0",
        )
        .unwrap();
        config.problems("server", &mut found);
        let keys: Vec<_> = found.iter().map(|invalid| invalid.key.as_str()).collect();
        assert_eq!(
            keys,
            [
                "server.header_timeout",
                "server.max_header_bytes",
                "server.max_headers",
                "server.max_connections"
            ]
        );
    }
}
