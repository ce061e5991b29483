//! An operator's desk: an embedded store with a keyring, the operations over
//! it, and an audit log that can be read, or be down.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex};

use cypheron_edge::admin::{
    AuditEntry, AuditLog, AuditUnavailable, Created, NewKey, Operations, Unlocked,
};
use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::crypto::keyring::{Cost, Keyring};
use cypheron_edge::crypto::{Password, Suite};
use cypheron_edge::key::Scope;
use cypheron_edge::repository::ApiKeyRepository;
use cypheron_edge::repository::embedded::EmbeddedApiKeyRepository;
use cypheron_edge::secret::Secret;
use cypheron_edge::token::{Environment, TokenFormat};
use cypheron_edge::usage::report::AuditedKey;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::Connection;
use tempfile::TempDir;
use uuid::Uuid;

pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_000_000);

pub(crate) const COLLECTION: &str = "api_keys";

/// Made once: deriving a key from a password takes its time.
pub(crate) static KEYRING: LazyLock<Keyring> = LazyLock::new(|| {
    Keyring::create(COLLECTION, &password(), Cost::MIN, Suite::default(), NOW).unwrap()
});

pub(crate) fn password() -> Password {
    Password::new(Secret::new("a password of 32 characters or so".to_owned())).unwrap()
}

pub(crate) fn new_key(name: &str) -> NewKey {
    NewKey {
        name: name.parse().unwrap(),
        permissions: vec!["orders:read".parse().unwrap()],
        rate_limit: NonZeroU32::new(60).unwrap(),
        expires_at: None,
        allowed_ips: vec!["192.0.2.0/24".parse().unwrap()],
        recoverable: false,
    }
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    pub(crate) entries: Mutex<Vec<AuditEntry>>,
    pub(crate) is_down: AtomicBool,
}

impl AuditLog for Journal {
    fn record(&self, entry: AuditEntry) -> BoxFuture<'_, Result<(), AuditUnavailable>> {
        let result = if self.is_down.load(Ordering::Relaxed) {
            Err(AuditUnavailable("down for the test".to_owned()))
        } else {
            self.entries.lock().unwrap().push(entry);
            Ok(())
        };
        std::future::ready(result).boxed()
    }

    /// Its revision; what else a log says of a key is for its own tests.
    fn known(&self, key: Uuid) -> BoxFuture<'_, Result<Option<AuditedKey>, AuditUnavailable>> {
        let entries = self.entries.lock().unwrap();
        let of_key = entries.iter().filter(|entry| entry.key_id == Some(key));
        let highest = of_key.filter_map(|entry| entry.revision).max();
        let known = highest.map(|highest| AuditedKey {
            key_id: key,
            highest,
            standing: None,
            revoked: None,
            deleted: None,
        });
        let result = if self.is_down.load(Ordering::Relaxed) {
            Err(AuditUnavailable("down for the test".to_owned()))
        } else {
            Ok(known)
        };
        std::future::ready(result).boxed()
    }
}

pub(crate) struct Desk {
    directory: TempDir,
    pub(crate) repository: Arc<EmbeddedApiKeyRepository>,
    pub(crate) audit: Arc<Journal>,
    pub(crate) clock: Clock,
    pub(crate) scope: Scope,
}

impl Desk {
    pub(crate) fn new() -> Self {
        Self::in_collection(COLLECTION)
    }

    pub(crate) fn in_collection(collection: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::manual(NOW);
        let path = directory.path().join("keys.db");
        let repository = EmbeddedApiKeyRepository::open(&path, clock.clone()).unwrap();
        Self {
            directory,
            repository: Arc::new(repository),
            audit: Arc::default(),
            clock,
            scope: Scope {
                project: String::new(),
                database: String::new(),
                collection: collection.to_owned(),
            },
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("keys.db")
    }

    /// Without the keyring.
    pub(crate) fn locked(&self) -> Operations {
        Operations {
            repository: Arc::clone(&self.repository) as Arc<dyn ApiKeyRepository>,
            audit: Arc::clone(&self.audit) as Arc<dyn AuditLog>,
            unlocked: None,
            scope: self.scope.clone(),
            format: TokenFormat::new("cyk", Environment::Live).unwrap(),
            actor: "tester".to_owned(),
            clock: self.clock.clone(),
        }
    }

    pub(crate) fn operations(&self) -> Operations {
        self.with(&KEYRING)
    }

    pub(crate) fn with(&self, keyring: &Keyring) -> Operations {
        Operations {
            unlocked: Unlocked::new(keyring),
            ..self.locked()
        }
    }

    pub(crate) async fn created(&self, name: &str) -> Created {
        self.operations().create(new_key(name)).await.unwrap()
    }

    /// Edits the file as the `sqlite3` shell does.
    pub(crate) fn by_hand(&self, sql: &str) {
        let connection = Connection::open(self.path()).unwrap();
        connection.execute_batch(sql).unwrap();
    }
}
