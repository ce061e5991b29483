//! Reports over PostgreSQL, with statements that the compiler checks.

use chrono::{DateTime, Utc};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use super::{
    AuditQuery, AuditedKey, AuditedWrite, EventQuery, EventRow, InstanceRow, Period, Query,
    RefusalRow, ReportError, UsageReports, UsageRow,
};
use crate::clock::Timestamp;
use crate::database::{DatabaseManager, Unavailable};

/// Ids looked up in one statement.
const LOOKED_UP: usize = 10_000;

/// Reports through the pool for queries: none of them takes a connection from
/// the ingest.
#[derive(Clone, Debug)]
pub struct PostgresReports(DatabaseManager);

impl PostgresReports {
    pub fn new(databases: &DatabaseManager) -> Self {
        Self(databases.clone())
    }

    async fn read_usage(&self, query: Query) -> Result<Vec<UsageRow>, ReportError> {
        let rows = sqlx::query!(
            r#"SELECT
                date_trunc($1, occurred_at, 'UTC') AS "at!", key_id, route, outcome,
                count(*) AS "requests!",
                least(sum(request_bytes), 9223372036854775807)::bigint AS "request_bytes!",
                least(sum(response_bytes), 9223372036854775807)::bigint AS "response_bytes!",
                percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY duration_us)
                    AS "percentiles!: Vec<i64>"
            FROM usage_events
            WHERE occurred_at >= $2 AND occurred_at < $3
                AND ($4::uuid IS NULL OR key_id = $4)
                AND ($5::text IS NULL OR route = $5)
            GROUP BY 1, key_id, route, outcome
            ORDER BY 1, key_id, route COLLATE "C", outcome COLLATE "C""#,
            unit(query.by),
            moment(query.from),
            moment(query.until),
            query.key_id,
            query.route,
        )
        .fetch_all(&mut *self.0.queries().await?)
        .await?;
        let percentile = |of: &[i64], index: usize| of.get(index).copied().map_or(0, natural);
        let rows = rows.into_iter().map(|row| UsageRow {
            at: timestamp(row.at),
            key_id: row.key_id,
            route: row.route,
            outcome: row.outcome,
            requests: natural(row.requests),
            request_bytes: natural(row.request_bytes),
            response_bytes: natural(row.response_bytes),
            p50_us: percentile(&row.percentiles, 0),
            p95_us: percentile(&row.percentiles, 1),
            p99_us: percentile(&row.percentiles, 2),
        });
        Ok(rows.collect())
    }

    async fn read_refusals(&self, query: Query) -> Result<Vec<RefusalRow>, ReportError> {
        let rows = sqlx::query!(
            r#"SELECT
                date_trunc($1, minute, 'UTC') AS "at!", route,
                coalesce(nullif(reason, ''), 'other') AS "reason!",
                least(sum(count), 9223372036854775807)::bigint AS "count!"
            FROM refusals
            WHERE minute >= $2 AND minute < $3 AND ($4::text IS NULL OR route = $4)
            GROUP BY 1, route, 3
            ORDER BY 1, route COLLATE "C", 3"#,
            unit(query.by),
            moment(query.from),
            moment(query.until),
            query.route,
        )
        .fetch_all(&mut *self.0.queries().await?)
        .await?;
        let rows = rows.into_iter().map(|row| RefusalRow {
            at: timestamp(row.at),
            route: row.route,
            reason: row.reason,
            count: natural(row.count),
        });
        Ok(rows.collect())
    }

    async fn read_instances(&self) -> Result<Vec<InstanceRow>, ReportError> {
        let rows = sqlx::query!(
            r#"SELECT
                instance, stored, interrupted, updated_at,
                (SELECT coalesce(sum(decided), 0)::bigint FROM usage_writers w
                    WHERE w.instance = i.instance) AS "decided!",
                (SELECT coalesce(sum(dropped), 0)::bigint FROM usage_writers w
                    WHERE w.instance = i.instance) AS "dropped!"
            FROM usage_instances i
            ORDER BY instance"#,
        )
        .fetch_all(&mut *self.0.queries().await?)
        .await?;
        let rows = rows.into_iter().map(|row| InstanceRow {
            instance: row.instance,
            decided: natural(row.decided),
            dropped: natural(row.dropped),
            stored: natural(row.stored),
            interrupted: natural(row.interrupted),
            updated_at: timestamp(row.updated_at),
        });
        Ok(rows.collect())
    }

    /// What is in quarantine is stored as well.
    async fn count(&self, events: &[Uuid]) -> Result<u64, ReportError> {
        let mut connection = self.0.queries().await?;
        let mut stored = 0;
        for events in events.chunks(LOOKED_UP) {
            stored += sqlx::query_scalar!(
                r#"SELECT count(*) AS "count!" FROM (
                    SELECT event_id FROM usage_events WHERE event_id = ANY($1)
                    UNION
                    SELECT event_id FROM usage_quarantine WHERE event_id = ANY($1)
                ) AS found"#,
                events,
            )
            .fetch_one(&mut *connection)
            .await?;
        }
        Ok(natural(stored))
    }

    async fn read_events(&self, query: EventQuery) -> Result<Vec<EventRow>, ReportError> {
        let (at, event_id) = query.after;
        let rows = sqlx::query!(
            r#"SELECT
                occurred_at, event_id, key_id, route, method, status, outcome, ended,
                request_bytes, response_bytes, duration_us, upstream_us,
                host(client_ip) AS client_ip, instance
            FROM usage_events
            -- The time alone as well: it chooses the partitions.
            WHERE occurred_at >= $1 AND (occurred_at, event_id) > ($1, $2)
                AND ($3::uuid IS NULL OR key_id = $3)
                AND ($4::text IS NULL OR route = $4)
            ORDER BY occurred_at, event_id
            LIMIT $5"#,
            moment(at),
            event_id,
            query.key_id,
            query.route,
            i64::try_from(query.limit).unwrap_or(i64::MAX),
        )
        .fetch_all(&mut *self.0.queries().await?)
        .await?;
        let rows = rows.into_iter().map(|row| EventRow {
            at: timestamp(row.occurred_at),
            event_id: row.event_id,
            key_id: row.key_id,
            route: row.route,
            method: row.method,
            status: u16::try_from(row.status).unwrap_or(0),
            outcome: row.outcome,
            ended: row.ended,
            request_bytes: natural(row.request_bytes),
            response_bytes: natural(row.response_bytes),
            duration_us: natural(row.duration_us),
            upstream_us: natural(row.upstream_us),
            client_ip: row.client_ip,
            instance: row.instance,
        });
        Ok(rows.collect())
    }

    /// Of each key: how often each revision was set out for, and how often that
    /// came to nothing.
    async fn read_audited(&self, query: AuditQuery) -> Result<Vec<AuditedKey>, ReportError> {
        let rows = sqlx::query!(
            r#"WITH page AS (
                SELECT DISTINCT key_id FROM audit_log
                WHERE key_id > $1 AND key_id <= $2 AND revision IS NOT NULL AND action <> 'reveal'
                ORDER BY key_id LIMIT $3
            ),
            writes AS (
                SELECT
                    key_id, revision,
                    max(id) FILTER (WHERE action <> 'failed') AS entry,
                    count(*) FILTER (WHERE action <> 'failed')
                        > count(*) FILTER (WHERE action = 'failed') AS stands,
                    bool_or(action = 'revoke') AS revokes,
                    bool_or(action = 'delete') AS deletes
                FROM audit_log JOIN page USING (key_id)
                WHERE revision IS NOT NULL AND action <> 'reveal'
                GROUP BY key_id, revision
            ),
            audited AS (
                SELECT
                    key_id, max(revision) AS highest,
                    max(revision) FILTER (WHERE stands) AS standing,
                    max(revision) FILTER (WHERE revokes) AS revoked,
                    max(revision) FILTER (WHERE deletes) AS deleted
                FROM writes
                GROUP BY key_id
            )
            SELECT
                audited.key_id AS "key_id!", audited.highest AS "highest!",
                audited.revoked AS "revoked?", audited.deleted AS "deleted?",
                writes.revision AS "revision?", audit_log.action AS "action?",
                audit_log.at AS "at?", audit_log.actor AS "actor?", audit_log.detail AS "detail?"
            FROM audited
            LEFT JOIN writes
                ON writes.key_id = audited.key_id AND writes.revision = audited.standing
            LEFT JOIN audit_log ON audit_log.id = writes.entry
            ORDER BY audited.key_id"#,
            query.after,
            query.until,
            i64::try_from(query.limit).unwrap_or(i64::MAX),
        )
        .fetch_all(&mut *self.0.queries().await?)
        .await?;
        let rows = rows.into_iter().map(|row| AuditedKey {
            key_id: row.key_id,
            highest: natural(row.highest),
            standing: row.revision.map(|revision| AuditedWrite {
                revision: natural(revision),
                action: row.action.unwrap_or_default(),
                at: row.at.map_or(Timestamp::EPOCH, timestamp),
                actor: row.actor.unwrap_or_default(),
                detail: row.detail.unwrap_or_default(),
            }),
            revoked: row.revoked.map(natural),
            deleted: row.deleted.map(natural),
        });
        Ok(rows.collect())
    }
}

impl UsageReports for PostgresReports {
    fn usage(&self, query: Query) -> BoxFuture<'_, Result<Vec<UsageRow>, ReportError>> {
        self.read_usage(query).boxed()
    }

    fn refusals(&self, query: Query) -> BoxFuture<'_, Result<Vec<RefusalRow>, ReportError>> {
        self.read_refusals(query).boxed()
    }

    fn events(&self, query: EventQuery) -> BoxFuture<'_, Result<Vec<EventRow>, ReportError>> {
        self.read_events(query).boxed()
    }

    fn instances(&self) -> BoxFuture<'_, Result<Vec<InstanceRow>, ReportError>> {
        self.read_instances().boxed()
    }

    fn count_stored(&self, events: Vec<Uuid>) -> BoxFuture<'_, Result<u64, ReportError>> {
        async move { self.count(&events).await }.boxed()
    }

    fn audited(&self, query: AuditQuery) -> BoxFuture<'_, Result<Vec<AuditedKey>, ReportError>> {
        self.read_audited(query).boxed()
    }

    fn is_shared(&self) -> bool {
        true
    }
}

impl From<Unavailable> for ReportError {
    fn from(error: Unavailable) -> Self {
        Self(error.to_string())
    }
}

impl From<sqlx::Error> for ReportError {
    fn from(error: sqlx::Error) -> Self {
        Unavailable::from(error).into()
    }
}

const fn unit(period: Period) -> &'static str {
    match period {
        Period::Hour => "hour",
        Period::Day => "day",
    }
}

/// Within the years 1 to 9999: PostgreSQL, chrono and we end at different times.
fn moment(at: Timestamp) -> DateTime<Utc> {
    const FIRST: i64 = -62_135_596_800_000_000;
    const LAST: i64 = 253_402_300_799_999_999;
    let micros = at.as_micros().clamp(FIRST, LAST);
    DateTime::from_timestamp_micros(micros).unwrap_or_default()
}

fn timestamp(at: DateTime<Utc>) -> Timestamp {
    Timestamp::from_micros(at.timestamp_micros())
}

fn natural(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
