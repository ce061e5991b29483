//! `[usage]`: where usage goes and how much of it is kept.

use std::time::Duration;

use serde::Deserialize;

use super::client::ClientIp;
use super::journal;
use crate::setting::{self, Invalid};

/// `[usage]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Has to be written down: a forgotten line must not start a store that
    /// nobody looks into.
    pub sink: Option<Sink>,
    pub client_ip: ClientIp,
    /// How long a process that ends waits for its last events to be stored.
    #[serde(deserialize_with = "setting::duration")]
    pub flush_timeout: Duration,
    /// How long single events are kept; their hourly sums stay.
    #[serde(deserialize_with = "setting::duration")]
    pub retention: Duration,
    pub journal: journal::Config,
}

/// Where usage events end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Sink {
    /// `usage.db` in the data directory.
    Sqlite,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            sink: None,
            client_ip: ClientIp::default(),
            flush_timeout: Duration::from_secs(2),
            retention: Duration::from_hours(90 * 24),
            journal: journal::Config::default(),
        }
    }
}

impl Config {
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        if self.sink.is_none() {
            found.push(Invalid::new(
                format!("{section}.sink"),
                "is not set: write `sink = \"sqlite\"`",
            ));
        }
        if self.retention < Duration::from_hours(1) {
            found.push(Invalid::new(
                format!("{section}.retention"),
                "must be at least `1h`",
            ));
        }
        self.journal.problems(&format!("{section}.journal"), found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_sink_has_to_be_written_down() {
        let mut found = Vec::new();
        Config::default().problems("usage", &mut found);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].key, "usage.sink");
        found.clear();
        let config = Config {
            sink: Some(Sink::Sqlite),
            ..Config::default()
        };
        config.problems("usage", &mut found);
        assert_eq!(found, []);
    }
}
