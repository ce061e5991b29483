//! Where Firestore is, from the names that Google's tools and platforms set.

use http::uri::Authority;

use super::environment::{self, Environment};
use crate::repository::FirestoreConfig;
use crate::setting::Invalid;

const PROJECT: &str = "GOOGLE_CLOUD_PROJECT_ID";
const DATABASE: &str = "FIRESTORE_DATABASE";
const COLLECTION: &str = "FIRESTORE_COLLECTION";
const EMULATOR: &str = "FIRESTORE_EMULATOR_HOST";
pub(super) const CREDENTIALS: &str = "GOOGLE_APPLICATION_CREDENTIALS";

/// The Firestore that the environment chooses, if it chooses one.
pub(super) fn chosen(
    environment: &dyn Environment,
    found: &mut Vec<Invalid>,
) -> Option<FirestoreConfig> {
    let before = found.len();
    let mut part = |name: &str, valid: fn(&str) -> bool, rule: &str| {
        let text = environment::text(environment, name, found)?;
        if !valid(&text) {
            found.push(Invalid::new(name, format!("`{text}` {rule}")));
        }
        Some(text)
    };
    let project = part(PROJECT, is_project, "is not the id of a project");
    let database = part(
        DATABASE,
        is_database,
        "is not the id of a database: set it to one such as `(default)`",
    );
    let collection = part(
        COLLECTION,
        is_collection,
        "cannot be a collection: set it to a name without `/` and not between `__`",
    );
    let emulator = part(
        EMULATOR,
        is_address,
        "is not an address: set it to HOST:PORT, such as `127.0.0.1:8080`",
    );
    if project.is_none() && emulator.is_some() {
        let problem = format!("set without {PROJECT}: set that too; for an emulator any name does");
        found.push(Invalid::new(EMULATOR, problem));
    }
    let mut config = FirestoreConfig::new(project?);
    if let Some(database) = database {
        config.database = database;
    }
    if let Some(collection) = collection {
        config.collection = collection;
    }
    config.emulator = emulator;
    config.credentials = environment::path(environment, CREDENTIALS);
    (found.len() == before).then_some(config)
}

/// Old ones have a domain before them: `example.com:project`.
fn is_project(text: &str) -> bool {
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-.:".contains(&b);
    text.len() <= 128 && text.bytes().all(valid)
}

fn is_database(text: &str) -> bool {
    let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    text == FirestoreConfig::DATABASE || (text.len() <= 63 && text.bytes().all(valid))
}

/// What Firestore takes, with room for what is appended.
fn is_collection(text: &str) -> bool {
    text.len() <= 1000
        && !text.contains('/')
        && !text.chars().any(char::is_control)
        && !matches!(text, "." | "..")
        && !text.starts_with("__")
}

fn is_address(text: &str) -> bool {
    let address: Result<Authority, _> = text.parse();
    address.is_ok_and(|address| address.port_u16().is_some() && !text.contains('@'))
}
