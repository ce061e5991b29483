//! What is in effect, to be read by people: valid TOML, without secrets.

use std::collections::BTreeMap;
use std::fmt;

use toml::{Table, Value};

use super::Config;
use super::environment::{self, Environment, FIRESTORE, POSTGRESQL};
use crate::repository::{FirestoreConfig, StoreKind};

const DECISION_SECRET_FILE: &str = "DECISION_SECRET_FILE";

/// The configuration in effect. It prints as TOML, with secrets redacted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Effective {
    settings: Table,
    notes: Vec<String>,
}

impl Effective {
    /// Adds one section: its defaults, under what was written.
    pub(super) fn section(&mut self, name: &str, mut defaults: Table, written: &Table) {
        overlay(&mut defaults, written);
        self.settings.insert(name.to_owned(), defaults.into());
    }

    /// Adds one upstream: the defaults of any, under what was written.
    pub(super) fn upstream(&mut self, name: &str, example: &Table, written: &Table) {
        let mut upstream = example.clone();
        // The one key of the example that is no default.
        upstream.remove("target");
        overlay(&mut upstream, written);
        self.named("upstreams", name, upstream);
    }

    /// Adds one place where proxies ask, as it was written.
    pub(super) fn decision(&mut self, name: &str, written: Table) {
        self.named("decisions", name, written);
    }

    fn named(&mut self, section: &str, name: &str, settings: Table) {
        let entries = self
            .settings
            .entry(section)
            .or_insert_with(|| Table::new().into());
        if let Value::Table(entries) = entries {
            entries.insert(name.to_owned(), settings.into());
        }
    }

    /// Adds one route, as it was written.
    pub(super) fn route(&mut self, written: Table) {
        let routes = self
            .settings
            .entry("routes")
            .or_insert(Value::Array(Vec::new()));
        if let Value::Array(routes) = routes {
            routes.push(written.into());
        }
    }

    /// Says what is allowed, and perhaps not meant.
    pub(super) fn warn(&mut self, config: &Config) {
        for (name, upstream) in &config.upstreams {
            if upstream.takes_the_edge_on_trust() {
                self.notes.push(format!(
                    "warning: upstreams.{name} cannot tell the edge from anybody else on its \
                     network: set `assertion`, `google_id_token` or a client certificate \
                     (`tls.certificate`), or use a private address"
                ));
            }
        }
    }

    /// Says which variables had a say, never a secret's value.
    pub(super) fn note_variables(
        &mut self,
        environment: &dyn Environment,
        overrides: &BTreeMap<String, String>,
        config: Option<&Config>,
    ) {
        for (key, variable) in overrides {
            self.notes.push(format!("{key} is set by {variable}"));
        }
        let secrets = [super::DECISION_SECRET, DECISION_SECRET_FILE];
        for name in super::PASSWORDS.iter().chain(&secrets) {
            if environment::path(environment, name).is_some() {
                self.notes.push(format!("{name} = [redacted]"));
            }
        }
        match config.and_then(firestore) {
            Some(config) => self.notes.push(format!("Firestore is {config}")),
            None => {
                for name in FIRESTORE.set(environment) {
                    self.notes.push(format!("{name} is set, and not used"));
                }
            }
        }
        match config.and_then(|config| config.postgres.as_ref()) {
            Some(server) => self.notes.push(format!("PostgreSQL is {server}")),
            None => {
                for name in POSTGRESQL.set(environment) {
                    self.notes.push(format!("{name} is set, and not used"));
                }
            }
        }
    }
}

/// Of an edge whose records are there.
fn firestore(config: &Config) -> Option<&FirestoreConfig> {
    let used = config.keys.store == Some(StoreKind::Firestore);
    config.firestore.as_ref().filter(|_| used)
}

fn overlay(settings: &mut Table, over: &Table) {
    for (key, value) in over {
        match (settings.get_mut(key), value) {
            (Some(Value::Table(inner)), Value::Table(over)) => overlay(inner, over),
            _ => {
                settings.insert(key.clone(), value.clone());
            }
        }
    }
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = toml::to_string(&self.settings).map_err(|_| fmt::Error)?;
        f.write_str(&settings)?;
        for note in &self.notes {
            write!(f, "\n# {note}")?;
        }
        writeln!(f)
    }
}
