//! The end of what was kept for long enough.

use std::time::Duration;

use deadpool_postgres::Transaction;

use super::batch::now_and_horizon;
use super::failed::Failed;
use super::query;
use super::rows::time;
use super::work::Work;
use crate::clock::{Clock, Timestamp};

/// Drops whole days, some at a time, and deletes at most `limit` rows each of what has none.
#[derive(Debug)]
pub(super) struct Expire<'a> {
    pub(super) before: Timestamp,
    pub(super) limit: usize,
    pub(super) retention: Duration,
    pub(super) clock: Option<&'a Clock>,
}

impl Work for Expire<'_> {
    type Done = usize;

    fn subject(&self) -> String {
        "usage expiry".to_owned()
    }

    /// What waits to drop a day keeps the events waiting behind it, and what
    /// waits for another edge that does, this edge's own.
    fn lock_patience(&self) -> Duration {
        Duration::from_secs(2)
    }

    async fn run(self, transaction: &mut Transaction<'_>) -> Result<usize, Failed> {
        let (now, _) = now_and_horizon(transaction, self.clock).await?;
        // An edge from the future ends nothing of the present.
        let before = self.before.min(now.saturating_sub(self.retention));
        let before = time(before);
        let limit = i64::try_from(self.limit).unwrap_or(i64::MAX);
        let rows = query(transaction, include_str!("expire.sql"), &[&before, &limit]).await?;
        let expired: i64 = rows.first().map_or(Ok(0), |row| row.try_get(0))?;
        Ok(usize::try_from(expired).unwrap_or(0))
    }
}
