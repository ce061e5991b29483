//! The configuration: what is taken, what is refused, and that the reference
//! tells the truth.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod environment;
mod file;
#[cfg(feature = "firestore")]
mod firestore;
#[cfg(feature = "postgres")]
mod postgres;
mod reference;

use std::collections::BTreeMap;

use cypheron_edge::config::{self, Config, Problems, Purpose};
use cypheron_edge::crypto::Password;
use cypheron_edge::secret::Secret;

const PASSWORD: &str = "correct horse battery staple, twice over";

/// What every configuration has to say, as variables.
fn variables(more: &[(&str, &str)]) -> BTreeMap<String, String> {
    [
        ("HOME", "/home/somebody"),
        ("CYPHERON_EDGE__KEYS__STORE", "embedded"),
        ("CYPHERON_EDGE__USAGE__SINK", "sqlite"),
        ("PQ_ENCRYPTION_PASSWORD", PASSWORD),
    ]
    .iter()
    .chain(more)
    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
    .collect()
}

fn password() -> Option<Password> {
    Password::new(Secret::new(PASSWORD.to_owned())).ok()
}

fn read(text: &str, more: &[(&str, &str)]) -> Result<Config, Problems> {
    config::parse(text, &variables(more), Purpose::Operate).config
}

#[track_caller]
fn accepted(text: &str, more: &[(&str, &str)]) -> Config {
    read(text, more).unwrap_or_else(|problems| panic!("{problems}"))
}

/// The problems of a configuration that has some, one line each.
#[track_caller]
fn refused(text: &str, more: &[(&str, &str)]) -> String {
    read(text, more).unwrap_err().to_string()
}
