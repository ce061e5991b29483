//! `[keys]`, and where Firestore is.

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::setting::Invalid;

/// Where records live.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Firestore where the environment chooses one and nothing is written.
    /// There is no default: a forgotten setting must not start an empty edge.
    pub store: Option<StoreKind>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoreKind {
    /// One SQLite file in `data.dir`.
    Embedded,
    /// The Firestore that the environment names.
    Firestore,
}

impl Config {
    /// Settles where records live, once it is known whether the environment
    /// chooses a Firestore.
    pub fn choose_store(&mut self, firestore: bool, section: &str, found: &mut Vec<Invalid>) {
        let problem = match self.store {
            None if firestore => {
                self.store = Some(StoreKind::Firestore);
                return;
            }
            None => {
                "is not set: set GOOGLE_CLOUD_PROJECT_ID for Firestore, or write \
                 `store = \"embedded\"`"
            }
            Some(StoreKind::Firestore) if !firestore => {
                "chooses Firestore: set GOOGLE_CLOUD_PROJECT_ID"
            }
            Some(_) => return,
        };
        found.push(Invalid::new(format!("{section}.store"), problem));
    }
}

/// Where Firestore is, and who asks it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirestoreConfig {
    /// The Google Cloud project.
    pub project: String,
    pub database: String,
    /// Records are its documents; the keyring is in the one named like it, with
    /// `_keyring` appended.
    pub collection: String,
    /// `HOST:PORT` of an emulator, which is asked in Firestore's place, without
    /// credentials.
    pub emulator: Option<String>,
    /// The key file of a service account. Without one the account is found: that
    /// of the user, of the machine, or of `gcloud`.
    pub credentials: Option<PathBuf>,
}

impl FirestoreConfig {
    pub const DATABASE: &'static str = "(default)";
    pub const COLLECTION: &'static str = "api_keys";

    /// The project's usual database and collection.
    pub fn new(project: impl Into<String>) -> Self {
        Self {
            project: project.into(),
            database: Self::DATABASE.to_owned(),
            collection: Self::COLLECTION.to_owned(),
            emulator: None,
            credentials: None,
        }
    }
}

/// `project/database/collection`, and where and as whom it is asked.
impl fmt::Display for FirestoreConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            project,
            database,
            collection,
            emulator,
            credentials,
        } = self;
        write!(f, "{project}/{database}/{collection}")?;
        match (emulator, credentials) {
            (Some(address), _) => write!(f, " in the emulator at {address}"),
            (None, Some(file)) => write!(f, ", as the account of {}", file.display()),
            (None, None) => f.write_str(", as the account that is found"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_store_is_chosen_by_the_environment_or_written_down() {
        use StoreKind::{Embedded, Firestore};
        for (written, firestore, chosen) in [
            (None, true, Some(Firestore)),
            (None, false, None),
            (Some(Firestore), true, Some(Firestore)),
            (Some(Firestore), false, None),
            (Some(Embedded), true, Some(Embedded)),
            (Some(Embedded), false, Some(Embedded)),
        ] {
            let mut config = Config { store: written };
            let mut found = Vec::new();
            config.choose_store(firestore, "keys", &mut found);
            match chosen {
                Some(_) => assert_eq!((config.store, &*found), (chosen, &[][..])),
                None => assert_eq!(found[0].key, "keys.store"),
            }
        }
    }
}
