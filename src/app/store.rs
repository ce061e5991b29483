//! The key store that a configuration chooses.

use std::path::PathBuf;
use std::sync::Arc;

use super::operations::{self, OpenError, reachable};
use crate::admin::keyring::{self, KeyringUnavailable};
use crate::clock::Clock;
use crate::config::Config;
use crate::key::Scope;
use crate::repository::embedded::EmbeddedApiKeyRepository;
#[cfg(feature = "firestore")]
use crate::repository::firestore::FirestoreApiKeyRepository;
use crate::repository::{ApiKeyRepository, FirestoreConfig, RepositoryError, StoreKind};

/// The embedded store's collection; sealed into every record of it.
const COLLECTION: &str = "api_keys";

/// Where records live, for what they are sealed with.
pub(super) fn scope(config: &Config) -> Scope {
    match firestore(config) {
        Some(firestore) => Scope {
            project: firestore.project.clone(),
            database: firestore.database.clone(),
            collection: firestore.collection.clone(),
        },
        None => Scope {
            project: String::new(),
            database: "embedded".to_owned(),
            collection: COLLECTION.to_owned(),
        },
    }
}

/// What the keyring calls the collection it is for.
pub(super) fn collection(config: &Config) -> String {
    match firestore(config) {
        // In whole, so that a keyring copied from another project is a foreign one.
        Some(_) => scope(config).to_string(),
        None => COLLECTION.to_owned(),
    }
}

/// Its name in messages.
pub(super) fn place(config: &Config) -> String {
    match firestore(config) {
        Some(_) => "Firestore".to_owned(),
        None => file(config).display().to_string(),
    }
}

/// A store that is there and has a keyring: only making a keyring makes one.
pub(super) async fn existing(
    config: &Config,
    clock: &Clock,
) -> Result<Arc<dyn ApiKeyRepository>, OpenError> {
    if firestore(config).is_none() {
        let file = file(config);
        reachable(&file)?.ok_or_else(|| OpenError::NoStore(file.clone()))?;
    }
    let repository = opened(config, clock)?;
    // A missing keyring is the first thing to know about a store.
    keyring::describe(&*repository, &collection(config))
        .await
        .map_err(|cause| operations::of_keyring(config, cause))?;
    Ok(repository)
}

/// The store, which is made when there is none.
pub(super) fn opened(
    config: &Config,
    clock: &Clock,
) -> Result<Arc<dyn ApiKeyRepository>, OpenError> {
    #[cfg(feature = "firestore")]
    if let Some(firestore) = firestore(config) {
        let repository = FirestoreApiKeyRepository::new(firestore.clone(), clock.clone())?;
        return Ok(Arc::new(repository));
    }
    match config.keys.store {
        Some(StoreKind::Firestore) => Err(OpenError::NoFirestore),
        _ => Ok(Arc::new(EmbeddedApiKeyRepository::open(
            &file(config),
            clock.clone(),
        )?)),
    }
}

/// Whether a store that does not answer now may do so soon, without anything
/// being mended on this machine.
pub(super) fn is_outage(config: &Config, error: &OpenError) -> bool {
    let unavailable = matches!(
        error,
        OpenError::Keyring {
            cause: KeyringUnavailable::Repository(RepositoryError::Unavailable(_)),
            ..
        }
    );
    unavailable && firestore(config).is_some()
}

fn firestore(config: &Config) -> Option<&FirestoreConfig> {
    let chosen = config.keys.store == Some(StoreKind::Firestore);
    config.firestore.as_ref().filter(|_| chosen)
}

fn file(config: &Config) -> PathBuf {
    config.data.dir.join("keys.db")
}
