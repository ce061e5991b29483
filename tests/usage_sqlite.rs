//! The SQLite sink keeps the contract of every sink.

#![cfg(feature = "embedded")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod usage_contract;

use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::database::Database;
use cypheron_edge::usage::report::SqliteReports;
use cypheron_edge::usage::sink::{SqliteSink, UsageSink};
use cypheron_edge::usage::totals::{KeyTotals, SqliteTotals, Which};
use rusqlite::Connection;

fn open(directory: &tempfile::TempDir) -> (SqliteSink, SqliteReports) {
    let database = Database::open_in(directory.path()).unwrap();
    let clock = Clock::manual(Timestamp::from_micros(usage_contract::EIGHT));
    (
        SqliteSink::new(&database, clock),
        SqliteReports::new(&database),
    )
}

macro_rules! contract {
    ($($rule:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $rule() {
            let directory = tempfile::tempdir().unwrap();
            let (sink, reports) = open(&directory);
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
            let directory = tempfile::tempdir().unwrap();
            let (sink, _) = open(&directory);
            let totals = SqliteTotals::new(&Database::open_in(directory.path()).unwrap());
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
async fn usage_from_before_there_were_totals_is_in_them() {
    let directory = tempfile::tempdir().unwrap();
    let file = Connection::open(directory.path().join("usage.db")).unwrap();
    file.execute_batch(include_str!("../db/sqlite/0001_usage.sql"))
        .unwrap();
    file.execute_batch(
        "PRAGMA application_id = 0x43594b55; PRAGMA user_version = 1; \
         INSERT INTO usage_hourly VALUES (0, '00000000-0000-0000-0000-000000000001', 'a', 3, 0, 0, 0, 0, 8), \
         (0, '00000000-0000-0000-0000-000000000001', 'b', 4, 1, 0, 0, 0, 9)",
    )
    .unwrap();
    drop(file);
    let totals = SqliteTotals::new(&Database::open_in(directory.path()).unwrap());
    let mut telling = totals.begin().await.unwrap().unwrap();
    let found = telling.totals(Which::New, None, 9).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].usage_count, found[0].last_used.as_micros()),
        (7, 9)
    );
}

#[tokio::test]
async fn what_is_old_goes_and_its_sums_stay() {
    let directory = tempfile::tempdir().unwrap();
    let (sink, reports) = open(&directory);
    let clock = Clock::manual(Timestamp::from_micros(usage_contract::EIGHT));
    usage_contract::what_is_old_goes_and_its_sums_stay(&sink, &reports, &clock).await;
}

#[tokio::test]
async fn what_is_old_is_deleted_a_little_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let (sink, _) = open(&directory);
    let events = (0..4).map(|id| usage_contract::event(id, 1)).collect();
    sink.store(usage_contract::batch(1, events, 4))
        .await
        .unwrap();
    let far = Timestamp::from_micros(i64::MAX);
    let mut deleted = Vec::new();
    for _ in 0..3 {
        deleted.push(sink.expire(far, 3).await.unwrap());
    }
    assert_eq!(deleted, [3, 1, 0]);
}

#[tokio::test]
async fn the_hourly_sums_grow_only_with_new_events_and_stay() {
    let directory = tempfile::tempdir().unwrap();
    let (sink, _) = open(&directory);
    let mut second = usage_contract::event(2, 1);
    second.occurred_at = Timestamp::from_micros(usage_contract::EIGHT + 9);
    let batch = usage_contract::batch(1, vec![usage_contract::event(1, 1), second], 2);
    sink.store(batch.clone()).await.unwrap();
    sink.store(batch).await.unwrap();
    let far = Timestamp::from_micros(i64::MAX);
    assert_eq!(sink.expire(far, 10).await.unwrap(), 2);

    let file = Connection::open(directory.path().join("usage.db")).unwrap();
    let sums: (i64, i64, i64, i64) = file
        .query_row(
            "SELECT hour, requests, response_bytes, last_at FROM usage_hourly",
            [],
            |row| row.try_into(),
        )
        .unwrap();
    let hour = usage_contract::EIGHT;
    assert_eq!(sums, (hour, 2, 40, hour + 9));
}

#[tokio::test]
async fn an_audit_row_that_is_sent_again_is_written_once() {
    let directory = tempfile::tempdir().unwrap();
    let (sink, _) = open(&directory);
    for row in usage_contract::audit_rows() {
        sink.audit(row.clone()).await.unwrap();
        sink.audit(row).await.unwrap();
    }
    let file = Connection::open(directory.path().join("usage.db")).unwrap();
    let count = |sql: &str| file.query_row::<i64, _, _>(sql, [], |row| row.get(0));
    assert_eq!(count("SELECT count(*) FROM audit_log").unwrap(), 4);
}
