//! Reports over PostgreSQL, and the account across instances.

use std::time::Duration;

use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::usage::report::{
    EventQuery, Period, PostgresReports, Query, Standing, UsageReports, verify,
};
use uuid::Uuid;

use crate::server::{TestDatabase, database};

/// 2027-01-15T00:00:00Z
const DAY: i64 = 1_799_971_200_000_000;

const EVENTS: &str = "
    SELECT usage_make_day('2027-01-15');
    INSERT INTO usage_events
    SELECT
        lpad(to_hex(n), 32, '0')::uuid, '2027-01-15T08:00:00Z'::timestamptz + n * interval '1 s',
        CASE WHEN n <= 100 THEN uuid '00000000-0000-0000-0000-00000000000a'
            ELSE '00000000-0000-0000-0000-00000000000b' END,
        'orders', 'GET', 200, CASE n WHEN 102 THEN 'rate-limited' ELSE 'admitted' END, 'complete',
        9223372036854775807, 20, n, 0, '2001:db8::1', '00000000-0000-0000-0000-000000000001'
    FROM generate_series(1, 102) n;
    INSERT INTO refusals VALUES
        ('2027-01-15T08:01:00Z', 'orders', 'key-unknown', '192.0.2.0', gen_random_uuid(), 7),
        ('2027-01-15T09:01:00Z', 'orders', 'key-unknown', '192.0.2.0', gen_random_uuid(), 2),
        ('2027-01-15T08:01:00Z', '', '', '', gen_random_uuid(), 3);
    INSERT INTO usage_quarantine
    SELECT lpad(to_hex(500), 32, '0')::uuid, occurred_at, key_id, route, method, status, outcome,
        ended, request_bytes, response_bytes, duration_us, upstream_us, client_ip, instance,
        'too_old'
    FROM usage_events LIMIT 1;
";

async fn with_events() -> Option<(TestDatabase, PostgresReports)> {
    let database = database().await?;
    database.execute(EVENTS).await;
    let reports = PostgresReports::new(&database.manager());
    Some((database, reports))
}

fn everything(by: Period) -> Query {
    Query {
        from: Timestamp::from_micros(i64::MIN),
        until: Timestamp::from_micros(i64::MAX),
        by,
        key_id: None,
        route: None,
    }
}

#[tokio::test]
async fn usage_is_told_by_period_key_route_and_outcome() {
    let Some((_database, reports)) = with_events().await else {
        return;
    };
    let rows = reports.usage(everything(Period::Day)).await.unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|row| (row.key_id.as_u128(), &*row.outcome, row.requests))
        .collect();
    let expected = [
        (10, "admitted", 100),
        (11, "admitted", 1),
        (11, "rate-limited", 1),
    ];
    assert_eq!(told, expected);
    assert!(rows.iter().all(|row| row.at == Timestamp::from_micros(DAY)));
    let first = &rows[0];
    assert_eq!((first.p50_us, first.p95_us, first.p99_us), (50, 95, 99));
    // A sum beyond what can be told is the most that can.
    assert_eq!(first.request_bytes, i64::MAX.cast_unsigned());
    assert_eq!(first.response_bytes, 2000);

    let mut query = everything(Period::Hour);
    query.key_id = Some(Uuid::from_u128(11));
    query.until = Timestamp::from_micros(DAY + (8 * 3600 + 102) * 1_000_000);
    let rows = reports.usage(query.clone()).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].at.to_string(), "2027-01-15T08:00:00Z");
    query.route = Some("files".to_owned());
    assert!(reports.usage(query).await.unwrap().is_empty());
}

#[tokio::test]
async fn refusals_are_told_by_period_route_and_reason() {
    let Some((_database, reports)) = with_events().await else {
        return;
    };
    let told = async |query| {
        let rows = reports.refusals(query).await.unwrap();
        let cells = rows
            .into_iter()
            .map(|row| (row.route, row.reason, row.count));
        cells.collect::<Vec<_>>()
    };
    let row = |route: &str, reason: &str, count| (route.to_owned(), reason.to_owned(), count);
    let day = told(everything(Period::Day)).await;
    assert_eq!(day, [row("", "other", 3), row("orders", "key-unknown", 9)]);
    let mut query = everything(Period::Hour);
    query.route = Some("orders".to_owned());
    let hours = told(query).await;
    assert_eq!(
        hours,
        [
            row("orders", "key-unknown", 7),
            row("orders", "key-unknown", 2)
        ]
    );
}

#[tokio::test]
async fn single_events_are_read_in_order_after_a_moment() {
    let Some((_database, reports)) = with_events().await else {
        return;
    };
    let at = Timestamp::from_micros(DAY + (8 * 3600 + 99) * 1_000_000);
    let query = EventQuery {
        after: (at, Uuid::from_u128(99)),
        limit: 2,
        key_id: None,
        route: None,
    };
    let rows = reports.events(query).await.unwrap();
    let ids: Vec<_> = rows.iter().map(|row| row.event_id.as_u128()).collect();
    assert_eq!(ids, [100, 101]);
    assert_eq!(rows[0].client_ip.as_deref(), Some("2001:db8::1"));
    assert_eq!(rows[0].at.to_string(), "2027-01-15T08:01:40Z");
}

#[tokio::test]
async fn what_is_in_quarantine_is_stored_as_well() {
    let Some((_database, reports)) = with_events().await else {
        return;
    };
    let asked = [1, 2, 500, 501].map(Uuid::from_u128).to_vec();
    assert_eq!(reports.count_stored(asked).await.unwrap(), 3);
}

#[tokio::test]
async fn the_gap_of_each_instance_is_named_those_of_the_dead_too() {
    let Some(database) = database().await else {
        return;
    };
    let now = Clock::system().wall();
    database
        .execute(
            "INSERT INTO usage_instances
                (instance, stored, interrupted, quarantined, updated_at)
            SELECT lpad(to_hex(n), 32, '0')::uuid, 7, 1, 0,
                CASE n WHEN 3 THEN now() - interval '2 h' ELSE now() END
            FROM generate_series(1, 4) n;
            INSERT INTO usage_writers (instance, writer, decided, dropped)
            SELECT lpad(to_hex(n), 32, '0')::uuid, writer,
                (ARRAY[5, 6, 8, 4])[n], 1
            FROM generate_series(1, 4) n, generate_series(0, 1) writer",
        )
        .await;
    let reports = PostgresReports::new(&database.manager());
    let directory = tempfile::tempdir().unwrap();
    let dead = now.saturating_sub(Duration::from_hours(1));
    let checks = verify(&reports, directory.path(), dead).await.unwrap();
    let told: Vec<_> = checks
        .iter()
        .map(|check| (check.decided, check.missing, check.standing))
        .collect();
    assert_eq!(
        told,
        [
            (10, 0, Standing::Whole),
            (12, 2, Standing::Elsewhere),
            (16, 6, Standing::Lost),
            (8, -2, Standing::Lost),
        ]
    );
}

#[tokio::test]
async fn a_report_says_why_it_cannot_be_made() {
    let url = "postgres://edge@127.0.0.1:1/usage".to_owned();
    let reports = PostgresReports::new(&TestDatabase { url }.manager());
    let error = reports.instances().await.unwrap_err().to_string();
    assert!(error.contains("Connection refused"), "{error}");
}
