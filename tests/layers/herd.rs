//! Many requests at once for keys that nobody has asked for yet, and what keys
//! in steady use cost.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use cypheron_edge::directory::Config;
use cypheron_edge::refusal::Refusal;
use cypheron_edge::token::{KeyHash, TokenDigest};

use crate::support::bench::{Bench, SECOND, hit, settle};
use crate::support::{key, mint};

#[tokio::test(start_paused = true)]
async fn a_thousand_first_requests_for_one_key_make_one_read() {
    let bench = Bench::new();
    let (token, hash) = mint();
    bench.store.put(key(hash), &token);
    bench.store.hold();
    let waiting: Vec<_> = (0..1000).map(|_| bench.start(&token, hash)).collect();
    settle().await;
    bench.store.release();
    for request in waiting {
        assert!(request.await.unwrap().is_ok());
    }
    assert_eq!(bench.store.reads(), 1);
}

/// From as many addresses as it takes to get past the budget of each.
#[tokio::test(start_paused = true)]
async fn first_requests_for_ten_thousand_keys_are_read_within_bounds() {
    let bench = Bench::new();
    bench.follow().await;
    let (_, known, _) = bench.known().await;
    bench.store.hold();
    let requests: Vec<_> = (0..10_000_u32)
        .map(|number| {
            let client = IpAddr::V4(Ipv4Addr::from_bits(number / 100));
            let fetch =
                bench
                    .directory
                    .fetch(numbered(number), TokenDigest::of("token"), Some(client));
            tokio::spawn(fetch)
        })
        .collect();
    settle().await;
    let budget = Config::default();
    assert_eq!(bench.store.most_at_once(), budget.max_reads as u64);
    // A key that is known waits for none of them.
    assert!(hit(&bench.lookup(&known)).is_some());

    bench.store.release();
    let mut answered = 0;
    for request in requests {
        match request.await.unwrap().unwrap_err() {
            Refusal::KeyUnknown => answered += 1,
            refusal => assert_eq!(refusal, Refusal::StoreUnavailable),
        }
    }
    assert_eq!(answered, budget.max_waiting);
    assert_eq!(bench.store.reads(), 1 + answered as u64);
    assert_eq!(bench.store.most_at_once(), budget.max_reads as u64);
}

#[tokio::test(start_paused = true)]
async fn one_address_cannot_take_the_reads_of_all() {
    let bench = Bench::new();
    bench.store.hold();
    let client = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let of_one = |number| {
        let digest = TokenDigest::of("token");
        tokio::spawn(bench.directory.fetch(numbered(number), digest, client))
    };
    let requests: Vec<_> = (0..10_000).map(of_one).collect();
    settle().await;
    let (token, hash) = mint();
    bench.store.put(key(hash), &token);
    let other = bench.start(&token, hash);
    settle().await;
    bench.store.release();
    assert!(other.await.unwrap().is_ok());
    for request in requests {
        assert!(request.await.unwrap().is_err());
    }
    let budget = Config::default().max_waiting_per_address as u64;
    assert_eq!(bench.store.reads(), budget + 1);
}

/// The figure that the documents state.
#[tokio::test(start_paused = true)]
async fn a_key_in_steady_use_is_read_at_most_once_in_each_max_age() {
    const KEYS: u64 = 1000;
    const AGES: u64 = 12;
    let bench = Bench::new();
    bench.follow().await;
    let mut keys = Vec::new();
    for _ in 0..KEYS {
        keys.push(bench.known().await.1);
    }
    assert_eq!(bench.store.reads(), KEYS);
    let seconds = AGES * Config::default().max_age.as_secs();
    for _ in 0..seconds {
        bench.clock.advance(SECOND);
        for hash in &keys {
            assert!(hit(&bench.lookup(hash)).is_some(), "nobody waits for it");
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let reads = bench.store.reads() - KEYS;
    println!("{KEYS} keys in use for {AGES} times max_age: {reads} reads");
    assert!(reads <= KEYS * AGES, "{reads}");
    assert!(reads >= KEYS * (AGES - 1), "{reads}");
}

fn numbered(number: u32) -> KeyHash {
    let mut bytes = [0; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    KeyHash::from_bytes(bytes)
}
