//! Where usage ends.

#[cfg(feature = "embedded")]
mod sqlite;

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

    /// Deletes at most `limit` events, and as many rows of refusals, from
    /// before `before`; how many. The sums stay.
    fn expire(&self, before: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, SinkError>>;

    /// Appends to the audit log.
    fn audit(&self, row: AuditRow) -> BoxFuture<'_, Result<(), SinkError>>;
}

/// What became of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Events that were not there before.
    pub new: u64,
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
