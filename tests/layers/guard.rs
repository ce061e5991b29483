//! A store that is slow or down costs one timeout, not one for each request.

use std::time::Duration;

use cypheron_edge::directory::Config;
use cypheron_edge::refusal::Refusal;
use cypheron_edge::repository::{Found, RepositoryError};
use tokio::time::Instant;

use crate::support::bench::{Bench, SECOND, hit, settle};
use crate::support::{key, mint};

const UNAVAILABLE: Refusal = Refusal::StoreUnavailable;

/// What a client with a key that nobody has asked for yet is told, and after
/// how long.
async fn ask(bench: &Bench) -> (Refusal, Duration) {
    let (token, hash) = mint();
    let began = Instant::now();
    let refusal = bench.fetch(&token, hash).await.unwrap_err();
    (refusal, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_costs_one_timeout() {
    let bench = Bench::new();
    bench.store.hold();
    let (refusal, waited) = ask(&bench).await;
    assert_eq!(refusal, UNAVAILABLE);
    assert!(waited > Duration::from_millis(400), "{waited:?}");
    assert!(waited <= Duration::from_millis(500), "{waited:?}");
    for _ in 0..1000 {
        assert_eq!(ask(&bench).await, (UNAVAILABLE, Duration::ZERO));
    }
    assert_eq!(bench.store.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_on_for_a_store_that_has_turned_out_to_be_silent() {
    let bench = Bench::new();
    bench.store.hold();
    let (token, hash) = mint();
    let first = bench.start(&token, hash);
    tokio::time::sleep(Duration::from_millis(300)).await;
    let (refusal, waited) = ask(&bench).await;
    assert_eq!(refusal, UNAVAILABLE);
    assert!(waited <= Duration::from_millis(200), "{waited:?}");
    assert_eq!(first.await.unwrap().unwrap_err(), UNAVAILABLE);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_down_is_asked_by_one_probe_at_a_time_at_growing_intervals() {
    let bench = Bench::new();
    bench.store.fails(true);
    assert_eq!(ask(&bench).await.0, UNAVAILABLE);
    assert_eq!(bench.store.reads(), 2, "it was tried once more");
    let began = Instant::now();
    while began.elapsed() < 60 * SECOND {
        assert_eq!(ask(&bench).await, (UNAVAILABLE, Duration::ZERO));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let probes = bench.store.reads() - 2;
    assert!((60..=130).contains(&probes), "{probes}");
    assert_eq!(bench.store.most_at_once(), 1);

    bench.store.fails(false);
    let began = Instant::now();
    bench.recovered().await;
    assert!(began.elapsed() <= 3 * SECOND, "{:?}", began.elapsed());
    assert_eq!(ask(&bench).await.0, Refusal::KeyUnknown);
}

#[tokio::test(start_paused = true)]
async fn one_record_that_cannot_be_read_does_not_shut_out_the_others() {
    let bench = Bench::new();
    let (token, hash) = mint();
    bench.store.never_answers_for(hash);
    assert_eq!(bench.fetch(&token, hash).await.unwrap_err(), UNAVAILABLE);
    bench.recovered().await;
    assert_eq!(ask(&bench).await.0, Refusal::KeyUnknown);
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_once_is_made_again_and_nobody_notices() {
    let bench = Bench::new();
    let (token, hash) = mint();
    bench.store.put(key(hash), &token);
    bench.store.fails(true);
    let fetch = bench.start(&token, hash);
    settle().await;
    assert_eq!(bench.store.reads(), 1);
    bench.store.fails(false);
    assert!(fetch.await.unwrap().is_ok());
    assert_eq!(bench.store.reads(), 2);
    assert!(!bench.directory.is_store_failing());
}

#[tokio::test(start_paused = true)]
async fn what_does_not_pass_is_not_tried_again() {
    let bench = Bench::new();
    let refused = RepositoryError::Refused("no permission".to_owned());
    bench.store.fails_with(Some(refused));
    assert_eq!(ask(&bench).await, (UNAVAILABLE, Duration::ZERO));
    assert_eq!(bench.store.reads(), 1);
    assert!(bench.directory.is_store_failing());
}

#[tokio::test(start_paused = true)]
async fn a_damaged_record_is_no_fault_of_the_store() {
    let bench = Bench::new();
    let damaged = RepositoryError::Damaged("field `name`".to_owned());
    bench.store.fails_with(Some(damaged));
    for _ in 0..10 {
        assert_eq!(ask(&bench).await.0, Refusal::KeyTampered);
    }
    assert!(!bench.directory.is_store_failing());
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_comes_late_serves_the_next_request_and_ends_the_fault() {
    let bench = Bench::new();
    let (token, hash) = mint();
    bench.store.put(key(hash), &token);
    bench.store.hold();
    assert_eq!(bench.fetch(&token, hash).await.unwrap_err(), UNAVAILABLE);
    assert!(bench.directory.is_store_failing());
    bench.store.release();
    settle().await;
    assert!(hit(&bench.lookup(&hash)).is_some());
    assert!(!bench.directory.is_store_failing());
}

/// Its clients wait in vain once, and are served when they come again.
#[tokio::test(start_paused = true)]
async fn a_store_that_always_answers_late_still_serves() {
    let bench = Bench::new();
    for _ in 0..5 {
        let (token, hash) = mint();
        bench.store.put(key(hash), &token);
        bench.store.hold();
        assert_eq!(bench.fetch(&token, hash).await.unwrap_err(), UNAVAILABLE);
        tokio::time::sleep(Duration::from_millis(300)).await;
        bench.store.release();
        settle().await;
        assert!(hit(&bench.lookup(&hash)).is_some());
    }
}

#[tokio::test(start_paused = true)]
async fn one_slow_read_among_others_is_no_outage() {
    let bench = Bench::new();
    bench.store.hold();
    let (token, hash) = mint();
    let slow = bench.start(&token, hash);
    settle().await;
    bench.clock.advance(SECOND);
    // The next read answers: held ones have to be let go one by one.
    bench.store.release_later_reads();
    assert_eq!(ask(&bench).await.0, Refusal::KeyUnknown);
    assert_eq!(slow.await.unwrap().unwrap_err(), UNAVAILABLE);
    assert!(!bench.directory.is_store_failing());
}

#[tokio::test(start_paused = true)]
async fn known_keys_go_on_and_a_revocation_stays_in_force_while_the_store_is_away() {
    let bench = Bench::new();
    bench.follow().await;
    let (_, known, _) = bench.known().await;
    let (_, gone, _) = bench.known().await;
    bench.store.set(gone, Found::Tombstone { revision: 2 });
    bench.tell(crate::support::bench::revoked(gone, 2)).await;
    bench.store.hold();
    bench.tell(cypheron_edge::repository::Change::Cut).await;
    ask(&bench).await;
    for _ in 0..500 {
        bench.clock.advance(SECOND);
        let began = Instant::now();
        assert!(hit(&bench.lookup(&known)).is_some());
        let lookup = bench.lookup(&gone);
        assert!(!hit(&lookup).unwrap().key.is_active);
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn the_places_of_reads_that_hang_are_given_back_when_their_time_is_up() {
    let bench = Bench::with(Config {
        max_reads: 1,
        max_waiting: 2,
        ..Config::default()
    });
    bench.store.hold();
    let (token, hash) = mint();
    assert!(bench.fetch(&token, hash).await.is_err());
    tokio::time::sleep(Duration::from_secs(3)).await;
    bench.store.release();
    bench.recovered().await;
    assert_eq!(ask(&bench).await.0, Refusal::KeyUnknown);
}
