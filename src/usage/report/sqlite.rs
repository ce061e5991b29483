//! Reports over the SQLite sink.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, Row, params};
use uuid::Uuid;

use super::{
    AuditQuery, AuditedKey, AuditedWrite, EventQuery, EventRow, InstanceRow, Query, RefusalRow,
    ReportError, UsageReports, UsageRow,
};
use crate::clock::Timestamp;
use crate::database::{Database, DatabaseError};

/// Reports over `usage.db`.
#[derive(Clone, Debug)]
pub struct SqliteReports(Database);

impl SqliteReports {
    pub fn new(database: &Database) -> Self {
        Self(database.clone())
    }

    fn run<T: Send + 'static>(
        &self,
        statements: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, ReportError>> {
        self.0
            .run(statements)
            .map(|result| result.map_err(ReportError::from))
            .boxed()
    }
}

impl From<DatabaseError> for ReportError {
    fn from(error: DatabaseError) -> Self {
        Self(error.to_string())
    }
}

impl UsageReports for SqliteReports {
    fn usage(&self, query: Query) -> BoxFuture<'_, Result<Vec<UsageRow>, ReportError>> {
        self.run(move |connection| {
            connection
                .prepare_cached(include_str!("usage.sql"))?
                .query_map(
                    params![
                        query.by.micros(),
                        query.from.as_micros(),
                        query.until.as_micros(),
                        query.key_id.map(|id| id.to_string()),
                        query.route,
                    ],
                    usage_row,
                )?
                .collect()
        })
    }

    fn refusals(&self, query: Query) -> BoxFuture<'_, Result<Vec<RefusalRow>, ReportError>> {
        self.run(move |connection| {
            connection
                .prepare_cached(
                    "SELECT minute / ?1 * ?1 AS at, route, \
                     CASE reason WHEN '' THEN 'other' ELSE reason END AS why, sum(count) \
                     FROM refusals WHERE minute >= ?2 AND minute < ?3 \
                     AND (?4 IS NULL OR route = ?4) \
                     GROUP BY at, route, why ORDER BY at, route, why",
                )?
                .query_map(
                    params![
                        query.by.micros(),
                        query.from.as_micros(),
                        query.until.as_micros(),
                        query.route,
                    ],
                    |row| {
                        Ok(RefusalRow {
                            at: Timestamp::from_micros(row.get(0)?),
                            route: row.get(1)?,
                            reason: row.get(2)?,
                            count: natural(row, 3)?,
                        })
                    },
                )?
                .collect()
        })
    }

    fn events(&self, query: EventQuery) -> BoxFuture<'_, Result<Vec<EventRow>, ReportError>> {
        self.run(move |connection| {
            connection
                .prepare_cached(
                    "SELECT occurred_at, event_id, key_id, route, method, status, outcome, ended, \
                     request_bytes, response_bytes, duration_us, upstream_us, client_ip, instance \
                     FROM usage_events \
                     WHERE occurred_at >= ?1 AND (occurred_at, event_id) > (?1, ?2) \
                     AND (?3 IS NULL OR key_id = ?3) AND (?4 IS NULL OR route = ?4) \
                     ORDER BY occurred_at, event_id LIMIT ?5",
                )?
                .query_map(
                    params![
                        query.after.0.as_micros(),
                        query.after.1.to_string(),
                        query.key_id.map(|id| id.to_string()),
                        query.route,
                        i64::try_from(query.limit).unwrap_or(i64::MAX),
                    ],
                    event_row,
                )?
                .collect()
        })
    }

    fn instances(&self) -> BoxFuture<'_, Result<Vec<InstanceRow>, ReportError>> {
        self.run(|connection| {
            connection
                .prepare_cached(
                    "SELECT i.instance, coalesce(sum(w.decided), 0), \
                     coalesce(sum(w.dropped), 0), i.stored, i.interrupted, i.updated_at \
                     FROM usage_instances i LEFT JOIN usage_writers w USING (instance) \
                     GROUP BY i.instance ORDER BY i.instance",
                )?
                .query_map([], |row| {
                    Ok(InstanceRow {
                        instance: id(row, 0)?,
                        decided: natural(row, 1)?,
                        dropped: natural(row, 2)?,
                        stored: natural(row, 3)?,
                        interrupted: natural(row, 4)?,
                        updated_at: Timestamp::from_micros(row.get(5)?),
                    })
                })?
                .collect()
        })
    }

    fn count_stored(&self, events: Vec<Uuid>) -> BoxFuture<'_, Result<u64, ReportError>> {
        self.run(move |connection| {
            let mut find =
                connection.prepare_cached("SELECT 1 FROM usage_events WHERE event_id = ?1")?;
            let mut stored = 0;
            for event in events {
                stored += u64::from(find.exists([event.to_string()])?);
            }
            Ok(stored)
        })
    }

    fn audited(&self, query: AuditQuery) -> BoxFuture<'_, Result<Vec<AuditedKey>, ReportError>> {
        self.run(move |connection| {
            connection
                .prepare_cached(include_str!("audited.sql"))?
                .query_map(
                    params![
                        query.after.to_string(),
                        query.until.to_string(),
                        i64::try_from(query.limit).unwrap_or(i64::MAX),
                    ],
                    audited_key,
                )?
                .collect()
        })
    }

    fn is_shared(&self) -> bool {
        false
    }
}

fn usage_row(row: &Row<'_>) -> rusqlite::Result<UsageRow> {
    Ok(UsageRow {
        at: Timestamp::from_micros(row.get(0)?),
        key_id: id(row, 1)?,
        route: row.get(2)?,
        outcome: row.get(3)?,
        requests: natural(row, 4)?,
        request_bytes: natural(row, 5)?,
        response_bytes: natural(row, 6)?,
        p50_us: natural(row, 7)?,
        p95_us: natural(row, 8)?,
        p99_us: natural(row, 9)?,
    })
}

fn event_row(row: &Row<'_>) -> rusqlite::Result<EventRow> {
    Ok(EventRow {
        at: Timestamp::from_micros(row.get(0)?),
        event_id: id(row, 1)?,
        key_id: id(row, 2)?,
        route: row.get(3)?,
        method: row.get(4)?,
        status: row.get(5)?,
        outcome: row.get(6)?,
        ended: row.get(7)?,
        request_bytes: natural(row, 8)?,
        response_bytes: natural(row, 9)?,
        duration_us: natural(row, 10)?,
        upstream_us: natural(row, 11)?,
        client_ip: row.get(12)?,
        instance: id(row, 13)?,
    })
}

fn audited_key(row: &Row<'_>) -> rusqlite::Result<AuditedKey> {
    let unsigned = |number: Option<i64>| number.map(|number| u64::try_from(number).unwrap_or(0));
    let standing = match unsigned(row.get(4)?) {
        Some(revision) => Some(AuditedWrite {
            revision,
            action: row.get(5)?,
            at: Timestamp::from_micros(row.get(6)?),
            actor: row.get(7)?,
            detail: row.get(8)?,
        }),
        None => None,
    };
    Ok(AuditedKey {
        key_id: id(row, 0)?,
        highest: natural(row, 1)?,
        standing,
        revoked: unsigned(row.get(2)?),
        deleted: unsigned(row.get(3)?),
    })
}

fn natural(row: &Row<'_>, column: usize) -> rusqlite::Result<u64> {
    let number: i64 = row.get(column)?;
    Ok(u64::try_from(number).unwrap_or(0))
}

fn id(row: &Row<'_>, column: usize) -> rusqlite::Result<Uuid> {
    let text: String = row.get(column)?;
    text.parse().map_err(|error| {
        let kind = rusqlite::types::Type::Text;
        rusqlite::Error::FromSqlConversionFailure(column, kind, Box::new(error))
    })
}
