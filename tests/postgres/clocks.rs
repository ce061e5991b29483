//! Edges whose clocks are wrong, and what comes later than the retention: put
//! aside, once, and in nobody's way.

use std::time::Duration;

use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::usage::report::{PostgresReports, Standing, verify};

use crate::recording::{Edge, eventually};
use crate::server::database;

const EVENTS: u64 = 2500;

/// 2099-06-01T00:00:00Z
const FAR: i64 = 4_083_955_200_000_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_in_1970_does_not_disturb_one_of_today() {
    an_edge_in_another_time_does_not_disturb_one_of_today(Timestamp::EPOCH, "too_old").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_in_2099_does_not_disturb_one_of_today() {
    let far = Timestamp::from_micros(FAR);
    an_edge_in_another_time_does_not_disturb_one_of_today(far, "too_new").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backlog_older_than_the_retention_does_not_disturb_what_is_new() {
    let long_ago = Clock::system()
        .wall()
        .saturating_sub(Duration::from_hours(91 * 24));
    an_edge_in_another_time_does_not_disturb_one_of_today(long_ago, "too_old").await;
}

#[expect(clippy::print_stdout, reason = "the counts are to be seen")]
async fn an_edge_in_another_time_does_not_disturb_one_of_today(then: Timestamp, reason: &str) {
    let Some(database) = database().await else {
        return;
    };
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let manager = database.manager();
    let lost = Edge::start(there.path(), &manager, &Clock::manual(then));
    let edge = Edge::start(here.path(), &manager, &Clock::system());
    for edge in [&lost, &edge] {
        edge.record(EVENTS);
    }
    eventually("both are stored", async || {
        lost.acknowledged() >= EVENTS && edge.acknowledged() >= EVENTS
    })
    .await;
    lost.end().await;
    edge.end().await;
    let aside = format!(
        "SELECT count(*) FROM usage_quarantine \
         WHERE reason = '{reason}' AND (occurred_at = 'epoch') = {}",
        then == Timestamp::EPOCH
    );
    let aside = database.number(&aside).await;
    let stored = database.stored().await;
    let summed = database
        .number("SELECT sum(requests)::bigint FROM usage_hourly")
        .await;
    println!("{then}: put aside {aside}, rows of today {stored}, in the sums {summed}");
    assert_eq!((aside, stored, summed), (EVENTS, EVENTS, EVENTS));
    let reports = PostgresReports::new(&manager);
    let dead = Timestamp::from_micros(i64::MAX);
    let checks = verify(&reports, here.path(), dead).await.unwrap();
    let whole = checks
        .iter()
        .all(|check| check.standing == Standing::Whole && check.stored == EVENTS);
    assert!(whole && checks.len() == 2, "{checks:?}");
}
