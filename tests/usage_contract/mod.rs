//! What every sink keeps to, and the reports over it.

use std::sync::Arc;
use std::time::Duration;

use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::refusal::Refusal;
use cypheron_edge::usage::event::{Ended, Outcome, UsageEvent};
use cypheron_edge::usage::journal::{Batch, Decided};
use cypheron_edge::usage::refusals::{RefusalCount, Refused};
use cypheron_edge::usage::report::{AuditQuery, EventQuery, Period, Query, Tail, UsageReports};
use cypheron_edge::usage::sink::{AuditRow, UsageSink};
use cypheron_edge::usage::totals::{KeyTotal, KeyTotals, Telling, Which};
use uuid::Uuid;

pub(crate) const HOUR: i64 = 3600 * 1_000_000;

pub(crate) const RETENTION: Duration = Duration::from_hours(90 * 24);

/// 2020-01-15T08:00:00Z, the beginning of an hour: long over by any clock.
pub(crate) const EIGHT: i64 = 1_579_075_200_000_000;

pub(crate) fn event(id: u128, key: u128) -> UsageEvent {
    UsageEvent {
        event_id: Uuid::from_u128(id),
        occurred_at: Timestamp::from_micros(EIGHT + 5),
        key_id: Uuid::from_u128(key),
        route: "orders".into(),
        method: "GET".into(),
        status: 200,
        outcome: Outcome::Admitted,
        ended: Ended::Complete,
        request_bytes: 10,
        response_bytes: 20,
        duration_us: 30,
        upstream_us: 25,
        client_ip: Some([192, 0, 2, 1].into()),
    }
}

pub(crate) fn batch(instance: u128, events: Vec<UsageEvent>, decided: u64) -> Arc<Batch> {
    Arc::new(Batch {
        instance: Uuid::from_u128(instance),
        events,
        writers: vec![Decided {
            writer: 0,
            decided,
            dropped: 1,
        }],
    })
}

pub(crate) fn everything(by: Period) -> Query {
    Query {
        from: Timestamp::EPOCH,
        until: Timestamp::from_micros(i64::MAX),
        by,
        key_id: None,
        route: None,
    }
}

pub(crate) async fn an_event_is_kept_once(sink: &dyn UsageSink, reports: &dyn UsageReports) {
    let mut interrupted = event(3, 1);
    interrupted.ended = Ended::Interrupted;
    let first = batch(1, vec![event(1, 1), event(2, 1), interrupted], 5);
    let again = batch(1, vec![event(2, 1), event(4, 1)], 4);
    assert_eq!(sink.store(Arc::clone(&first)).await.unwrap().new, 3);
    assert_eq!(sink.store(first).await.unwrap().new, 0);
    assert_eq!(sink.store(again).await.unwrap().new, 1);

    let rows = reports.usage(everything(Period::Hour)).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].requests, 4);
    assert_eq!((rows[0].request_bytes, rows[0].response_bytes), (40, 80));
    let instance = &reports.instances().await.unwrap()[0];
    assert_eq!((instance.stored, instance.interrupted), (3, 1));
    assert_eq!((instance.decided, instance.dropped), (5, 1));
    let asked = (1..=6).map(Uuid::from_u128).collect();
    assert_eq!(reports.count_stored(asked).await.unwrap(), 4);
}

pub(crate) async fn what_was_kept_first_stays(sink: &dyn UsageSink, reports: &dyn UsageReports) {
    let mut later = event(1, 1);
    later.ended = Ended::Interrupted;
    sink.store(batch(1, vec![event(1, 1)], 2)).await.unwrap();
    sink.store(batch(1, vec![later], 2)).await.unwrap();
    let instance = &reports.instances().await.unwrap()[0];
    assert_eq!((instance.stored, instance.interrupted), (1, 0));
}

pub(crate) async fn counts_of_refusals_can_be_stored_again(
    sink: &dyn UsageSink,
    reports: &dyn UsageReports,
) {
    let refused = Refused {
        route: Some("orders".into()),
        refusal: Refusal::KeyUnknown,
        client: Some([192, 0, 2, 0].into()),
    };
    let minute = Timestamp::from_micros(EIGHT);
    let counts: Arc<[RefusalCount]> = Arc::new([
        RefusalCount {
            minute,
            what: Some(refused),
            count: 7,
        },
        RefusalCount {
            minute,
            what: None,
            count: 3,
        },
    ]);
    for instance in [1, 1, 2] {
        let instance = Uuid::from_u128(instance);
        sink.store_refusals(instance, Arc::clone(&counts))
            .await
            .unwrap();
    }
    let rows = reports.refusals(everything(Period::Day)).await.unwrap();
    let rows: Vec<_> = rows
        .iter()
        .map(|row| (&*row.route, &*row.reason, row.count))
        .collect();
    assert_eq!(rows, [("", "other", 6), ("orders", "key-unknown", 14)]);
}

/// The clock is the sink's, which keeps events for at most [`RETENTION`].
pub(crate) async fn what_is_old_goes_and_its_sums_stay(
    sink: &dyn UsageSink,
    reports: &dyn UsageReports,
    clock: &Clock,
) {
    let mut events: Vec<_> = (0..5).map(|id| event(id, 1)).collect();
    let later = Timestamp::from_micros(EIGHT + 23 * HOUR);
    events[4].occurred_at = later;
    sink.store(batch(1, events, 5)).await.unwrap();
    clock.advance(RETENTION + Duration::from_hours(16));
    let before = Timestamp::from_micros(EIGHT + 16 * HOUR);
    while sink.expire(before, 3).await.unwrap() > 0 {}
    let rows = reports.usage(everything(Period::Hour)).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].at, later);
    assert_eq!(reports.instances().await.unwrap()[0].stored, 5);
}

/// Four of them, each of which differs from the others in one thing.
pub(crate) fn audit_rows() -> [AuditRow; 4] {
    let row = AuditRow {
        at: Timestamp::from_micros(EIGHT),
        actor: "operator".to_owned(),
        action: "revoke".to_owned(),
        key_id: Some(Uuid::from_u128(1)),
        revision: Some(2),
        detail: String::new(),
    };
    let later = AuditRow {
        at: Timestamp::from_micros(EIGHT + 1),
        ..row.clone()
    };
    let of_no_key = AuditRow {
        key_id: None,
        ..row.clone()
    };
    let without_revision = AuditRow {
        revision: None,
        ..row.clone()
    };
    [row, later, of_no_key, without_revision]
}

pub(crate) async fn an_audit_row_is_taken(sink: &dyn UsageSink, _: &dyn UsageReports) {
    for row in audit_rows() {
        sink.audit(row).await.unwrap();
    }
}

pub(crate) async fn what_was_audited_of_keys_is_read_back(
    sink: &dyn UsageSink,
    reports: &dyn UsageReports,
) {
    let mut at = EIGHT;
    let mut write = async |key: Option<u128>, action: &str, revision: Option<u64>| {
        at += 1;
        let row = AuditRow {
            at: Timestamp::from_micros(at),
            actor: "operator".to_owned(),
            action: action.to_owned(),
            key_id: key.map(Uuid::from_u128),
            revision,
            detail: "name".to_owned(),
        };
        sink.audit(row).await.unwrap();
    };
    // Two set out for revision 4, and one of them came to nothing; then a
    // revision that did altogether.
    for (action, revision) in [
        ("create", 1),
        ("revoke", 2),
        ("update", 3),
        ("update", 4),
        ("update", 4),
        ("failed", 4),
        ("reveal", 4),
        ("update", 5),
        ("failed", 5),
    ] {
        write(Some(1), action, Some(revision)).await;
    }
    write(None, "rewrap", None).await;
    write(Some(2), "create", Some(1)).await;
    write(Some(2), "failed", Some(1)).await;
    write(Some(3), "create", Some(1)).await;
    write(Some(3), "delete", Some(2)).await;

    let all = reports
        .audited(AuditQuery::page(Uuid::nil(), 10))
        .await
        .unwrap();
    let told: Vec<_> = all
        .iter()
        .map(|key| {
            let standing = key.standing.as_ref();
            let standing = standing.map(|write| (write.revision, &*write.action));
            let (id, highest) = (key.key_id.as_u128(), key.highest);
            (id, highest, standing, key.revoked, key.deleted)
        })
        .collect();
    let expected = [
        (1, 5, Some((4, "update")), Some(2), None),
        (2, 1, None, None, None),
        (3, 2, Some((2, "delete")), None, Some(2)),
    ];
    assert_eq!(told, expected);
    let write = all[0].standing.as_ref().unwrap();
    assert_eq!(write.at, Timestamp::from_micros(EIGHT + 5));
    assert_eq!((&*write.actor, &*write.detail), ("operator", "name"));

    let page = async |query| reports.audited(query).await.unwrap();
    assert_eq!(page(AuditQuery::page(Uuid::nil(), 2)).await, all[..2]);
    assert_eq!(page(AuditQuery::page(all[1].key_id, 2)).await, all[2..]);
    assert_eq!(page(AuditQuery::of(all[1].key_id)).await, all[1..2]);
    assert_eq!(page(AuditQuery::of(Uuid::from_u128(9))).await, []);
}

pub(crate) async fn a_report_tells_outcomes_periods_and_percentiles(
    sink: &dyn UsageSink,
    reports: &dyn UsageReports,
) {
    let mut events = Vec::new();
    for duration in 1..=100 {
        let mut event = event(duration, 1);
        event.duration_us = u64::try_from(duration).unwrap();
        events.push(event);
    }
    let mut refused = event(101, 1);
    refused.outcome = Outcome::Refused(Refusal::RateLimited);
    let mut other_route = event(102, 1);
    other_route.route = "reports".into();
    let mut later = event(103, 2);
    later.occurred_at = Timestamp::from_micros(EIGHT + HOUR);
    events.extend([refused, other_route, later]);
    sink.store(batch(1, events, 104)).await.unwrap();

    let rows = reports.usage(everything(Period::Hour)).await.unwrap();
    let told: Vec<_> = rows
        .iter()
        .map(|row| {
            (
                row.key_id.as_u128(),
                &*row.route,
                &*row.outcome,
                row.requests,
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, "orders", "admitted", 100),
            (1, "orders", "rate-limited", 1),
            (1, "reports", "admitted", 1),
            (2, "orders", "admitted", 1),
        ]
    );
    let times = (rows[0].p50_us, rows[0].p95_us, rows[0].p99_us);
    assert_eq!(times, (50, 95, 99));
    assert_eq!((rows[1].p50_us, rows[1].p99_us), (30, 30));
    assert_eq!(rows[3].at, Timestamp::from_micros(EIGHT + HOUR));

    let mut query = everything(Period::Day);
    query.key_id = Some(Uuid::from_u128(2));
    let rows = reports.usage(query).await.unwrap();
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0].at.to_string(), "2020-01-15T00:00:00Z");
    let mut query = everything(Period::Day);
    query.route = Some("reports".to_owned());
    query.until = Timestamp::from_micros(EIGHT + 6);
    assert_eq!(reports.usage(query).await.unwrap().len(), 1);
    let mut query = everything(Period::Day);
    query.until = Timestamp::from_micros(EIGHT + 5);
    assert!(reports.usage(query).await.unwrap().is_empty());
}

pub(crate) async fn events_are_read_in_order_after_a_moment(
    sink: &dyn UsageSink,
    reports: &dyn UsageReports,
) {
    let mut events: Vec<_> = (1..=4).map(|id| event(id, id % 2)).collect();
    events[0].occurred_at = Timestamp::from_micros(EIGHT + 9);
    events[3].route = "reports".into();
    sink.store(batch(1, events, 4)).await.unwrap();
    let read = async |after: (i64, u128), limit, key: Option<u128>, route: Option<&str>| {
        let query = EventQuery {
            after: (Timestamp::from_micros(after.0), Uuid::from_u128(after.1)),
            limit,
            key_id: key.map(Uuid::from_u128),
            route: route.map(str::to_owned),
        };
        let rows = reports.events(query).await.unwrap();
        let ids = rows.iter().map(|row| row.event_id.as_u128());
        ids.collect::<Vec<_>>()
    };
    assert_eq!(read((EIGHT, 9), 10, None, None).await, [2, 3, 4, 1]);
    assert_eq!(read((EIGHT, 9), 2, None, None).await, [2, 3]);
    assert_eq!(read((EIGHT + 5, 3), 10, None, None).await, [4, 1]);
    assert_eq!(read((EIGHT, 0), 10, Some(1), None).await, [3, 1]);
    assert_eq!(read((EIGHT, 0), 10, None, Some("reports")).await, [4]);

    let query = EventQuery {
        after: (Timestamp::from_micros(EIGHT + 5), Uuid::from_u128(3)),
        limit: 1,
        key_id: None,
        route: None,
    };
    let row = reports.events(query).await.unwrap().remove(0);
    assert_eq!(
        (&*row.method, row.status, row.duration_us),
        ("GET", 200, 30)
    );
    assert_eq!((&*row.outcome, &*row.ended), ("admitted", "complete"));
    assert_eq!(row.client_ip.as_deref(), Some("192.0.2.1"));
    assert_eq!(row.instance, Uuid::from_u128(1));
}

pub(crate) async fn a_tail_shows_each_event_once_those_that_come_late_too(
    sink: &dyn UsageSink,
    reports: &dyn UsageReports,
) {
    let at = |seconds: i64| Timestamp::from_micros(EIGHT + seconds * 1_000_000);
    let store = async |id: u128, seconds: i64| {
        let mut event = event(id, 1);
        event.occurred_at = at(seconds);
        sink.store(batch(1, vec![event], 1)).await.unwrap();
    };
    let mut tail = Tail::new(at(0), None, None);
    let mut look = async |now: i64| {
        let page = tail.next(reports, at(now)).await.unwrap();
        assert!(!page.more);
        let ids = page.events.iter().map(|row| row.event_id.as_u128());
        ids.collect::<Vec<_>>()
    };
    store(1, -1).await;
    assert!(look(0).await.is_empty());
    store(2, 10).await;
    assert_eq!(look(10).await, [2]);
    assert!(look(11).await.is_empty());
    // Of an edge whose clock is ahead; then what an edge was late with.
    store(3, 100).await;
    store(4, 8).await;
    assert_eq!(look(12).await, [4, 3]);
    store(5, 9).await;
    assert_eq!(look(12).await, [5]);
    assert!(look(12).await.is_empty());
}

fn total(key: u128, usage_count: u64, last_used: i64) -> KeyTotal {
    KeyTotal {
        key_id: Uuid::from_u128(key),
        usage_count,
        last_used: Timestamp::from_micros(last_used),
    }
}

async fn turn(totals: &dyn KeyTotals) -> Box<dyn Telling> {
    totals.begin().await.unwrap().unwrap()
}

async fn new(telling: &mut Box<dyn Telling>) -> Vec<KeyTotal> {
    telling.totals(Which::New, None, 100).await.unwrap()
}

pub(crate) async fn totals_count_each_event_once_and_outlive_it(
    sink: &dyn UsageSink,
    totals: &dyn KeyTotals,
) {
    let mut late = event(4, 1);
    late.occurred_at = Timestamp::from_micros(EIGHT - HOUR);
    let mut refused = event(3, 2);
    refused.outcome = Outcome::Refused(Refusal::RateLimited);
    let first = batch(1, vec![event(1, 1), event(2, 1), refused], 3);
    sink.store(Arc::clone(&first)).await.unwrap();
    sink.store(first).await.unwrap();
    sink.store(batch(2, vec![late], 1)).await.unwrap();
    let expected = [total(1, 3, EIGHT + 5), total(2, 1, EIGHT + 5)];
    assert_eq!(new(&mut turn(totals).await).await, expected);

    let far = Timestamp::from_micros(EIGHT + 1000 * HOUR);
    while sink.expire(far, 3).await.unwrap() > 0 {}
    assert_eq!(new(&mut turn(totals).await).await, expected);
}

pub(crate) async fn a_total_is_new_until_its_record_was_told(
    sink: &dyn UsageSink,
    totals: &dyn KeyTotals,
) {
    let events = (1..=5).map(|id| event(id, id)).collect();
    sink.store(batch(1, events, 5)).await.unwrap();
    let mut telling = turn(totals).await;
    let all = new(&mut telling).await;
    assert_eq!(all.len(), 5);
    let after = Some(all[1].key_id);
    let page = telling.totals(Which::New, after, 2).await.unwrap();
    assert_eq!(page, all[2..4]);

    telling.told(all[..3].to_vec()).await.unwrap();
    assert_eq!(new(&mut telling).await, all[3..]);
    assert_eq!(telling.totals(Which::All, None, 100).await.unwrap(), all);

    // What came in between is not taken for told.
    sink.store(batch(1, vec![event(6, 4)], 6)).await.unwrap();
    telling.told(all[3..].to_vec()).await.unwrap();
    assert_eq!(new(&mut telling).await, [total(4, 2, EIGHT + 5)]);
}

pub(crate) async fn one_at_a_time_tells(_: &dyn UsageSink, totals: &dyn KeyTotals) {
    let mut telling = turn(totals).await;
    assert!(totals.begin().await.unwrap().is_none());
    assert_eq!(new(&mut telling).await, []);
    drop(telling);
    // The other end of a connection learns of its end a little later.
    let mut next = None;
    for _ in 0..3000 {
        next = totals.begin().await.unwrap();
        if next.is_some() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(next.is_some());
}
