//! Usage in one SQLite file.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use rusqlite::{Connection, Transaction, params};
use uuid::Uuid;

use super::{AuditRow, SinkError, Stored, UsageSink};
use crate::clock::{Clock, Timestamp};
use crate::database::{Database, DatabaseError};
use crate::usage::event::{Ended, Outcome, UsageEvent};
use crate::usage::journal::Batch;
use crate::usage::refusals::RefusalCount;

const HOUR: i64 = 3600 * 1_000_000;

/// The sink in `usage.db`.
#[derive(Clone, Debug)]
pub struct SqliteSink {
    database: Database,
    clock: Clock,
}

impl SqliteSink {
    /// `clock` dates what is told of an instance.
    pub fn new(database: &Database, clock: Clock) -> Self {
        let database = database.clone();
        Self { database, clock }
    }

    fn run<T: Send + 'static>(
        &self,
        statements: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, SinkError>> {
        self.database
            .run(statements)
            .map(|result| result.map_err(SinkError::from))
            .boxed()
    }
}

impl From<DatabaseError> for SinkError {
    fn from(error: DatabaseError) -> Self {
        Self(error.to_string())
    }
}

impl UsageSink for SqliteSink {
    fn store(&self, batch: Arc<Batch>) -> BoxFuture<'_, Result<Stored, SinkError>> {
        let now = self.clock.wall();
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            let stored = store(&transaction, &batch, now)?;
            transaction.commit()?;
            Ok(stored)
        })
    }

    fn store_refusals(
        &self,
        instance: Uuid,
        refusals: Arc<[RefusalCount]>,
    ) -> BoxFuture<'_, Result<(), SinkError>> {
        self.run(move |connection| {
            let transaction = connection.transaction()?;
            for refusal in &*refusals {
                store_refusal(&transaction, instance, refusal)?;
            }
            transaction.commit()
        })
    }

    fn expire(&self, before: Timestamp, limit: usize) -> BoxFuture<'_, Result<usize, SinkError>> {
        self.run(move |connection| {
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            let events = connection.execute(
                "DELETE FROM usage_events WHERE event_id IN \
                 (SELECT event_id FROM usage_events WHERE occurred_at < ?1 LIMIT ?2)",
                params![before.as_micros(), limit],
            )?;
            let refusals = connection.execute(
                "DELETE FROM refusals WHERE (minute, route, reason, client, instance) IN \
                 (SELECT minute, route, reason, client, instance FROM refusals \
                  WHERE minute < ?1 LIMIT ?2)",
                params![before.as_micros(), limit],
            )?;
            Ok(events + refusals)
        })
    }

    fn audit(&self, row: AuditRow) -> BoxFuture<'_, Result<(), SinkError>> {
        self.run(move |connection| {
            // The same at the same microsecond is the same, sent again.
            connection
                .prepare_cached(
                    "INSERT INTO audit_log (at, actor, action, key_id, revision, detail) \
                     SELECT ?1, ?2, ?3, ?4, ?5, ?6 WHERE NOT EXISTS (SELECT 1 FROM audit_log \
                     WHERE (at, actor, action, detail) = (?1, ?2, ?3, ?6) \
                     AND key_id IS ?4 AND revision IS ?5)",
                )?
                .execute(params![
                    row.at.as_micros(),
                    row.actor,
                    row.action,
                    row.key_id.map(|id| id.to_string()),
                    row.revision.map(integer),
                    row.detail,
                ])?;
            Ok(())
        })
    }
}

/// SQLite's integers end at half of ours.
fn integer(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn store(transaction: &Transaction<'_>, batch: &Batch, now: Timestamp) -> rusqlite::Result<Stored> {
    let instance = batch.instance.to_string();
    let mut hours = HashMap::new();
    let mut new = 0;
    let mut interrupted = 0;
    for event in &batch.events {
        if insert(transaction, event, &instance)? {
            new += 1;
            interrupted += u64::from(event.ended == Ended::Interrupted);
            add_to_hour(&mut hours, event);
        }
    }
    for ((hour, key_id, route), sums) in hours {
        sums.store(transaction, hour, key_id, route)?;
    }
    for writer in &batch.writers {
        transaction
            .prepare_cached(
                "INSERT INTO usage_writers (instance, writer, decided, dropped) \
                 VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT DO UPDATE SET decided = max(decided, excluded.decided), \
                 dropped = max(dropped, excluded.dropped)",
            )?
            .execute(params![
                instance,
                writer.writer,
                integer(writer.decided),
                integer(writer.dropped)
            ])?;
    }
    transaction
        .prepare_cached(
            "INSERT INTO usage_instances (instance, stored, interrupted, updated_at) \
             VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT DO UPDATE SET stored = stored + excluded.stored, \
             interrupted = interrupted + excluded.interrupted, updated_at = excluded.updated_at",
        )?
        .execute(params![
            instance,
            integer(new - interrupted),
            integer(interrupted),
            now.as_micros()
        ])?;
    Ok(Stored {
        new,
        quarantined: 0,
    })
}

/// Whether the event was not there yet.
fn insert(
    transaction: &Transaction<'_>,
    event: &UsageEvent,
    instance: &str,
) -> rusqlite::Result<bool> {
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO usage_events (event_id, occurred_at, key_id, route, method, status, \
             outcome, ended, request_bytes, response_bytes, duration_us, upstream_us, client_ip, \
             instance) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14) \
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![
            event.event_id.to_string(),
            event.occurred_at.as_micros(),
            event.key_id.to_string(),
            event.route,
            event.method,
            event.status,
            event.outcome.as_str(),
            event.ended.as_str(),
            integer(event.request_bytes),
            integer(event.response_bytes),
            integer(event.duration_us),
            integer(event.upstream_us),
            event.client_ip.map(|client| client.to_string()),
            instance,
        ])?;
    Ok(inserted > 0)
}

/// The sums of one hour, key and route.
#[derive(Debug, Default)]
struct Sums {
    requests: u64,
    refused: u64,
    request_bytes: u64,
    response_bytes: u64,
    duration_us: u64,
    last_at: i64,
}

fn add_to_hour<'a>(hours: &mut HashMap<(i64, Uuid, &'a str), Sums>, event: &'a UsageEvent) {
    let at = event.occurred_at.as_micros();
    let hour = at.div_euclid(HOUR) * HOUR;
    let sums = hours
        .entry((hour, event.key_id, &*event.route))
        .or_default();
    sums.requests += 1;
    sums.refused += u64::from(event.outcome != Outcome::Admitted);
    sums.request_bytes = sums.request_bytes.saturating_add(event.request_bytes);
    sums.response_bytes = sums.response_bytes.saturating_add(event.response_bytes);
    sums.duration_us = sums.duration_us.saturating_add(event.duration_us);
    sums.last_at = sums.last_at.max(at);
}

impl Sums {
    fn store(
        &self,
        transaction: &Transaction<'_>,
        hour: i64,
        key_id: Uuid,
        route: &str,
    ) -> rusqlite::Result<()> {
        transaction
            .prepare_cached(
                "INSERT INTO usage_hourly (hour, key_id, route, requests, refused, \
                 request_bytes, response_bytes, duration_us, last_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) \
                 ON CONFLICT DO UPDATE SET requests = requests + excluded.requests, \
                 refused = refused + excluded.refused, \
                 request_bytes = request_bytes + excluded.request_bytes, \
                 response_bytes = response_bytes + excluded.response_bytes, \
                 duration_us = duration_us + excluded.duration_us, \
                 last_at = max(last_at, excluded.last_at)",
            )?
            .execute(params![
                hour,
                key_id.to_string(),
                route,
                integer(self.requests),
                integer(self.refused),
                integer(self.request_bytes),
                integer(self.response_bytes),
                integer(self.duration_us),
                self.last_at,
            ])?;
        Ok(())
    }
}

fn store_refusal(
    transaction: &Transaction<'_>,
    instance: Uuid,
    refusal: &RefusalCount,
) -> rusqlite::Result<()> {
    let what = refusal.what.as_ref();
    let client = what
        .and_then(|what| what.client)
        .map(|client| client.to_string())
        .unwrap_or_default();
    // A minute is handed out once, whole: the count is what it is, and storing
    // it again changes nothing.
    transaction
        .prepare_cached(
            "INSERT INTO refusals (minute, route, reason, client, instance, count) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT DO UPDATE SET count = excluded.count",
        )?
        .execute(params![
            refusal.minute.as_micros(),
            what.and_then(|what| what.route.as_deref()).unwrap_or(""),
            what.map_or("", |what| what.refusal.reason()),
            client,
            instance.to_string(),
            integer(refusal.count),
        ])?;
    Ok(())
}
