//! The directory against a store that is slow, broken, edited and revoked from,
//! at exactly the wrong moments.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::bench::{Bench, SECOND, hit, is_miss, refused, revoked, settle, written};
use crate::support::store::{ELSEWHERE, LATER};
use crate::support::{key, mint};
use cypheron_edge::directory::{Config, Lookup};
use cypheron_edge::key::ApiKey;
use cypheron_edge::refusal::Refusal;
use cypheron_edge::repository::{Change, Found};
use cypheron_edge::token::{KeyHash, TokenDigest};

#[tokio::test]
async fn a_key_is_read_once_and_then_known() {
    let bench = Bench::new();
    let (_, hash, entry) = bench.known().await;
    assert!(Arc::ptr_eq(hit(&bench.lookup(&hash)).unwrap(), &entry));
    assert_eq!(bench.store.reads(), 1);
}

#[tokio::test]
async fn what_is_not_there_is_remembered_as_long_as_it_is_fresh() {
    let bench = Bench::new();
    let (token, hash) = mint();
    assert!(is_miss(&bench.lookup(&hash)));
    assert_eq!(
        bench.fetch(&token, hash).await.unwrap_err(),
        Refusal::KeyUnknown
    );
    assert_eq!(refused(&bench.lookup(&hash)), Some(Refusal::KeyUnknown));
    bench.clock.advance(30 * SECOND);
    assert!(is_miss(&bench.lookup(&hash)));
}

#[tokio::test]
async fn all_who_wait_for_one_key_share_a_read_that_outlives_them() {
    let bench = Bench::new();
    let (token, hash) = mint();
    bench.store.put(key(hash), &token);
    bench.store.hold();
    let waiting: Vec<_> = (0..10).map(|_| bench.start(&token, hash)).collect();
    settle().await;
    assert_eq!(bench.store.reads(), 1);
    for caller in waiting {
        caller.abort();
    }
    bench.store.release();
    settle().await;
    assert!(hit(&bench.lookup(&hash)).is_some());
    assert_eq!(bench.store.reads(), 1);
}

#[tokio::test]
async fn an_ageing_record_serves_and_is_read_in_the_background() {
    let bench = Bench::new();
    let (_, hash, _) = bench.known().await;
    bench.clock.advance(31 * SECOND);
    for _ in 0..5 {
        assert!(hit(&bench.lookup(&hash)).is_some());
        settle().await;
    }
    assert_eq!(bench.store.reads(), 2);
    bench.clock.advance(29 * SECOND);
    assert!(hit(&bench.lookup(&hash)).is_some(), "it was confirmed");
    assert_eq!(bench.store.reads(), 2);
}

#[tokio::test]
async fn beyond_twice_the_ttl_a_record_is_read_before_it_serves() {
    let bench = Bench::new();
    let (token, hash, entry) = bench.known().await;
    bench.clock.advance(60 * SECOND);
    assert!(is_miss(&bench.lookup(&hash)));
    let again = bench.fetch(&token, hash).await.unwrap();
    assert!(
        Arc::ptr_eq(&again, &entry),
        "an unchanged record is confirmed"
    );
    assert!(hit(&bench.lookup(&hash)).is_some());
}

#[tokio::test]
async fn a_healthy_feed_stretches_the_time_between_reads() {
    let bench = Bench::new();
    bench.follow().await;
    let (token, hash, _) = bench.known().await;
    bench.clock.advance(280 * SECOND);
    assert!(hit(&bench.lookup(&hash)).is_some());
    settle().await;
    assert_eq!(bench.store.reads(), 1);
    bench.clock.advance(20 * SECOND);
    assert!(is_miss(&bench.lookup(&hash)), "five minutes are the most");
    bench.fetch(&token, hash).await.unwrap();
    assert_eq!(bench.store.reads(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_lets_known_keys_go_on_for_ten_minutes_and_no_longer() {
    let bench = Bench::new();
    bench.follow().await;
    let (token, hash, _) = bench.known().await;
    bench.clock.advance(100 * SECOND);
    bench.store.fails(true);
    bench.tell(Change::Cut).await;
    // Counted from the cut, until which the feed confirmed it.
    bench.clock.advance(60 * SECOND);
    assert!(is_miss(&bench.lookup(&hash)));
    assert!(bench.fetch(&token, hash).await.is_ok());
    // From the first failure on nobody waits.
    for _ in 0..539 {
        bench.clock.advance(SECOND);
        assert!(hit(&bench.lookup(&hash)).is_some());
        settle().await;
    }
    bench.clock.advance(SECOND);
    assert!(is_miss(&bench.lookup(&hash)));
    let expired = bench.fetch(&token, hash).await;
    assert_eq!(expired.unwrap_err(), Refusal::StoreUnavailable);
    bench.store.fails(false);
    bench.recovered().await;
    assert!(bench.fetch(&token, hash).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_failing_store_refuses_unknown_keys_without_calling_them_unknown() {
    let bench = Bench::new();
    bench.store.fails(true);
    let (token, hash) = mint();
    let failed = bench.fetch(&token, hash).await;
    assert_eq!(failed.unwrap_err(), Refusal::StoreUnavailable);
    bench.store.fails(false);
    bench.recovered().await;
    let absent = bench.fetch(&token, hash).await;
    assert_eq!(absent.unwrap_err(), Refusal::KeyUnknown);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_for_a_silent_store_than_the_lookup_timeout() {
    let bench = Bench::new();
    let (known_token, known, _) = bench.known().await;
    bench.store.hold();
    let (token, hash) = mint();
    let started = tokio::time::Instant::now();
    let silent = bench.fetch(&token, hash).await;
    assert_eq!(silent.unwrap_err(), Refusal::StoreUnavailable);
    assert!(started.elapsed() <= Duration::from_millis(500));
    // And who is known does not wait again for what has just kept silent.
    bench.clock.advance(61 * SECOND);
    assert!(hit(&bench.lookup(&known)).is_some());
    assert!(bench.fetch(&known_token, known).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_read_that_came_too_late_for_its_caller_still_counts() {
    let bench = Bench::new();
    let (token, hash) = mint();
    bench.store.put(key(hash), &token);
    bench.store.hold();
    assert!(bench.fetch(&token, hash).await.is_err());
    bench.store.release();
    settle().await;
    assert!(hit(&bench.lookup(&hash)).is_some());
}

#[tokio::test]
async fn reads_are_within_a_budget_for_all_and_for_each_address() {
    let bench = Bench::with(Config {
        max_waiting: 5,
        max_waiting_per_address: 3,
        ..Config::default()
    });
    bench.store.hold();
    let client = |last| IpAddr::V4(Ipv4Addr::new(192, 0, 2, last));
    let fetch = |last| {
        let (token, hash) = mint();
        let digest = TokenDigest::of(&token);
        tokio::spawn(bench.directory.fetch(hash, digest, Some(client(last))))
    };
    let mut held: Vec<_> = (0..3).map(|_| fetch(1)).collect();
    assert_eq!(
        fetch(1).await.unwrap().unwrap_err(),
        Refusal::StoreUnavailable
    );
    held.extend([fetch(2), fetch(2)]);
    assert_eq!(
        fetch(3).await.unwrap().unwrap_err(),
        Refusal::StoreUnavailable
    );
    bench.store.release();
    for caller in held {
        assert_eq!(caller.await.unwrap().unwrap_err(), Refusal::KeyUnknown);
    }
    settle().await;
    assert_eq!(fetch(1).await.unwrap().unwrap_err(), Refusal::KeyUnknown);
}

#[tokio::test]
async fn a_revocation_refuses_a_known_key_at_once_and_without_a_read() {
    let bench = Bench::new();
    bench.follow().await;
    let (_, hash, entry) = bench.known().await;
    bench.tell(revoked(hash, 2)).await;
    assert!(!entry.is_current(), "whoever holds it is told");
    let lookup = bench.lookup(&hash);
    let newer = hit(&lookup).unwrap();
    assert!(!newer.key.is_active);
    assert_eq!(newer.key.id, entry.key.id, "its refusals are still its own");
    assert_eq!(bench.store.reads(), 1);
}

#[tokio::test]
async fn a_revocation_does_not_wait_until_a_keyring_is_loaded() {
    let bench = Bench::new();
    bench.follow().await;
    let (_, hash, _) = bench.known().await;
    bench.opener.stuck.store(true, Ordering::SeqCst);
    let before = bench.opener.reloads.load(Ordering::SeqCst);
    bench.tell(Change::Keyring).await;
    bench.tell(Change::Keyring).await;
    assert_eq!(bench.opener.reloads.load(Ordering::SeqCst), before + 1);
    bench.tell(revoked(hash, 2)).await;
    let Lookup::Hit(entry) = bench.lookup(&hash) else {
        panic!("its refusals are recorded as its own")
    };
    assert!(!entry.key.is_active);
}

#[tokio::test]
async fn a_keyring_that_is_replaced_is_loaded() {
    let bench = Bench::new();
    bench.follow().await;
    for reloads in 1..=2 {
        bench.tell(Change::Keyring).await;
        assert_eq!(bench.opener.reloads.load(Ordering::SeqCst), reloads);
    }
}

#[tokio::test]
async fn a_revocation_of_an_uncached_key_is_remembered() {
    let bench = Bench::new();
    bench.follow().await;
    let (token, hash) = mint();
    bench.tell(revoked(hash, 7)).await;
    assert_eq!(refused(&bench.lookup(&hash)), Some(Refusal::KeyInactive));
    // A store that answers with something older is not believed.
    bench.store.put(key(hash), &token);
    bench.clock.advance(300 * SECOND);
    assert!(is_miss(&bench.lookup(&hash)));
    let older = bench.fetch(&token, hash).await;
    assert_eq!(older.unwrap_err(), Refusal::StoreUnavailable);
    bench.store.put(
        ApiKey {
            revision: 8,
            ..key(hash)
        },
        &token,
    );
    assert!(bench.fetch(&token, hash).await.is_ok());
}

#[tokio::test]
async fn a_slow_fill_does_not_overwrite_a_revocation_that_overtook_it() {
    // The revision may be the same, when the record was edited by hand.
    for revision in [2, 1] {
        let bench = Bench::new();
        bench.follow().await;
        let (token, hash) = mint();
        bench.store.put(key(hash), &token);
        bench.store.hold();
        let slow = bench.start(&token, hash);
        settle().await;
        assert_eq!(bench.store.reads(), 1, "it has looked, and not answered");
        let inactive = ApiKey {
            is_active: false,
            revision,
            ..key(hash)
        };
        bench.store.put(inactive, &token);
        bench.tell(revoked(hash, revision)).await;
        assert_eq!(refused(&bench.lookup(&hash)), Some(Refusal::KeyInactive));
        bench.store.release();
        let entry = slow.await.unwrap().unwrap();
        assert!(!entry.key.is_active);
        assert!(!hit(&bench.lookup(&hash)).unwrap().key.is_active);
    }
}

#[tokio::test]
async fn a_slow_refresh_does_not_overwrite_a_revocation_that_overtook_it() {
    let bench = Bench::new();
    bench.follow().await;
    let (_, hash, _) = bench.known().await;
    bench.store.hold();
    bench.tell(written(hash, 1)).await;
    assert_eq!(bench.store.reads(), 2);
    bench.store.set(hash, Found::Tombstone { revision: 2 });
    bench.tell(revoked(hash, 2)).await;
    bench.store.release();
    settle().await;
    assert_eq!(refused(&bench.lookup(&hash)), Some(Refusal::KeyUnknown));
}

/// A thread keeps what it has looked up, and must not go on with it.
#[tokio::test]
async fn an_evicted_key_is_asked_for_again_and_a_revocation_of_it_is_remembered() {
    let bench = Bench::with(Config {
        max_keys: 10,
        ..Config::default()
    });
    bench.follow().await;
    let (_, hash, kept) = bench.known().await;
    assert!(hit(&bench.lookup(&hash)).is_some());
    for _ in 0..200 {
        bench.known().await;
    }
    assert!(!kept.is_current(), "evicted");
    assert!(is_miss(&bench.lookup(&hash)));
    bench.tell(revoked(hash, 2)).await;
    assert_eq!(refused(&bench.lookup(&hash)), Some(Refusal::KeyInactive));
}

#[tokio::test]
async fn a_changed_record_is_read_before_it_is_judged_again() {
    let bench = Bench::new();
    bench.follow().await;
    let (token, hash, old) = bench.known().await;
    let changed = ApiKey {
        revision: 2,
        permissions: Vec::new(),
        ..key(hash)
    };
    bench.store.put(changed, &token);
    bench.store.hold();
    bench.tell(written(hash, 2)).await;
    assert!(is_miss(&bench.lookup(&hash)));
    bench.store.release();
    settle().await;
    let lookup = bench.lookup(&hash);
    assert_eq!(hit(&lookup).unwrap().key.revision, 2);
    assert!(!old.is_current());
}

#[tokio::test(start_paused = true)]
async fn a_changed_record_that_cannot_be_read_serves_as_it_was() {
    let bench = Bench::new();
    bench.follow().await;
    let (token, hash, old) = bench.known().await;
    bench.store.fails(true);
    bench.tell(written(hash, 2)).await;
    let entry = bench.fetch(&token, hash).await.unwrap();
    assert!(Arc::ptr_eq(&entry, &old));
}

#[tokio::test]
async fn a_key_that_appears_is_found_although_it_was_remembered_as_absent() {
    let bench = Bench::new();
    bench.follow().await;
    let (token, hash) = mint();
    assert!(bench.fetch(&token, hash).await.is_err());
    bench.store.put(key(hash), &token);
    bench.tell(written(hash, 1)).await;
    assert!(is_miss(&bench.lookup(&hash)));
    assert!(bench.fetch(&token, hash).await.is_ok());
}

#[tokio::test]
async fn a_record_that_does_not_open_is_refused_and_not_read_again() {
    let bench = Bench::new();
    let (token, hash) = mint();
    for sealed in [
        &b"not a digest"[..],
        TokenDigest::of("another token").expose(),
    ] {
        bench.store.put_sealed(key(hash), sealed);
        assert_eq!(
            bench.fetch(&token, hash).await.unwrap_err(),
            Refusal::KeyTampered
        );
        assert_eq!(refused(&bench.lookup(&hash)), Some(Refusal::KeyTampered));
    }
    assert_eq!(bench.opener.reloads.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_known_key_whose_record_is_tampered_with_is_refused() {
    let bench = Bench::new();
    bench.follow().await;
    let (_, hash, entry) = bench.known().await;
    bench.store.put_sealed(key(hash), b"edited");
    bench.tell(written(hash, 1)).await;
    assert_eq!(refused(&bench.lookup(&hash)), Some(Refusal::KeyTampered));
    assert!(!entry.is_current());
}

/// Whoever can write the store can claim any revision, but cannot seal it.
#[tokio::test]
async fn a_record_that_does_not_open_cannot_shut_its_key_out_for_good() {
    let bench = Bench::new();
    bench.follow().await;
    let (token, hash, _) = bench.known().await;
    let raised = ApiKey {
        revision: 1_000_000,
        ..key(hash)
    };
    bench.store.put_sealed(raised, b"forged");
    bench.tell(written(hash, 1_000_000)).await;
    assert_eq!(refused(&bench.lookup(&hash)), Some(Refusal::KeyTampered));
    // Put right again.
    bench.store.put(key(hash), &token);
    bench.tell(written(hash, 1)).await;
    assert!(is_miss(&bench.lookup(&hash)));
    assert_eq!(bench.fetch(&token, hash).await.unwrap().key.revision, 1);
}

#[tokio::test]
async fn a_record_that_does_not_open_cannot_let_an_older_one_in() {
    let bench = Bench::new();
    bench.follow().await;
    let (token, hash) = mint();
    let second = ApiKey {
        revision: 2,
        ..key(hash)
    };
    bench.store.put(second, &token);
    bench.fetch(&token, hash).await.unwrap();
    for claimed in [1, 2, 3] {
        let forged = ApiKey {
            revision: claimed,
            ..key(hash)
        };
        bench.store.put_sealed(forged, b"forged");
        bench.tell(written(hash, claimed)).await;
        bench.store.put(key(hash), &token);
        bench.tell(written(hash, 1)).await;
        let older = bench.fetch(&token, hash).await;
        assert_eq!(older.unwrap_err(), Refusal::StoreUnavailable, "{claimed}");
    }
}

/// A revocation is believed as it is: it may have been made without the password.
#[tokio::test]
async fn a_revocation_that_was_told_stays_in_force_whatever_follows() {
    let bench = Bench::new();
    bench.follow().await;
    let (token, hash, _) = bench.known().await;
    bench.tell(revoked(hash, 2)).await;
    let forged = ApiKey {
        revision: 9,
        ..key(hash)
    };
    bench.store.put_sealed(forged, b"forged");
    bench.tell(written(hash, 9)).await;
    bench.store.put(key(hash), &token);
    bench.tell(written(hash, 1)).await;
    let older = bench.fetch(&token, hash).await;
    let lookup = bench.lookup(&hash);
    let admits = older.is_ok_and(|entry| entry.key.is_active)
        || hit(&lookup).is_some_and(|entry| entry.key.is_active);
    assert!(!admits);
}

#[tokio::test]
async fn an_inactive_record_refuses_without_being_opened() {
    let bench = Bench::new();
    let (token, hash) = mint();
    let inactive = ApiKey {
        is_active: false,
        ..key(hash)
    };
    bench.store.put_sealed(inactive, ELSEWHERE);
    let entry = bench.fetch(&token, hash).await.unwrap();
    assert!(!entry.key.is_active);
    assert_eq!(bench.opener.reloads.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_record_sealed_with_a_key_that_is_not_held_costs_one_reload() {
    let bench = Bench::new();
    let (_, hash) = mint();
    bench.store.put_sealed(key(hash), LATER);
    assert!(bench.fetch("later", hash).await.is_ok());
    assert_eq!(bench.opener.reloads.load(Ordering::SeqCst), 1);

    let (token, hash) = mint();
    bench.store.put_sealed(key(hash), ELSEWHERE);
    let failed = bench.fetch(&token, hash).await;
    assert_eq!(failed.unwrap_err(), Refusal::StoreUnavailable);
}

#[tokio::test]
async fn a_flood_of_unknown_keys_cannot_push_out_known_ones() {
    let bench = Bench::with(Config {
        max_keys: 50,
        max_absent: 50,
        ..Config::default()
    });
    let mut known = Vec::new();
    for _ in 0..50 {
        known.push(bench.known().await.1);
    }
    for number in 0_u64..2000 {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&number.to_le_bytes());
        let hash = KeyHash::from_bytes(bytes);
        assert!(bench.fetch("unknown", hash).await.is_err());
    }
    for hash in known {
        assert!(hit(&bench.lookup(&hash)).is_some());
    }
}

#[tokio::test]
async fn what_was_evicted_is_not_served_by_what_a_thread_kept_of_it() {
    let bench = Bench::with(Config {
        max_keys: 5,
        ..Config::default()
    });
    let mut entries = Vec::new();
    for _ in 0..200 {
        let (_, hash, entry) = bench.known().await;
        bench.lookup(&hash);
        entries.push((hash, entry));
    }
    let mut missed = 0;
    for (hash, entry) in &entries {
        match bench.lookup(hash) {
            Lookup::Hit(found) => assert!(found.is_current()),
            _ => missed += 1,
        }
        if !entry.is_current() {
            assert!(is_miss(&bench.lookup(hash)));
        }
    }
    assert!(missed > 100, "{missed}");
}

#[tokio::test]
async fn a_revocation_reaches_what_other_threads_kept() {
    let bench = Bench::new();
    bench.follow().await;
    let (_, hash, _) = bench.known().await;
    let (directory, now) = (bench.directory.clone(), bench.clock.now());
    let (ask, asked) = std::sync::mpsc::channel::<()>();
    let (answer, answered) = std::sync::mpsc::channel();
    let worker = std::thread::spawn(move || {
        while asked.recv().is_ok() {
            let active = hit(&directory.lookup(&hash, now)).map(|entry| entry.key.is_active);
            answer.send(active).unwrap();
        }
    });
    let of_worker = || {
        ask.send(()).unwrap();
        answered.recv().unwrap()
    };
    assert_eq!((of_worker(), of_worker()), (Some(true), Some(true)));
    bench.tell(revoked(hash, 2)).await;
    assert_eq!(of_worker(), Some(false));
    drop(ask);
    worker.join().unwrap();
}

#[tokio::test]
async fn two_directories_do_not_share_what_a_thread_keeps() {
    let (one, other) = (Bench::new(), Bench::new());
    let (_, hash, _) = one.known().await;
    assert!(hit(&one.lookup(&hash)).is_some());
    assert!(hit(&one.lookup(&hash)).is_some());
    assert!(is_miss(&other.lookup(&hash)));
}
