//! Usage in PostgreSQL; `db/migrations` is its layout.
//!
//! A batch is one transaction: its events go into the partitions of their days,
//! which are made when they are not there, and what is new of them into the
//! sums. Batches of one process, which may be sent by another after it died,
//! follow one another under an advisory lock.
//!
//! Nearly every batch is new as a whole. It is copied into the table as it is,
//! and its sums are made here. One that is not, in part or at all, because the
//! answer to its commit was lost, is told by the primary key: copying fails
//! then, nothing has happened, and the events are inserted where they are not
//! there yet, in quarantine neither, the sums made of what that returned.
//!
//! Copying costs the server about a third of the other ways, which have to look
//! for each row before and after, and make sums of what they hand on. CPU of the
//! server in µs a row, and rows/s, with the sums of 1,000 keys, medians of three
//! rounds of `cargo bench --profile quick --all-features --bench ingest_ways --
//! 200000 3` on two cores that were busy with other work as well:
//!
//! | events in a batch | 1,000 | 5,000 | 10,000 |
//! | --- | --- | --- | --- |
//! | arrays, `ON CONFLICT DO NOTHING` | 11.2, 53,000/s | 7.8, 75,000/s | 7.2, 80,000/s |
//! | `COPY` to a temporary table, the same from there | 11.3, 41,000/s | 6.5, 92,000/s | 6.1, 108,000/s |
//! | `COPY`, sums made here | 8.0, 66,000/s | 3.2, 182,000/s | 2.5, 205,000/s |
//!
//! What is old or ahead of its time is told by the server's clock: one edge
//! whose own is wrong neither fills the days of another year nor ends those of
//! the others. An event that the tables refuse is found and put aside, so that
//! the others of its batch get in.

mod audit;
mod batch;
mod bounds;
mod copy;
mod expire;
mod failed;
mod refusals;
mod rows;
mod sums;
mod work;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use deadpool_postgres::Transaction;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, try_join};
use tokio::time::timeout;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use uuid::Uuid;

use super::{AuditRow, SinkError, Stored, UsageSink};
use crate::clock::{Clock, Timestamp};
use crate::database::{DatabaseManager, Ingest};
use crate::usage::journal::Batch;
use crate::usage::refusals::RefusalCount;
use audit::Audit;
use batch::{Days, StoreBatch, Way};
use expire::Expire;
use failed::Failed;
use refusals::StoreRefusals;
use work::Work;

/// After so many milliseconds the server ends what it is at, too: nothing is
/// held, or waited for, by a connection that is gone.
const BOUND: &str = "SELECT set_config('statement_timeout', $1, true), \
    set_config('idle_in_transaction_session_timeout', $1, true), \
    set_config('lock_timeout', $2, true)";

/// Names what is changed by one transaction at a time. Another statement than
/// the one before, which does not bound itself.
const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended($1, 1))";

/// The sink in a PostgreSQL database.
#[derive(Debug)]
pub struct PostgresSink {
    database: DatabaseManager,
    retention: Duration,
    /// Instead of the server's.
    clock: Option<Clock>,
    /// The days that are known to have a partition.
    days: Mutex<Days>,
}

impl PostgresSink {
    /// Events older than `retention` have no place in it.
    pub fn new(database: &DatabaseManager, retention: Duration) -> Self {
        Self {
            database: database.clone(),
            retention,
            clock: None,
            days: Mutex::default(),
        }
    }

    /// Goes by this clock instead of the server's.
    pub fn with_clock(self, clock: Clock) -> Self {
        Self {
            clock: Some(clock),
            ..self
        }
    }

    /// Runs one transaction on a connection of its own. After a failure no
    /// connection is used again: another one may lead to a server that has taken
    /// this one's place, and lacks the tables.
    async fn run<T>(&self, work: impl Work<Done = T>) -> Result<T, Failed> {
        let mut connection = self.database.ready_ingest().await?;
        let patience = self.database.statement_timeout();
        let done = timeout(patience, run(&mut connection, work, patience))
            .await
            .unwrap_or_else(|_| Err(Failed::no_answer(patience)));
        if let Err(failed) = &done {
            drop(Ingest::take(connection));
            if !failed.is_of_the_rows() && !failed.is_of_a_lock() {
                self.database.doubt();
            }
        }
        done
    }

    async fn store(&self, batch: &Batch, way: Way) -> Result<Stored, Failed> {
        let known = self.days().clone();
        let stored = self
            .run(StoreBatch {
                batch,
                known: &known,
                retention: self.retention,
                clock: self.clock.as_ref(),
                way,
            })
            .await;
        match stored {
            Ok((stored, days)) => {
                self.days().extend(days);
                Ok(stored)
            }
            Err(failed) => {
                // Whatever is there now may be another database.
                self.days().clear();
                Err(failed)
            }
        }
    }

    fn days(&self) -> MutexGuard<'_, Days> {
        self.days.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl UsageSink for PostgresSink {
    fn store(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Stored, SinkError>> {
        async move {
            match Self::store(self, &batch, Way::Copied).await {
                Err(failed) if failed.is_of_the_rows() => {}
                stored => return Ok(stored?),
            }
            match Self::store(self, &batch, Way::Inserted).await {
                Err(failed) if failed.is_of_the_rows() => {
                    tracing::warn!(%failed, "the database refuses usage events: looking for them");
                    Ok(Self::store(self, &batch, Way::Sifted).await?)
                }
                stored => Ok(stored?),
            }
        }
        .boxed()
    }

    fn store_refusals(
        &self,
        instance: Uuid,
        refusals: Arc<[RefusalCount]>,
    ) -> BoxFuture<'_, Result<(), SinkError>> {
        async move {
            let work = StoreRefusals {
                instance,
                refusals: &refusals,
            };
            Ok(self.run(work).await?)
        }
        .boxed()
    }

    fn expire(&self, before: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, SinkError>> {
        async move {
            let work = Expire {
                before,
                limit,
                retention: self.retention,
                clock: self.clock.as_ref(),
            };
            match self.run(work).await {
                // Somebody reads, or drops days: this waits, and not the events.
                Err(failed) if failed.is_of_a_lock() => Ok(0),
                expired => Ok(expired?),
            }
        }
        .boxed()
    }

    fn audit(&self, row: AuditRow) -> BoxFuture<'_, Result<(), SinkError>> {
        async move { Ok(self.run(Audit(row)).await?) }.boxed()
    }
}

async fn run<T>(
    connection: &mut Ingest,
    work: impl Work<Done = T>,
    patience: Duration,
) -> Result<T, Failed> {
    let mut transaction = connection.transaction().await?;
    let bound = transaction.prepare_cached(BOUND).await?;
    let lock = transaction.prepare_cached(LOCK).await?;
    let patience = patience.as_millis().to_string();
    let lock_patience = work.lock_patience().as_millis().to_string();
    // Sent together, in this order.
    try_join(
        transaction.query(&bound, &[&patience, &lock_patience]),
        transaction.query(&lock, &[&work.subject()]),
    )
    .await?;
    let done = work.run(&mut transaction).await?;
    transaction.commit().await?;
    Ok(done)
}

async fn query(
    transaction: &Transaction<'_>,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<Row>, Failed> {
    let statement = transaction.prepare_cached(sql).await?;
    Ok(transaction.query(&statement, parameters).await?)
}
