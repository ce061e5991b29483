//! The totals in a usage database in one SQLite file.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::params;
use uuid::Uuid;

use super::{KeyTotal, KeyTotals, Telling, TotalsError, Which};
use crate::clock::Timestamp;
use crate::database::{Database, DatabaseError, FileLock};

/// The totals in `usage.db`.
#[derive(Clone, Debug)]
pub struct SqliteTotals(Database);

impl SqliteTotals {
    pub fn new(database: &Database) -> Self {
        Self(database.clone())
    }
}

impl From<DatabaseError> for TotalsError {
    fn from(error: DatabaseError) -> Self {
        Self(error.to_string())
    }
}

impl KeyTotals for SqliteTotals {
    fn begin(&self) -> BoxFuture<'_, Result<Option<Box<dyn Telling>>, TotalsError>> {
        let lock = self.0.try_lock("totals");
        async move {
            let lock = lock.map_err(|error| TotalsError(error.to_string()))?;
            let database = self.0.clone();
            Ok(lock.map(|lock| {
                Box::new(Turn {
                    database,
                    _lock: lock,
                }) as Box<dyn Telling>
            }))
        }
        .boxed()
    }
}

struct Turn {
    database: Database,
    _lock: FileLock,
}

impl Telling for Turn {
    fn totals(
        &mut self,
        which: Which,
        after: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Vec<KeyTotal>, TotalsError>> {
        async move {
            let rows = self
                .database
                .run(move |connection| {
                    connection
                        .prepare_cached(
                            "SELECT key_id, usage_count, last_used FROM key_totals \
                             WHERE key_id > ?1 AND (?2 OR usage_count <> told_count) \
                             ORDER BY key_id LIMIT ?3",
                        )?
                        .query_map(
                            params![
                                after.map(|id| id.to_string()).unwrap_or_default(),
                                which == Which::All,
                                i64::try_from(limit).unwrap_or(i64::MAX),
                            ],
                            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
                        )?
                        .collect::<Result<Vec<(String, i64, i64)>, _>>()
                })
                .await?;
            rows.into_iter().map(total).collect()
        }
        .boxed()
    }

    fn told(&mut self, totals: Vec<KeyTotal>) -> BoxFuture<'_, Result<(), TotalsError>> {
        async move {
            Ok(self
                .database
                .run(move |connection| {
                    let transaction = connection.transaction()?;
                    for total in totals {
                        transaction
                            .prepare_cached(
                                "UPDATE key_totals SET told_count = ?2 WHERE key_id = ?1",
                            )?
                            .execute(params![
                                total.key_id.to_string(),
                                i64::try_from(total.usage_count).unwrap_or(i64::MAX),
                            ])?;
                    }
                    transaction.commit()
                })
                .await?)
        }
        .boxed()
    }
}

fn total((key_id, count, last_used): (String, i64, i64)) -> Result<KeyTotal, TotalsError> {
    Ok(KeyTotal {
        key_id: key_id
            .parse()
            .map_err(|error| TotalsError(format!("key_totals.key_id: {error}")))?,
        usage_count: u64::try_from(count).unwrap_or(0),
        last_used: Timestamp::from_micros(last_used),
    })
}
