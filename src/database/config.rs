//! `[database]`: how PostgreSQL is used. Where it is, the environment says.

use std::time::Duration;

use serde::Deserialize;

use crate::setting::{self, Invalid};

/// No batch takes longer: what PostgreSQL remembers of batches counts on it, and
/// its own bound on timeouts, some 24 days, is never met.
const LONGEST_STATEMENT: Duration = Duration::from_hours(1);

/// `[database]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Whether `serve` brings the schema up to date; else `migrate` has to.
    pub migrate_at_start: bool,
    pub login: Login,
    /// How long to wait for a connection, new or free.
    #[serde(deserialize_with = "setting::duration")]
    pub connect_timeout: Duration,
    /// How long a connection is kept for the next statement.
    #[serde(deserialize_with = "setting::duration")]
    pub idle_timeout: Duration,
    /// How long the server may take to store a batch of usage; at most an hour.
    #[serde(deserialize_with = "setting::duration")]
    pub statement_timeout: Duration,
}

/// What is sent as the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Login {
    Password,
    /// An access token of Google's, renewed: Cloud SQL IAM database
    /// authentication.
    Iam,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            migrate_at_start: false,
            login: Login::Password,
            connect_timeout: Duration::from_secs(5),
            idle_timeout: Duration::from_secs(30),
            statement_timeout: Duration::from_secs(30),
        }
    }
}

impl Config {
    pub fn problems(&self, section: &str, found: &mut Vec<Invalid>) {
        for (key, value) in [
            ("connect_timeout", self.connect_timeout),
            ("idle_timeout", self.idle_timeout),
            ("statement_timeout", self.statement_timeout),
        ] {
            if value < Duration::from_millis(100) {
                let key = format!("{section}.{key}");
                found.push(Invalid::new(key, "must be at least `100ms`"));
            }
        }
        if self.statement_timeout > LONGEST_STATEMENT {
            let key = format!("{section}.statement_timeout");
            found.push(Invalid::new(key, "must be at most `1h`"));
        }
    }
}
