//! The settings of the limiter.

use serde::Deserialize;

use crate::setting::Invalid;

/// `[limiter]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub burst: Burst,
    /// How many keys' states are kept.
    pub max_keys: usize,
    /// How many instances share each key's limit.
    pub instances: u32,
}

/// How many requests a full bucket holds, before it is divided by instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(
    untagged,
    expecting = "a number of requests, or \"rate_limit\" for each key's own"
)]
pub enum Burst {
    /// Never more than the key's own `rate_limit`.
    Requests(u32),
    Named(NamedBurst),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NamedBurst {
    /// As many as the key may make in a minute.
    RateLimit,
}

impl Burst {
    pub const RATE_LIMIT: Self = Self::Named(NamedBurst::RateLimit);
}

/// Far more than any deployment has, and far from where a key's share of its
/// limit would overflow.
const MOST_INSTANCES: u32 = 10_000;

impl Default for Config {
    fn default() -> Self {
        Self {
            burst: Burst::RATE_LIMIT,
            max_keys: 1_000_000,
            instances: 1,
        }
    }
}

impl Config {
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        let mut zero = |key: &str, would_do: &str| {
            found.push(Invalid::new(
                format!("{section}.{key}"),
                format!("must not be 0: write {would_do}"),
            ));
        };
        if self.burst == Burst::Requests(0) {
            zero("burst", "a number of requests, or \"rate_limit\"");
        }
        if self.max_keys == 0 {
            zero("max_keys", "how many keys are in use at once");
        }
        if self.instances == 0 {
            zero("instances", "how many instances share the traffic");
        }
        if self.instances > MOST_INSTANCES {
            found.push(Invalid::new(
                format!("{section}.instances"),
                format!("must be at most {MOST_INSTANCES}"),
            ));
        }
    }
}
