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
/// sealed with keys of elsewhere cost no more than this; a new one is opened no
/// more often, so that whoever writes it again and again costs no more than that.
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
    /// The store said that it was replaced, or that it may have been.
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

/// What came of loading the keyring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loaded {
    /// It is the one that was looked at the last time.
    Unchanged,
    /// It was opened, or cannot be.
    Opened,
    /// It could not be read: for another attempt.
    Unread,
}

type Load = Box<dyn Fn() -> BoxFuture<'static, Loaded> + Send + Sync>;

/// When it was last loaded.
#[derive(Default)]
struct Last {
    for_want: Option<Tick>,
    opened: Option<Tick>,
}

/// Records sealed with [`PostQuantumEncryption`].
pub struct SealedRecords {
    encryption: PostQuantumEncryption,
    scope: Scope,
    clock: Clock,
    load: Load,
    last: Mutex<Last>,
}

impl SealedRecords {
    /// `load` loads the keyring and puts it into `encryption`.
    pub fn new(
        encryption: PostQuantumEncryption,
        scope: Scope,
        clock: Clock,
        load: impl Fn() -> BoxFuture<'static, Loaded> + Send + Sync + 'static,
    ) -> Self {
        Self {
            encryption,
            scope,
            clock,
            load: Box::new(load),
            last: Mutex::default(),
        }
    }

    async fn load(&self, last: &mut Last) -> Loaded {
        let loaded = (self.load)().await;
        if loaded == Loaded::Opened {
            last.opened = Some(self.clock.tick());
        }
        loaded
    }

    async fn load_for_want(&self) {
        // Who comes while it is being loaded waits for that, and then finds that
        // it has just been done.
        let mut last = self.last.lock().await;
        if self.rest(last.for_want).is_zero() {
            self.load(&mut last).await;
            last.for_want = Some(self.clock.tick());
        }
    }

    /// Until it has been read: nothing tells of the same change twice.
    async fn load_changed(&self) {
        loop {
            let mut last = self.last.lock().await;
            let mut rest = self.rest(last.opened);
            if rest.is_zero() {
                if self.load(&mut last).await != Loaded::Unread {
                    return;
                }
                rest = PAUSE;
            }
            // Nobody who lacks a key waits for this.
            drop(last);
            tokio::time::sleep(rest).await;
        }
    }

    fn rest(&self, last: Option<Tick>) -> Duration {
        last.map_or(Duration::ZERO, |at| {
            PAUSE.saturating_sub(self.clock.tick().since(at))
        })
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
        match why {
            Reload::Changed => self.load_changed().boxed(),
            Reload::Lacking => self.load_for_want().boxed(),
        }
    }
}

impl fmt::Debug for SealedRecords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SealedRecords").finish_non_exhaustive()
    }
}
