//! What verifies a record: its sealed part, opened.

use std::fmt;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use crate::clock::{Clock, Tick};
use crate::crypto::PostQuantumEncryption;
use crate::key::{Scope, Sealed};
use crate::repository::StoredKey;
use crate::token::TokenDigest;

/// A keyring that lacks a key is asked for again no more often, so that records
/// sealed with keys of elsewhere cost no more than this.
const PAUSE: Duration = Duration::from_secs(5);

/// Why a record's sealed part was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenFailure {
    /// The record was edited, moved or copied.
    Tampered,
    /// It is sealed with something that is not held; a later keyring may hold it.
    NotHeld,
}

/// Why the keyring is loaded again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reload {
    /// The store said that it was replaced.
    Changed,
    /// A record needs a key that is not held.
    Lacking,
}

/// Opens the sealed part of records. Called on the background runtime.
pub trait RecordOpener: Send + Sync + 'static {
    /// The digest of the record's token.
    fn open(&self, record: &StoredKey) -> Result<TokenDigest, OpenFailure>;

    /// Loads the keyring again; what it holds is used from then on. Whoever
    /// loads it logs why it could not.
    fn reload(&self, why: Reload) -> BoxFuture<'_, ()>;
}

type Load = Box<dyn Fn() -> BoxFuture<'static, ()> + Send + Sync>;

/// Records sealed with [`PostQuantumEncryption`].
pub struct SealedRecords {
    encryption: PostQuantumEncryption,
    scope: Scope,
    clock: Clock,
    load: Load,
    /// When it was last loaded for want of a key.
    loaded_at: Mutex<Option<Tick>>,
}

impl SealedRecords {
    /// `load` loads the keyring and puts it into `encryption`.
    pub fn new(
        encryption: PostQuantumEncryption,
        scope: Scope,
        clock: Clock,
        load: impl Fn() -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self {
        Self {
            encryption,
            scope,
            clock,
            load: Box::new(load),
            loaded_at: Mutex::new(None),
        }
    }
}

impl RecordOpener for SealedRecords {
    fn open(&self, record: &StoredKey) -> Result<TokenDigest, OpenFailure> {
        match Sealed::open(&self.encryption, &record.sealed, &record.key, &self.scope) {
            Ok(sealed) => Ok(sealed.digest()),
            Err(error) if error.is_store_failure() => Err(OpenFailure::NotHeld),
            Err(_) => Err(OpenFailure::Tampered),
        }
    }

    fn reload(&self, why: Reload) -> BoxFuture<'_, ()> {
        async move {
            // Who comes while it is being loaded waits for that, and then finds
            // that it has just been done.
            let mut loaded_at = self.loaded_at.lock().await;
            let recent = loaded_at.is_some_and(|at| self.clock.tick().since(at) < PAUSE);
            if why == Reload::Lacking && recent {
                return;
            }
            (self.load)().await;
            *loaded_at = Some(self.clock.tick());
        }
        .boxed()
    }
}

impl fmt::Debug for SealedRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedRecords").finish_non_exhaustive()
    }
}
