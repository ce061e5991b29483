//! Usage, read back from where it ends.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "embedded")]
mod sqlite;
mod tail;
mod verify;

#[cfg(feature = "postgres")]
pub use postgres::PostgresReports;
#[cfg(feature = "embedded")]
pub use sqlite::SqliteReports;
pub use tail::{Tail, TailPage};
pub use verify::{InstanceCheck, Standing, VerifyError, verify};

use futures_util::future::BoxFuture;
use serde::Serialize;
use uuid::Uuid;

use crate::clock::Timestamp;

/// What a report is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    /// The first moment of it.
    pub from: Timestamp,
    /// The first moment after it.
    pub until: Timestamp,
    pub by: Period,
    pub key_id: Option<Uuid>,
    pub route: Option<String>,
}

/// How long each row's time is; periods begin on the hour or day, UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    Hour,
    Day,
}

impl Period {
    pub const fn micros(self) -> i64 {
        const HOUR: i64 = 3600 * 1_000_000;
        match self {
            Self::Hour => HOUR,
            Self::Day => 24 * HOUR,
        }
    }
}

/// The requests of one key to one route, in one period, with one outcome.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct UsageRow {
    /// The period's beginning.
    pub at: Timestamp,
    pub key_id: Uuid,
    pub route: String,
    /// `admitted`, or the reason for the refusal.
    pub outcome: String,
    pub requests: u64,
    pub request_bytes: u64,
    pub response_bytes: u64,
    /// The duration that half of the requests did not exceed; nearest rank.
    pub p50_us: u64,
    pub p95_us: u64,
    pub p99_us: u64,
}

/// Refusals of nobody in particular.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RefusalRow {
    /// The period's beginning.
    pub at: Timestamp,
    /// Empty where no route was matched.
    pub route: String,
    /// `other` for what went beyond the bound on rows.
    pub reason: String,
    pub count: u64,
}

/// Which single events to read: those after a moment and, in it, after an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventQuery {
    pub after: (Timestamp, Uuid),
    pub limit: usize,
    pub key_id: Option<Uuid>,
    pub route: Option<String>,
}

/// One decided request of a known key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct EventRow {
    pub at: Timestamp,
    pub event_id: Uuid,
    pub key_id: Uuid,
    pub route: String,
    pub method: String,
    /// Zero when no response was begun.
    pub status: u16,
    /// `admitted`, or the reason for the refusal.
    pub outcome: String,
    pub ended: String,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub duration_us: u64,
    pub upstream_us: u64,
    pub client_ip: Option<String>,
    pub instance: Uuid,
}

/// What became of the decisions of one start of a process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InstanceRow {
    pub instance: Uuid,
    /// As far as the sink has been told.
    pub decided: u64,
    pub dropped: u64,
    /// Events that ended while the process lived.
    pub stored: u64,
    /// Events that did not.
    pub interrupted: u64,
    pub updated_at: Timestamp,
}

/// Which keys' entries of the audit log to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditQuery {
    /// Keys after this one.
    pub after: Uuid,
    /// Up to this one, and it.
    pub until: Uuid,
    /// At most so many keys.
    pub limit: usize,
}

impl AuditQuery {
    /// The first keys after this one, of all.
    pub const fn page(after: Uuid, limit: usize) -> Self {
        Self {
            after,
            until: Uuid::max(),
            limit,
        }
    }

    /// One key alone.
    pub const fn of(key: Uuid) -> Self {
        Self {
            after: Uuid::from_u128(key.as_u128().saturating_sub(1)),
            until: key,
            limit: 1,
        }
    }
}

/// What the audit log says of one key's record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditedKey {
    pub key_id: Uuid,
    /// Of all writes, those that came to nothing too.
    pub highest: u64,
    /// The latest write that did not come to nothing, as far as the log knows.
    pub standing: Option<AuditedWrite>,
    /// The revision of the last revocation.
    pub revoked: Option<u64>,
    /// The revision of the last deletion.
    pub deleted: Option<u64>,
}

/// A policy write, as it was audited.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditedWrite {
    pub revision: u64,
    pub action: String,
    pub at: Timestamp,
    pub actor: String,
    pub detail: String,
}

/// A report cannot be made; the text is for operators.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("usage cannot be read: {0}")]
pub struct ReportError(pub String);

/// Reads a sink's usage.
pub trait UsageReports: Send + Sync + 'static {
    /// By time, key, route and outcome.
    fn usage(&self, query: Query) -> BoxFuture<'_, Result<Vec<UsageRow>, ReportError>>;

    /// By time, route and reason; the query's key does not matter.
    fn refusals(&self, query: Query) -> BoxFuture<'_, Result<Vec<RefusalRow>, ReportError>>;

    /// By time, then id.
    fn events(&self, query: EventQuery) -> BoxFuture<'_, Result<Vec<EventRow>, ReportError>>;

    /// Oldest first.
    fn instances(&self) -> BoxFuture<'_, Result<Vec<InstanceRow>, ReportError>>;

    /// How many of these events the sink has.
    fn count_stored(&self, events: Vec<Uuid>) -> BoxFuture<'_, Result<u64, ReportError>>;

    /// What the audit log says of keys, in the order of their ids.
    fn audited(&self, query: AuditQuery) -> BoxFuture<'_, Result<Vec<AuditedKey>, ReportError>>;

    /// Whether edges with data directories elsewhere store their usage here.
    fn is_shared(&self) -> bool;
}
