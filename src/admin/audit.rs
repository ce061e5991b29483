//! The audit log: who did what to which key, and which revision came of it.
//!
//! The intent is recorded before the store is written, so that no policy write
//! is missing from the log; what then failed is recorded as such. Without the
//! log nothing is issued, changed or revealed. Only taking access away goes on:
//! it must not wait for anything.

use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::clock::Timestamp;

/// What an operator did, or set out to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    Create,
    Update,
    Revoke,
    Delete,
    Rotate,
    Reveal,
    Rewrap,
    KeyringInit,
    /// The entry before it with the same key and revision came to nothing.
    Failed,
}

impl Action {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Create => "create",
            Self::Update => "update",
            Self::Revoke => "revoke",
            Self::Delete => "delete",
            Self::Rotate => "rotate",
            Self::Reveal => "reveal",
            Self::Rewrap => "rewrap",
            Self::KeyringInit => "keyring_init",
            Self::Failed => "failed",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditEntry {
    pub at: Timestamp,
    pub actor: String,
    pub action: Action,
    pub key_id: Option<Uuid>,
    /// What the record's revision becomes.
    pub revision: Option<u64>,
    /// For people: what was changed, or why it failed. Nothing secret.
    pub detail: String,
}

/// The log took no entry; the text is for operators.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the audit log is unavailable: {0}")]
pub struct AuditUnavailable(pub String);

pub trait AuditLog: Send + Sync + 'static {
    /// Stores the entry durably.
    fn record(&self, entry: AuditEntry) -> BoxFuture<'_, Result<(), AuditUnavailable>>;
}
