//! The sink: the contract of every sink, what is put aside, what is dropped.

use std::sync::Arc;
use std::time::Duration;

use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::refusal::Refusal;
use cypheron_edge::usage::event::{Ended, Outcome};
use cypheron_edge::usage::report::{EventQuery, PostgresReports, UsageReports as _};
use cypheron_edge::usage::sink::{PostgresSink, UsageSink};
use cypheron_edge::usage::totals::PostgresTotals;
use tokio_postgres::NoTls;
use uuid::Uuid;

use crate::server::{TestDatabase, database};
use crate::usage_contract::{self, EIGHT, HOUR, RETENTION, batch, event};

const DAY: i64 = 24 * HOUR;

pub(crate) fn open(database: &TestDatabase) -> (PostgresSink, PostgresReports, Clock) {
    let manager = database.manager();
    let clock = Clock::manual(Timestamp::from_micros(EIGHT));
    (
        PostgresSink::new(&manager, RETENTION).with_clock(clock.clone()),
        PostgresReports::new(&manager),
        clock,
    )
}

/// One number.
pub(crate) async fn number(database: &TestDatabase, sql: &str) -> i64 {
    let (client, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let number = client.query_one(sql, &[]).await.unwrap().get(0);
    drop(client);
    connection.await.unwrap().unwrap();
    number
}

macro_rules! contract {
    ($($rule:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $rule() {
            let Some(database) = database().await else { return };
            let (sink, reports, _) = open(&database);
            usage_contract::$rule(&sink, &reports).await;
        }
    )*};
}

contract! {
    an_event_is_kept_once,
    what_was_kept_first_stays,
    counts_of_refusals_can_be_stored_again,
    an_audit_row_is_taken,
    what_was_audited_of_keys_is_read_back,
    a_report_tells_outcomes_periods_and_percentiles,
    events_are_read_in_order_after_a_moment,
    a_tail_shows_each_event_once_those_that_come_late_too,
}

macro_rules! totals {
    ($($rule:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $rule() {
            let Some(database) = database().await else { return };
            let (sink, _, _) = open(&database);
            let totals = PostgresTotals::new(&database.manager());
            usage_contract::$rule(&sink, &totals).await;
        }
    )*};
}

totals! {
    totals_count_each_event_once_and_outlive_it,
    a_total_is_new_until_its_record_was_told,
    one_at_a_time_tells,
}

#[tokio::test]
async fn what_is_old_goes_and_its_sums_stay() {
    let Some(database) = database().await else {
        return;
    };
    let (sink, reports, clock) = open(&database);
    usage_contract::what_is_old_goes_and_its_sums_stay(&sink, &reports, &clock).await;
    assert_eq!(
        number(&database, "SELECT sum(requests)::bigint FROM usage_hourly").await,
        5
    );
    // A day that was dropped does not come back.
    let again = batch(2, vec![event(9, 1)], 1);
    assert_eq!(sink.store(again).await.unwrap().quarantined, 1);
}

#[tokio::test]
async fn what_is_too_old_or_too_new_is_put_aside_once_and_in_no_sum() {
    let Some(database) = database().await else {
        return;
    };
    let (sink, reports, clock) = open(&database);
    let mut events: Vec<_> = (1..=4).map(|id| event(id, 1)).collect();
    events[1].occurred_at = Timestamp::from_micros(EIGHT - 91 * DAY);
    events[2].occurred_at = Timestamp::from_micros(EIGHT + DAY + 1);
    events[3].occurred_at = Timestamp::from_micros(i64::MAX);
    let given = batch(1, events, 4);
    let stored = sink.store(Arc::clone(&given)).await.unwrap();
    assert_eq!((stored.new, stored.quarantined), (4, 3));
    // By then one of them is no longer too new: it stays where it is.
    clock.advance(Duration::from_hours(24));
    assert_eq!(sink.store(given).await.unwrap().new, 0);
    assert_eq!(
        number(&database, "SELECT count(*) FROM usage_events").await,
        1
    );
    assert_eq!(
        number(&database, "SELECT count(*) FROM usage_quarantine").await,
        3
    );
    assert_eq!(
        number(&database, "SELECT sum(requests)::bigint FROM usage_hourly").await,
        1
    );
    assert_eq!(reports.instances().await.unwrap()[0].stored, 4);
}

#[tokio::test]
async fn a_row_that_the_database_refuses_is_put_aside_and_the_others_get_in() {
    let Some(database) = database().await else {
        return;
    };
    let (sink, _, _) = open(&database);
    sink.store(batch(1, vec![event(1000, 1)], 1)).await.unwrap();
    database
        .execute("ALTER TABLE usage_events ADD CHECK (status <> 418)")
        .await;
    let mut events: Vec<_> = (0..100).map(|id| event(id, 1)).collect();
    events[7].status = 418;
    events[63].status = 418;
    events[64].route = "a\0b".into();
    events[65].status = u16::MAX;
    let given = batch(1, events, 100);
    let stored = sink.store(Arc::clone(&given)).await.unwrap();
    assert_eq!((stored.new, stored.quarantined), (100, 4));
    assert_eq!(sink.store(given).await.unwrap().new, 0);
    assert_eq!(
        number(&database, "SELECT count(*) FROM usage_events").await,
        97
    );
    let aside = "SELECT count(*) FROM usage_quarantine WHERE reason = 'unstorable'";
    assert_eq!(number(&database, aside).await, 4);
}

/// How many rows of `usage_hourly` are not what the events come to, or lack.
const WRONG_SUMS: &str = "
    WITH told AS (TABLE usage_hourly), made AS (
        SELECT date_trunc('hour', occurred_at, 'UTC'), key_id, route, count(*),
            count(*) FILTER (WHERE outcome <> 'admitted'), sum(request_bytes),
            sum(response_bytes), sum(duration_us), max(occurred_at)
        FROM usage_events GROUP BY 1, 2, 3
    )
    SELECT count(*) FROM (
        (TABLE told EXCEPT TABLE made) UNION ALL (TABLE made EXCEPT TABLE told)
    ) AS wrong";

#[tokio::test]
async fn the_sums_are_those_of_the_events_new_late_repeated_and_huge_ones() {
    let Some(database) = database().await else {
        return;
    };
    let (sink, reports, _) = open(&database);
    let made = |id: u128| {
        let mut event = event(id, id % 3);
        let step = i64::try_from(id).unwrap();
        event.occurred_at = Timestamp::from_micros(EIGHT - HOUR + step * HOUR / 7);
        event.response_bytes += u64::try_from(id).unwrap();
        match id % 5 {
            0 => event.outcome = Outcome::Refused(Refusal::RateLimited),
            1 => event.ended = Ended::Interrupted,
            2 => event.route = "a \\ \t \"ü\"".into(),
            _ => {}
        }
        event
    };
    let new = batch(1, (0..20).map(made).collect(), 20);
    let overlapping = batch(1, (10..30).map(made).collect(), 30);
    let within_itself = batch(1, [31, 32, 31].map(made).to_vec(), 33);
    let mut huge = [made(40), made(43), made(46)];
    for event in &mut huge {
        event.request_bytes = u64::MAX;
        event.occurred_at = Timestamp::from_micros(EIGHT);
    }
    let huge = batch(1, huge.to_vec(), 36);
    for (given, stored) in [
        (&new, 20),
        (&new, 0),
        (&overlapping, 10),
        (&within_itself, 2),
        (&huge, 3),
        (&huge, 0),
    ] {
        assert_eq!(sink.store(Arc::clone(given)).await.unwrap().new, stored);
        assert_eq!(number(&database, WRONG_SUMS).await, 0);
    }
    let instance = &reports.instances().await.unwrap()[0];
    assert_eq!((instance.stored, instance.interrupted), (27, 8));
}

#[tokio::test]
async fn what_is_copied_is_stored_as_it_is() {
    let Some(database) = database().await else {
        return;
    };
    let (sink, reports, _) = open(&database);
    let mut events: Vec<_> = (1..=3).map(|id| event(id, 7)).collect();
    events[1].client_ip = Some("2001:db8::7".parse().unwrap());
    events[2].client_ip = None;
    events[2].duration_us = u64::MAX;
    events[2].route = "".into();
    sink.store(batch(9, events.clone(), 3)).await.unwrap();
    let query = EventQuery {
        after: (Timestamp::EPOCH, Uuid::nil()),
        limit: 10,
        key_id: None,
        route: None,
    };
    let rows = reports.events(query).await.unwrap();
    assert_eq!(rows.len(), 3);
    for (row, event) in rows.iter().zip(&events) {
        assert_eq!(row.event_id, event.event_id);
        assert_eq!(row.at, event.occurred_at);
        assert_eq!(row.key_id, event.key_id);
        assert_eq!((&*row.route, &*row.method), (&*event.route, &*event.method));
        let address = event.client_ip.map(|address| address.to_string());
        assert_eq!(row.client_ip.as_deref(), address.as_deref());
        assert_eq!(row.instance, Uuid::from_u128(9));
        let most = u64::try_from(i64::MAX).unwrap();
        assert_eq!(row.duration_us, event.duration_us.min(most));
    }
}

#[tokio::test]
async fn a_day_is_made_with_the_checks_of_all_days() {
    let Some(database) = database().await else {
        return;
    };
    let (sink, _, _) = open(&database);
    database
        .execute("ALTER TABLE usage_events ADD CONSTRAINT sober CHECK (status <> 418)")
        .await;
    let mut refused = event(2, 1);
    refused.status = 418;
    let given = batch(1, vec![event(1, 1), refused], 2);
    let stored = sink.store(given).await.unwrap();
    assert_eq!((stored.new, stored.quarantined), (2, 1));
}

#[tokio::test]
async fn an_audit_row_that_is_sent_again_is_written_once() {
    let Some(database) = database().await else {
        return;
    };
    let (sink, _, _) = open(&database);
    for row in usage_contract::audit_rows() {
        sink.audit(row.clone()).await.unwrap();
        sink.audit(row).await.unwrap();
    }
    let count = "SELECT count(*) FROM audit_log";
    assert_eq!(number(&database, count).await, 4);
}

#[tokio::test]
async fn edges_that_store_at_once_lose_and_repeat_nothing() {
    let Some(database) = database().await else {
        return;
    };
    let (sink, _, _) = open(&database);
    let edges = (0..6).map(|edge| {
        let events: Vec<_> = (0..500)
            .map(|id| event(edge / 2 * 1000 + id, id % 7))
            .collect();
        // Two of each three processes hold the same events.
        sink.store(batch(edge / 2, events, 500))
    });
    let stored = futures_util::future::join_all(edges).await;
    let new: u64 = stored.into_iter().map(|stored| stored.unwrap().new).sum();
    assert_eq!(new, 1500);
    assert_eq!(
        number(&database, "SELECT count(*) FROM usage_events").await,
        1500
    );
    assert_eq!(
        number(&database, "SELECT sum(requests)::bigint FROM usage_hourly").await,
        1500
    );
}
