//! The totals in PostgreSQL.

use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use sqlx::PgConnection;
use tokio::time::timeout;
use uuid::Uuid;

use super::{KeyTotal, KeyTotals, Telling, TotalsError, Which};
use crate::clock::Timestamp;
use crate::database::{DatabaseManager, NotReady, Unavailable};

/// The totals of every edge that has this database.
#[derive(Clone, Debug)]
pub struct PostgresTotals(DatabaseManager);

impl PostgresTotals {
    pub fn new(databases: &DatabaseManager) -> Self {
        Self(databases.clone())
    }

    async fn open(&self) -> Result<Option<Box<dyn Telling>>, TotalsError> {
        self.0.ready().await?;
        // Not of the pool any more: the server frees the lock when it is closed,
        // by us or by whatever ends this process.
        let mut connection = self.0.queries().await?.detach();
        let patience = self.0.statement_timeout();
        let lock = sqlx::query_scalar!(
            r#"SELECT pg_try_advisory_lock(hashtextextended('cypheron-edge key totals', 0))
                AS "locked!""#
        )
        .fetch_one(&mut connection);
        let locked = in_time(patience, lock).await?;
        let turn = Turn {
            connection,
            patience,
        };
        Ok(locked.then(|| Box::new(turn) as Box<dyn Telling>))
    }
}

impl KeyTotals for PostgresTotals {
    fn begin(&self) -> BoxFuture<'_, Result<Option<Box<dyn Telling>>, TotalsError>> {
        self.open().boxed()
    }
}

/// All of it goes over the connection that has the lock: without the one there
/// is no other.
struct Turn {
    connection: PgConnection,
    patience: Duration,
}

/// A server that keeps silent must not keep the turn: with the error the
/// connection goes, and the lock with it.
async fn in_time<T>(
    patience: Duration,
    answer: impl Future<Output = sqlx::Result<T>>,
) -> Result<T, TotalsError> {
    let answer = timeout(patience, answer).await;
    Ok(answer.map_err(|_| TotalsError(format!("no answer in {patience:?}")))??)
}

impl Turn {
    async fn read(
        &mut self,
        which: Which,
        after: Option<Uuid>,
        limit: usize,
    ) -> Result<Vec<KeyTotal>, TotalsError> {
        let read = sqlx::query!(
            "SELECT key_id, usage_count, last_used FROM key_totals
            WHERE key_id > $1 AND ($2 OR usage_count <> told_count)
            ORDER BY key_id
            LIMIT $3",
            after.unwrap_or_default(),
            which == Which::All,
            i64::try_from(limit).unwrap_or(i64::MAX),
        )
        .fetch_all(&mut self.connection);
        let rows = in_time(self.patience, read)
            .await?
            .into_iter()
            .map(|row| KeyTotal {
                key_id: row.key_id,
                usage_count: u64::try_from(row.usage_count).unwrap_or(0),
                last_used: timestamp(row.last_used),
            });
        Ok(rows.collect())
    }

    async fn note(&mut self, totals: &[KeyTotal]) -> Result<(), TotalsError> {
        let keys: Vec<_> = totals.iter().map(|total| total.key_id).collect();
        let counts: Vec<_> = totals
            .iter()
            .map(|total| i64::try_from(total.usage_count).unwrap_or(i64::MAX))
            .collect();
        let noted = sqlx::query!(
            "UPDATE key_totals SET told_count = given.usage_count
            FROM (
                -- Rows are locked in the order in which batches of events lock them.
                SELECT key_id, given.usage_count
                FROM key_totals JOIN unnest($1::uuid[], $2::bigint[])
                    AS given (key_id, usage_count) USING (key_id)
                ORDER BY key_id
                FOR UPDATE OF key_totals
            ) AS given
            WHERE key_totals.key_id = given.key_id",
            &keys,
            &counts,
        )
        .execute(&mut self.connection);
        in_time(self.patience, noted).await?;
        Ok(())
    }
}

impl Telling for Turn {
    fn totals(
        &mut self,
        which: Which,
        after: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<KeyTotal>, TotalsError>> {
        self.read(which, after, limit).boxed()
    }

    fn told(&mut self, totals: Vec<KeyTotal>) -> BoxFuture<'_, Result<(), TotalsError>> {
        async move { self.note(&totals).await }.boxed()
    }
}

impl From<NotReady> for TotalsError {
    fn from(error: NotReady) -> Self {
        Self(error.to_string())
    }
}

impl From<Unavailable> for TotalsError {
    fn from(error: Unavailable) -> Self {
        Self(error.to_string())
    }
}

impl From<sqlx::Error> for TotalsError {
    fn from(error: sqlx::Error) -> Self {
        Unavailable::from(error).into()
    }
}

fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp::from_micros(at.timestamp_micros())
}
