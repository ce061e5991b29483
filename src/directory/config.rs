//! The settings of the directory.

use std::time::Duration;

use serde::Deserialize;

use crate::setting::{self, Invalid};

/// `[directory]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// How many keys are cached.
    pub max_keys: u64,
    /// How many hashes without a usable key are remembered, so that the store is
    /// not asked again for each of their requests.
    pub max_absent: u64,
    /// While the feed is cut, a record older than this is read again when it is
    /// used: meanwhile it serves up to twice this, and beyond that it waits.
    #[serde(deserialize_with = "setting::duration")]
    pub ttl: Duration,
    /// While the feed is healthy, a record is read again at least this often
    /// when it is used.
    #[serde(deserialize_with = "setting::duration")]
    pub max_age: Duration,
    /// How long a known key goes on after the store last confirmed it.
    #[serde(deserialize_with = "setting::duration")]
    pub max_stale: Duration,
    /// How long a request waits for the store.
    #[serde(deserialize_with = "setting::duration")]
    pub lookup_timeout: Duration,
    /// How many reads of the store run at once.
    pub max_reads: usize,
    /// How many reads may run or wait their turn; a request that would need one
    /// more is refused as when the store is unavailable.
    pub max_waiting: usize,
    /// How many of these for one client address (IPv6: one /64).
    pub max_waiting_per_address: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_keys: 1_000_000,
            max_absent: 100_000,
            ttl: Duration::from_secs(30),
            max_age: Duration::from_mins(5),
            max_stale: Duration::from_mins(10),
            lookup_timeout: Duration::from_millis(500),
            max_reads: 64,
            max_waiting: 4096,
            max_waiting_per_address: 256,
        }
    }
}

impl Config {
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        let mut bad = |key: &str, problem: String| {
            found.push(Invalid::new(format!("{section}.{key}"), problem));
        };
        for (key, zero) in [
            ("max_keys", self.max_keys == 0),
            ("max_absent", self.max_absent == 0),
            ("max_reads", self.max_reads == 0),
            ("max_waiting", self.max_waiting == 0),
            ("max_waiting_per_address", self.max_waiting_per_address == 0),
        ] {
            if zero {
                bad(key, "must not be 0".to_owned());
            }
        }
        for (key, duration) in [
            ("ttl", self.ttl),
            ("max_age", self.max_age),
            ("lookup_timeout", self.lookup_timeout),
        ] {
            if duration.is_zero() {
                bad(key, "must be longer than 0s".to_owned());
            }
        }
        if self.max_stale < self.ttl * 2 {
            let least = humantime::format_duration(self.ttl * 2);
            bad(
                "max_stale",
                format!("must be at least twice `{section}.ttl`: write `{least}` or more"),
            );
        }
    }
}
