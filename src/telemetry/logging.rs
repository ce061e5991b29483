//! The subscriber: one line per event, to stderr.

use std::io::IsTerminal;

use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::setting::Invalid;

/// They log each failed call, which whoever made it says better; unless the
/// level names them.
const QUIET: &str = "firestore=off,gcloud_sdk=off,gcp_auth=off";

/// `[log]`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    pub format: Format,
    /// A level, or a list of `target=level`: `info,cypheron_edge=debug`.
    pub level: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// For people.
    Pretty,
    /// One JSON object per line.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            format: Format::Pretty,
            level: "info".to_owned(),
        }
    }
}

impl Config {
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        if let Err(error) = self.filter() {
            found.push(Invalid::new(
                format!("{section}.level"),
                format!(
                    "`{}` is no level ({error}): write `error`, `warn`, `info`, `debug` or \
                     `trace`, or a list such as `info,cypheron_edge=debug`",
                    self.level
                ),
            ));
        }
    }

    fn filter(&self) -> Result<EnvFilter, String> {
        if self.level.trim().is_empty() {
            return Err("it is empty".to_owned());
        }
        // A lone word that is no level would be taken for a target.
        let lone_word = !self.level.contains(['=', ',', ' ']);
        if lone_word
            && self
                .level
                .parse::<tracing_subscriber::filter::LevelFilter>()
                .is_err()
        {
            return Err("it is unknown".to_owned());
        }
        EnvFilter::try_new(format!("{QUIET},{}", self.level)).map_err(|error| error.to_string())
    }
}

/// The process has a subscriber, or a recorder, already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("logging or metrics were set up twice")]
pub struct AlreadyInstalled;

/// Installs the process's subscriber. A level that cannot be used, which
/// [`Config::problems`] would have named, is taken for `info`.
pub fn install_logging(config: &Config) -> Result<(), AlreadyInstalled> {
    let filter = config.filter().unwrap_or_else(|_| EnvFilter::new("info"));
    let mut builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if !std::io::stderr().is_terminal() {
        builder = builder.with_ansi(false);
    }
    match config.format {
        Format::Pretty => builder.try_init(),
        Format::Json => builder
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
    }
    .map_err(|_| AlreadyInstalled)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(level: &str) -> Vec<Invalid> {
        let config = Config {
            level: level.to_owned(),
            ..Config::default()
        };
        let mut found = Vec::new();
        config.problems("log", &mut found);
        found
    }

    #[test]
    fn a_level_or_a_list_of_targets_is_taken() {
        for level in ["info", "warn", "off", "info,cypheron_edge=debug"] {
            assert_eq!(problems(level), [], "{level}");
        }
    }

    #[test]
    fn what_is_no_level_is_refused_by_key() {
        for level in ["", "loud", "info,cypheron_edge=loud"] {
            let found = problems(level);
            assert_eq!(found.len(), 1, "{level}");
            assert_eq!(found[0].key, "log.level");
        }
    }
}
