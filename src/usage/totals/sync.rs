//! Telling the records.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream;
use tokio::time::sleep;

use super::{KeyTotal, KeyTotals, TotalsError, Which};
use crate::repository::{ApiKeyRepository, KeyUsage, RepositoryError};

/// Records told at once: an interruption repeats no more than these.
const BATCH: u32 = 100;

/// Reads of records that are on their way at once, so that the time to a distant
/// store and back does not set the pace.
const READS: usize = 16;

/// Tells the records of keys what the keys were used for.
#[derive(Clone)]
pub struct UsageSync {
    pub totals: Arc<dyn KeyTotals>,
    pub repository: Arc<dyn ApiKeyRepository>,
    pub writes_per_second: NonZeroU32,
}

/// What was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Records that were written.
    pub written: u64,
    /// Keys that were used and have no record any more.
    pub gone: u64,
    /// Records that cannot be read, each with its field: left as they are, and
    /// tried again the next time.
    pub damaged: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyncError {
    #[error(transparent)]
    Totals(#[from] TotalsError),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl UsageSync {
    /// Goes through the keys once. `None` when another process is at it.
    /// `progress` is told after each batch.
    pub async fn run(
        &self,
        which: Which,
        mut progress: impl FnMut(&Synced),
    ) -> Result<Option<Synced>, SyncError> {
        let Some(mut telling) = self.totals.begin().await? else {
            return Ok(None);
        };
        let limit = BATCH.min(self.writes_per_second.get());
        let mut synced = Synced::default();
        let mut after = None;
        loop {
            let totals = telling.totals(which, after, limit as usize).await?;
            let Some(last) = totals.last() else {
                return Ok(Some(synced));
            };
            after = Some(last.key_id);
            let pace = Duration::from_secs(1) * limit / self.writes_per_second.get();
            let (told, ()) = tokio::join!(self.tell(&totals, &mut synced), sleep(pace));
            telling.told(told?).await?;
            progress(&synced);
        }
    }

    /// Writes one batch, and says which of it are settled.
    async fn tell(
        &self,
        totals: &[KeyTotal],
        synced: &mut Synced,
    ) -> Result<Vec<KeyTotal>, RepositoryError> {
        let found: Vec<_> = stream::iter(totals.to_vec())
            .map(|total| self.find(total))
            .buffered(READS)
            .collect()
            .await;
        let mut usages = Vec::with_capacity(totals.len());
        let mut settled = Vec::with_capacity(totals.len());
        for (total, found) in totals.iter().zip(found) {
            match found {
                Ok(usage) => {
                    usages.extend(usage);
                    settled.push(*total);
                }
                Err(RepositoryError::Damaged(what)) => synced.damaged.push(what),
                Err(error) => return Err(error),
            }
        }
        let written = self.repository.record_usage(&usages).await?;
        synced.written += written as u64;
        synced.gone += (settled.len() - written) as u64;
        Ok(settled)
    }

    async fn find(&self, total: KeyTotal) -> Result<Option<KeyUsage>, RepositoryError> {
        let stored = self.repository.find_by_id(total.key_id).await?;
        Ok(stored.map(|stored| KeyUsage {
            key_hash: stored.key.key_hash,
            usage_count: total.usage_count,
            last_used: total.last_used,
        }))
    }
}

impl fmt::Debug for UsageSync {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UsageSync")
            .field("writes_per_second", &self.writes_per_second)
            .finish_non_exhaustive()
    }
}
