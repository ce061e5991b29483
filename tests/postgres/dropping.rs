//! The end of days: what is dropped with them, what is remembered of it, and
//! who waits meanwhile.

use std::sync::Arc;
use std::time::Duration;

use cypheron_edge::clock::Timestamp;
use cypheron_edge::usage::report::UsageReports as _;
use cypheron_edge::usage::sink::{PostgresSink, UsageSink};
use tokio::time::timeout;
use tokio_postgres::NoTls;

use crate::recording::eventually;
use crate::server::database;
use crate::sink::{number, open};
use crate::usage_contract::{EIGHT, HOUR, RETENTION, batch, event};

#[tokio::test]
async fn what_was_dropped_with_its_day_and_is_sent_again_is_not_counted_again() {
    let Some(database) = database().await else {
        return;
    };
    let (sink, reports, clock) = open(&database);
    let mut before = event(1, 1);
    before.occurred_at = Timestamp::from_micros(EIGHT - HOUR);
    sink.store(batch(1, vec![before], 1)).await.unwrap();
    // Of this one, the edge does not learn that it is stored.
    let last = batch(1, vec![event(2, 1), event(3, 1)], 3);
    sink.store(Arc::clone(&last)).await.unwrap();
    clock.advance(RETENTION + Duration::from_hours(24));
    let before = clock.wall().saturating_sub(RETENTION);
    assert_eq!(sink.expire(before, 10).await.unwrap(), 1);
    for _ in 0..2 {
        let stored = sink.store(Arc::clone(&last)).await.unwrap();
        assert_eq!((stored.new, stored.quarantined), (0, 0));
    }
    let instance = &reports.instances().await.unwrap()[0];
    assert_eq!((instance.decided, instance.stored), (3, 3));
    let kept = "SELECT count(*) FROM usage_dropped";
    assert_eq!(number(&database, kept).await, 2);
    // That is not kept for ever either.
    database
        .execute("UPDATE usage_dropped SET dropped_at = '2019-01-01'")
        .await;
    assert_eq!(sink.expire(before, 10).await.unwrap(), 2);
    assert_eq!(number(&database, kept).await, 0);
}

#[tokio::test]
async fn a_day_that_somebody_reads_is_dropped_later_and_keeps_no_event_waiting() {
    let Some(database) = database().await else {
        return;
    };
    let (sink, _, clock) = open(&database);
    sink.store(batch(1, vec![event(1, 1)], 1)).await.unwrap();
    clock.advance(RETENTION + Duration::from_hours(24));
    let before = clock.wall().saturating_sub(RETENTION);

    let (mut reader, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let reading = reader.transaction().await.unwrap();
    let read = "SELECT count(*) FROM usage_events";
    reading.query_one(read, &[]).await.unwrap();
    // Not a failure, and not done.
    assert_eq!(sink.expire(before, 10).await.unwrap(), 0);
    let mut new = event(2, 1);
    new.occurred_at = clock.wall();
    assert_eq!(sink.store(batch(1, vec![new], 2)).await.unwrap().new, 1);
    assert_eq!(number(&database, read).await, 2);

    reading.commit().await.unwrap();
    assert_eq!(sink.expire(before, 10).await.unwrap(), 1);
    assert_eq!(number(&database, read).await, 1);
}

#[tokio::test]
async fn an_edge_from_the_future_ends_nothing_of_the_present() {
    let Some(database) = database().await else {
        return;
    };
    let (sink, _, _) = open(&database);
    sink.store(batch(1, vec![event(1, 1)], 1)).await.unwrap();
    let far = Timestamp::from_micros(i64::MAX);
    assert_eq!(sink.expire(far, 10).await.unwrap(), 0);
    assert_eq!(
        number(&database, "SELECT count(*) FROM usage_events").await,
        1
    );
}

#[tokio::test]
async fn what_is_sent_again_when_it_is_too_old_is_known_after_its_day_was_dropped_too() {
    let Some(database) = database().await else {
        return;
    };
    let (sink, _, clock) = open(&database);
    let last = batch(1, vec![event(1, 1)], 1);
    assert_eq!(sink.store(Arc::clone(&last)).await.unwrap().new, 1);
    clock.advance(RETENTION + Duration::from_hours(1));
    assert_eq!(sink.store(Arc::clone(&last)).await.unwrap().new, 0);
    clock.advance(Duration::from_hours(24));
    let before = clock.wall().saturating_sub(RETENTION);
    assert_eq!(sink.expire(before, 10).await.unwrap(), 1);
    assert_eq!(sink.store(last).await.unwrap().new, 0);
}

#[tokio::test]
async fn of_a_day_only_what_may_be_sent_again_is_remembered_however_long_its_streams() {
    let Some(database) = database().await else {
        return;
    };
    let (sink, reports, clock) = open(&database);
    let at = |id: u128, seconds: i64| {
        let mut event = event(id, 1);
        event.occurred_at = Timestamp::from_micros(EIGHT + seconds * 1_000_000);
        event
    };
    // One a second for half an hour, acknowledged; but for a stream, which ends
    // with the process and is in its last batch.
    let before = (1..1800_u16).map(|second| at(u128::from(second), second.into()));
    sink.store(batch(1, before.collect::<Vec<_>>(), 1800))
        .await
        .unwrap();
    let last = batch(1, vec![at(5000, 0), at(5001, 1789), at(5002, 1800)], 1803);
    sink.store(Arc::clone(&last)).await.unwrap();
    clock.advance(RETENTION + Duration::from_hours(24));
    let before = clock.wall().saturating_sub(RETENTION);
    assert_eq!(sink.expire(before, 5000).await.unwrap(), 1);
    let kept = "SELECT count(*) FROM usage_dropped";
    // These three, and what was within ten seconds of the last.
    assert_eq!(number(&database, kept).await, 3 + 10);
    assert_eq!(sink.store(last).await.unwrap().new, 0);
    assert_eq!(reports.instances().await.unwrap()[0].stored, 1802);
}

#[tokio::test]
async fn what_an_older_build_tells_of_its_last_batch_is_bounded() {
    let Some(database) = database().await else {
        return;
    };
    let (sink, _, clock) = open(&database);
    let mut events: Vec<_> = (1..=2).map(|id| event(id, 1)).collect();
    events[1].occurred_at = Timestamp::from_micros(EIGHT + HOUR);
    sink.store(batch(1, events, 2)).await.unwrap();
    database
        .execute("UPDATE usage_instances SET last_ids = NULL")
        .await;
    clock.advance(RETENTION + Duration::from_hours(24));
    let before = clock.wall().saturating_sub(RETENTION);
    sink.expire(before, 10).await.unwrap();
    let kept = "SELECT count(*) FROM usage_dropped";
    assert_eq!(number(&database, kept).await, 1);
}

#[tokio::test]
async fn nobody_waits_while_what_may_be_sent_again_is_copied() {
    let Some(database) = database().await else {
        return;
    };
    let (sink, _, clock) = open(&database);
    sink.store(batch(1, vec![event(1, 1)], 1)).await.unwrap();
    clock.advance(RETENTION + Duration::from_hours(24));

    // Copying that one event has to wait for this.
    let (mut other, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let held = other.transaction().await.unwrap();
    held.batch_execute(
        "INSERT INTO usage_dropped (event_id, occurred_at)
        SELECT event_id, occurred_at FROM usage_events",
    )
    .await
    .unwrap();
    let (dropping, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    tokio::spawn(connection);
    let dropping = tokio::spawn(async move {
        let drop = "SELECT usage_drop_days('2020-01-16')";
        dropping
            .query_one(drop, &[])
            .await
            .unwrap()
            .get::<_, i32>(0)
    });
    let waiting = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event = 'transactionid'";
    eventually("it copies", async || number(&database, waiting).await == 1).await;

    // An event of the same day, and one of a day that has to be made.
    let mut of_today = event(3, 1);
    of_today.occurred_at = clock.wall();
    let mut of_that_day = event(2, 1);
    of_that_day.occurred_at = Timestamp::from_micros(EIGHT + 8 * HOUR);
    let edge = PostgresSink::new(&database.manager(), RETENTION * 2).with_clock(clock);
    let late = batch(2, vec![of_that_day, of_today], 2);
    let stored = timeout(Duration::from_secs(20), edge.store(Arc::clone(&late)));
    assert_eq!(stored.await.unwrap().unwrap().new, 2);

    held.rollback().await.unwrap();
    assert_eq!(dropping.await.unwrap(), 1);
    // What came to the day meanwhile is known as well.
    assert_eq!(edge.store(late).await.unwrap().new, 0);
}

#[tokio::test]
async fn days_that_are_not_over_are_not_dropped_nor_days_of_no_calendar_made() {
    let Some(database) = database().await else {
        return;
    };
    let (client, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    tokio::spawn(connection);
    for refused in [
        "SELECT usage_drop_days('infinity')",
        "SELECT usage_drop_days((now() AT TIME ZONE 'UTC')::date + 1)",
        "SELECT usage_make_day('infinity')",
        "SELECT usage_make_day('-infinity')",
        "SELECT usage_make_day('10000-01-01')",
    ] {
        let error = client.query(refused, &[]).await.unwrap_err();
        let code = error.code().map(tokio_postgres::error::SqlState::code);
        assert_eq!(code, Some("P0001"), "{refused}: {error:?}");
    }
    let (sink, _, _) = open(&database);
    let stored = sink.store(batch(1, vec![event(1, 1)], 1)).await.unwrap();
    assert_eq!((stored.new, stored.quarantined), (1, 0));
}
