//! Keys that are read before they are asked for.

use std::num::NonZeroU32;
use std::time::Duration;

use cypheron_edge::directory::{Config, WarmUp};
use cypheron_edge::key::ApiKey;
use cypheron_edge::repository::Change;
use cypheron_edge::token::KeyHash;
use tokio::time::Instant;

use crate::support::bench::{Bench, SECOND, hit, is_miss, revoked, settle, written};
use crate::support::{key, mint};

fn warming(warm_up: WarmUp) -> Bench {
    Bench::with(Config {
        warm_up,
        ..Config::default()
    })
}

/// So many keys that no request has named.
fn stored(bench: &Bench, keys: usize) -> Vec<(String, KeyHash)> {
    let minted: Vec<_> = (0..keys).map(|_| mint()).collect();
    for (token, hash) in &minted {
        bench.store.put(key(*hash), token);
    }
    minted
}

#[tokio::test(start_paused = true)]
async fn active_keys_are_read_by_pages_at_the_pace_that_is_set() {
    let bench = Bench::with(Config {
        warm_up: WarmUp::BeforeReady,
        warm_up_rate: NonZeroU32::new(100).unwrap(),
        ..Config::default()
    });
    let keys = stored(&bench, 250);
    let inactive = ApiKey {
        is_active: false,
        ..key(keys[0].1)
    };
    bench.store.put(inactive, &keys[0].0);
    bench.store.put_sealed(key(keys[1].1), b"does not open");
    let began = Instant::now();
    bench.follow().await;
    bench.directory.warmed_up().await;
    assert_eq!(began.elapsed(), 2 * SECOND);
    assert_eq!(bench.store.reads(), 3, "pages");
    for (_, hash) in &keys[..2] {
        assert!(is_miss(&bench.lookup(hash)), "not a usable key");
    }
    for (_, hash) in &keys[2..] {
        assert!(hit(&bench.lookup(hash)).is_some());
    }
    // And they are as fresh as any.
    bench.clock.advance(100 * SECOND);
    for (_, hash) in &keys[2..] {
        assert!(hit(&bench.lookup(hash)).is_some());
    }
    assert_eq!(bench.store.reads(), 3);
}

#[tokio::test(start_paused = true)]
async fn nothing_is_read_ahead_unless_it_is_asked_for_and_then_once() {
    let bench = warming(WarmUp::Off);
    stored(&bench, 1);
    bench.follow().await;
    bench.directory.warmed_up().await;
    assert_eq!(bench.store.reads(), 0);

    let bench = warming(WarmUp::Background);
    stored(&bench, 1);
    for _ in 0..2 {
        bench.tell(Change::Connected).await;
        bench.tell(Change::Cut).await;
    }
    assert_eq!(bench.store.reads(), 0, "nobody follows the feed yet");
    bench.follow().await;
    assert_eq!(bench.store.reads(), 1);
}

#[tokio::test(start_paused = true)]
async fn readiness_waits_for_it_only_where_that_is_asked_for() {
    for (warm_up, waits) in [(WarmUp::Background, false), (WarmUp::BeforeReady, true)] {
        let bench = warming(warm_up);
        stored(&bench, 1);
        bench.store.hold();
        bench.follow().await;
        let directory = bench.directory.clone();
        let ready = tokio::spawn(async move { directory.warmed_up().await });
        settle().await;
        assert_eq!(!ready.is_finished(), waits);
        bench.store.release();
        ready.await.unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_store_that_is_away_does_not_keep_a_process_from_being_ready() {
    let bench = warming(WarmUp::BeforeReady);
    let began = Instant::now();
    bench.directory.warmed_up().await;
    assert_eq!(began.elapsed(), 10 * SECOND, "without a feed");

    let bench = warming(WarmUp::BeforeReady);
    bench.store.fails(true);
    bench.follow().await;
    bench.directory.warmed_up().await;
}

#[tokio::test(start_paused = true)]
async fn what_is_written_while_a_page_is_read_is_not_cached_as_it_was() {
    for change in [written as fn(_, _) -> _, revoked] {
        let bench = warming(WarmUp::Background);
        let (token, hash) = stored(&bench, 1).remove(0);
        bench.store.hold();
        bench.follow().await;
        assert_eq!(bench.store.reads(), 1, "it has looked, and not answered");
        let changed = ApiKey {
            permissions: Vec::new(),
            ..key(hash)
        };
        bench.store.put(changed, &token);
        bench.tell(change(hash, 1)).await;
        bench.store.release();
        settle().await;
        assert!(hit(&bench.lookup(&hash)).is_none());
        let entry = bench.fetch(&token, hash).await.unwrap();
        assert!(entry.key.permissions.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn requests_are_served_while_keys_are_read_ahead() {
    let bench = warming(WarmUp::Background);
    let keys = stored(&bench, 1000);
    bench.follow().await;
    let (token, hash) = &keys[999];
    let began = Instant::now();
    bench.fetch(token, *hash).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(10));
}
