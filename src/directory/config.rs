//! The settings of the directory.

use std::num::NonZeroU32;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::repository::guarded::Bounds;
use crate::setting::{self, Invalid};

/// Whether keys are read before they are asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WarmUp {
    /// Each is read when it is first used.
    #[default]
    Off,
    /// All that are active, while the first requests are served.
    Background,
    /// All that are active, before the process says that it is ready.
    BeforeReady,
}

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
    /// How long a read may take: what comes too late for whoever asked still
    /// serves whoever asks next.
    #[serde(deserialize_with = "setting::duration")]
    pub read_timeout: Duration,
    /// A store that fails is asked by nobody but a probe, at growing intervals:
    /// the longest of them.
    #[serde(deserialize_with = "setting::duration")]
    pub max_backoff: Duration,
    /// How many reads of the store run at once.
    pub max_reads: usize,
    /// How many reads may run or wait their turn; a request that would need one
    /// more is refused as when the store is unavailable.
    pub max_waiting: usize,
    /// How many of these for one client address (IPv6: one /64).
    pub max_waiting_per_address: usize,
    pub warm_up: WarmUp,
    /// Keys a second.
    pub warm_up_rate: NonZeroU32,
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
            read_timeout: Duration::from_secs(2),
            max_backoff: Duration::from_secs(1),
            max_reads: 64,
            max_waiting: 4096,
            max_waiting_per_address: 256,
            warm_up: WarmUp::Off,
            // A tenth of a core for opening envelopes; a minute for 60,000 keys.
            warm_up_rate: NonZeroU32::MIN.saturating_add(999),
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
            ("max_backoff", self.max_backoff),
        ] {
            if duration.is_zero() {
                bad(key, "must be longer than 0s".to_owned());
            }
        }
        if self.read_timeout < self.lookup_timeout {
            let least = humantime::format_duration(self.lookup_timeout);
            bad(
                "read_timeout",
                format!("must be at least `{section}.lookup_timeout`: write `{least}` or more"),
            );
        }
        if self.max_stale < self.ttl * 2 {
            let least = humantime::format_duration(self.ttl * 2);
            bad(
                "max_stale",
                format!("must be at least twice `{section}.ttl`: write `{least}` or more"),
            );
        }
    }

    /// What the store is given. A read counts as late a little before a client
    /// gives up, so that who comes after it does not wait in vain as well.
    pub(super) fn bounds(&self) -> Bounds {
        Bounds {
            patience: self.lookup_timeout / 10 * 9,
            deadline: self.read_timeout,
            max_backoff: self.max_backoff,
        }
    }
}
