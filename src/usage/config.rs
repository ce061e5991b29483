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
    /// PostgreSQL where the environment chooses one and nothing is written.
    /// Another has to be written down: a forgotten variable must not start a
    /// store that nobody looks into.
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
    /// The PostgreSQL that the environment names.
    Postgres,
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
    /// Settles where usage goes, once it is known whether the environment
    /// chooses a PostgreSQL.
    pub fn choose_sink(&mut self, postgres: bool, section: &str, found: &mut Vec<Invalid>) {
        let problem = match self.sink {
            None if postgres => {
                self.sink = Some(Sink::Postgres);
                return;
            }
            None => "is not set: set DATABASE_URL or DB_HOST, or write `sink = \"sqlite\"`",
            Some(Sink::Postgres) if !postgres => "chooses PostgreSQL: set DATABASE_URL or DB_HOST",
            Some(_) => return,
        };
        found.push(Invalid::new(format!("{section}.sink"), problem));
    }

    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
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
    fn everything_has_a_default_that_will_do() {
        let mut found = Vec::new();
        Config::default().problems("usage", &mut found);
        assert_eq!(found, []);
    }

    #[test]
    fn the_sink_is_chosen_by_the_environment_or_written_down() {
        for (written, postgres, chosen) in [
            (None, true, Some(Sink::Postgres)),
            (None, false, None),
            (Some(Sink::Postgres), true, Some(Sink::Postgres)),
            (Some(Sink::Postgres), false, None),
            (Some(Sink::Sqlite), true, Some(Sink::Sqlite)),
            (Some(Sink::Sqlite), false, Some(Sink::Sqlite)),
        ] {
            let mut config = Config {
                sink: written,
                ..Config::default()
            };
            let mut found = Vec::new();
            config.choose_sink(postgres, "usage", &mut found);
            match chosen {
                Some(_) => assert_eq!((config.sink, &*found), (chosen, &[][..])),
                None => assert_eq!(found[0].key, "usage.sink"),
            }
        }
    }
}
