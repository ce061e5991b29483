//! What verifies a record: its sealed part, opened.

use futures_util::future::BoxFuture;

use crate::repository::StoredKey;
use crate::token::TokenDigest;

/// Why a record's sealed part was not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenFailure {
    /// The record was edited, moved or copied.
    Tampered,
    /// It is sealed with something that is not held; a later keyring may hold it.
    NotHeld,
}

/// Opens the sealed part of records. Called on the background runtime.
pub trait RecordOpener: Send + Sync + 'static {
    /// The digest of the record's token.
    fn open(&self, record: &StoredKey) -> Result<TokenDigest, OpenFailure>;

    /// Loads the keyring again, when that has not just been done; what it holds
    /// is used from then on. Failures are logged by whoever loads it.
    fn reload(&self) -> BoxFuture<'_, ()>;
}
