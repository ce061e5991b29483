//! What an operator can set.

use std::time::Duration;

use bytesize::ByteSize;
use serde::Deserialize;

use crate::setting::{self, Invalid};

/// `[usage.journal]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What all segments may hold together. When not set: 1 GiB, or a quarter
    /// of the memory limit where the disk is memory.
    pub max_bytes: Option<ByteSize>,
    /// How much a power failure may cost.
    #[serde(deserialize_with = "setting::duration")]
    pub sync_interval: Duration,
    pub when_full: WhenFull,
    /// The size of one file.
    pub segment_bytes: ByteSize,
}

/// What happens to a request whose usage finds no room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenFull {
    /// It goes on, and its event is counted as dropped.
    #[default]
    Drop,
    /// It is refused.
    Refuse,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_bytes: None,
            sync_interval: Duration::from_secs(1),
            when_full: WhenFull::Drop,
            segment_bytes: ByteSize::mib(4),
        }
    }
}

const SMALLEST_SEGMENT: ByteSize = ByteSize::kib(64);
const LARGEST_SEGMENT: ByteSize = ByteSize::gib(1);

impl Config {
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        if !(SMALLEST_SEGMENT..=LARGEST_SEGMENT).contains(&self.segment_bytes) {
            found.push(Invalid::new(
                format!("{section}.segment_bytes"),
                format!("must be from {SMALLEST_SEGMENT} to {LARGEST_SEGMENT}"),
            ));
        }
        let least = ByteSize(self.segment_bytes.as_u64().saturating_mul(4));
        if self.max_bytes.is_some_and(|max| max < least) {
            found.push(Invalid::new(
                format!("{section}.max_bytes"),
                format!("must hold four segments: at least {least}"),
            ));
        }
        if self.sync_interval.is_zero() {
            found.push(Invalid::new(
                format!("{section}.sync_interval"),
                "must be longer than nothing: `100ms`, say",
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(config: &Config) -> Vec<String> {
        let mut found = Vec::new();
        config.problems("usage.journal", &mut found);
        found.into_iter().map(|invalid| invalid.key).collect()
    }

    #[test]
    fn the_defaults_have_no_problem() {
        assert!(keys(&Config::default()).is_empty());
    }

    #[test]
    fn every_bad_value_is_named() {
        let config = Config {
            max_bytes: Some(ByteSize::kib(4)),
            sync_interval: Duration::ZERO,
            segment_bytes: ByteSize::kib(4),
            ..Config::default()
        };
        let found = keys(&config).join(" ");
        assert_eq!(
            found,
            "usage.journal.segment_bytes usage.journal.max_bytes usage.journal.sync_interval"
        );
    }
}
