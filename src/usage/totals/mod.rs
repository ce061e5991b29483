//! What each key was used for since its first day, and telling the keys' records.
//!
//! The usage database keeps the totals beside what each record was told last.
//! [`UsageSync`] tells them what is new: as absolute numbers, so that a
//! repetition changes nothing, and each is noted as told only after its record
//! has it, so that an interruption loses nothing.

mod config;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "embedded")]
mod sqlite;
mod sync;

pub use config::Config;
#[cfg(feature = "postgres")]
pub use postgres::PostgresTotals;
#[cfg(feature = "embedded")]
pub use sqlite::SqliteTotals;
pub use sync::{SyncError, Synced, UsageSync};

use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::clock::Timestamp;

/// What one key was used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyTotal {
    pub key_id: Uuid,
    /// Decided requests, admitted and refused.
    pub usage_count: u64,
    /// When the newest of them came.
    pub last_used: Timestamp,
}

/// Which totals to tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// Those that their records do not have yet.
    New,
    All,
}

/// The totals cannot be read, or noted; the text is for operators.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the totals of the usage cannot be read: {0}")]
pub struct TotalsError(pub String);

/// A usage database's totals.
pub trait KeyTotals: Send + Sync + 'static {
    /// One process at a time tells the records: `None` while another one does.
    fn begin(&self) -> BoxFuture<'_, Result<Option<Box<dyn Telling>>, TotalsError>>;
}

/// The right to tell the records, until it is dropped.
pub trait Telling: Send {
    /// At most `limit` totals of keys after `after`, in the order of their ids.
    fn totals(
        &mut self,
        which: Which,
        after: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<KeyTotal>, TotalsError>>;

    /// Notes that the records have these. Fails when another process may have
    /// begun meanwhile.
    fn told(&mut self, totals: Vec<KeyTotal>) -> BoxFuture<'_, Result<(), TotalsError>>;
}
