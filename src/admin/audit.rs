//! The audit log: who did what to which key, and which revision came of it.
//!
//! The intent is recorded before the store is written, so that no policy write
//! is missing from the log; what then failed is recorded as such. Without the
//! log nothing is issued, changed or revealed. Only taking access away goes on:
//! it must not wait for anything.

use std::fmt;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::usage::report::{AuditQuery, AuditedKey, ReportError, UsageReports};
use crate::usage::sink::{AuditRow, UsageSink};

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
    KeyringRotate,
    KeyringPromote,
    KeyringRotateAll,
    KeyringPassword,
    KeyringRetire,
    KeyringDrop,
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
            Self::KeyringRotate => "keyring_rotate",
            Self::KeyringPromote => "keyring_promote",
            Self::KeyringRotateAll => "keyring_rotate_all",
            Self::KeyringPassword => "keyring_password",
            Self::KeyringRetire => "keyring_retire",
            Self::KeyringDrop => "keyring_drop",
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

impl From<ReportError> for AuditUnavailable {
    fn from(error: ReportError) -> Self {
        Self(error.0)
    }
}

pub trait AuditLog: Send + Sync + 'static {
    /// Stores the entry durably.
    fn record(&self, entry: AuditEntry) -> BoxFuture<'_, Result<(), AuditUnavailable>>;

    /// What was audited of a key, when anything was.
    fn known(&self, key: Uuid) -> BoxFuture<'_, Result<Option<AuditedKey>, AuditUnavailable>>;
}

/// The audit log beside the usage.
#[derive(Clone)]
pub struct SinkAuditLog {
    sink: Arc<dyn UsageSink>,
    reports: Arc<dyn UsageReports>,
}

impl SinkAuditLog {
    /// Both over the same database.
    pub const fn new(sink: Arc<dyn UsageSink>, reports: Arc<dyn UsageReports>) -> Self {
        Self { sink, reports }
    }
}

impl AuditLog for SinkAuditLog {
    fn record(&self, entry: AuditEntry) -> BoxFuture<'_, Result<(), AuditUnavailable>> {
        let row = AuditRow {
            at: entry.at,
            actor: entry.actor,
            action: entry.action.as_str().to_owned(),
            key_id: entry.key_id,
            revision: entry.revision,
            detail: entry.detail,
        };
        let stored = self.sink.audit(row);
        stored
            .map(|stored| stored.map_err(|error| AuditUnavailable(error.to_string())))
            .boxed()
    }

    fn known(&self, key: Uuid) -> BoxFuture<'_, Result<Option<AuditedKey>, AuditUnavailable>> {
        let read = self.reports.audited(AuditQuery::of(key));
        read.map(|read| Ok(read?.pop())).boxed()
    }
}

impl fmt::Debug for SinkAuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SinkAuditLog")
    }
}
