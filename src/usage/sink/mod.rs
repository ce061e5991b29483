//! Where usage ends.

#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "embedded")]
mod sqlite;

#[cfg(feature = "postgres")]
pub use postgres::PostgresSink;
#[cfg(feature = "embedded")]
pub use sqlite::SqliteSink;

use std::sync::Arc;

use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::journal::Batch;
use super::refusals::RefusalCount;
use crate::clock::Timestamp;

/// A store of usage. What it has acknowledged outlives a power failure.
///
/// Each call may be made again after it failed, or after its answer was lost,
/// and then changes nothing that the first one did.
pub trait UsageSink: Send + Sync + 'static {
    /// Stores the events that it does not have yet, by their id, in one
    /// transaction with their sums and the counts of their writers.
    fn store(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Stored, SinkError>>;

    /// Stores the refusals of whole minutes of one process.
    fn store_refusals(
        &self,
        instance: Uuid,
        refusals: Arc<[RefusalCount]>,
    ) -> BoxFuture<'_, Result<(), SinkError>>;

    /// Deletes events and refusals from before `before`, a little at a time: a
    /// sink that deletes rows at most `limit` events and as many refusals, one
    /// that drops whole days those that end before it. How many it were; as
    /// many as `limit` or more say that there may be others. The sums stay.
    fn expire(&self, before: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, SinkError>>;

    /// Appends to the audit log.
    fn audit(&self, row: AuditRow) -> BoxFuture<'_, Result<(), SinkError>>;
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Events that were not there before.
    pub new: u64,
    /// How many of these were put aside, because they have no place among the
    /// others.
    pub quarantined: u64,
}

/// Who did what to which key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditRow {
    pub at: Timestamp,
    pub actor: String,
    pub action: String,
    pub key_id: Option<Uuid>,
    pub revision: Option<u64>,
    pub detail: String,
}

/// A sink did not do it; the text is for operators.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("usage cannot be stored: {0}")]
pub struct SinkError(pub String);
