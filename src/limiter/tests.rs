use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use proptest::prelude::*;
use uuid::Uuid;

use super::*;

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> Tick {
    Tick::from_nanos(seconds * SECOND)
}

fn per_minute(requests: u32) -> NonZeroU32 {
    NonZeroU32::new(requests).unwrap()
}

fn key(number: u128) -> Uuid {
    Uuid::from_u128(number)
}

fn limiter() -> Limiter {
    Limiter::new(Config::default())
}

fn admitted(limiter: &Limiter, key: Uuid, rate: u32, now: Tick) -> u32 {
    let admits = |_: &u32| {
        matches!(
            limiter.check(key, per_minute(rate), now),
            Outcome::Admitted(_)
        )
    };
    u32::try_from((0..rate * 2 + 2).take_while(admits).count()).unwrap()
}

#[test]
fn a_full_bucket_admits_the_rate_limit_at_once() {
    assert_eq!(admitted(&limiter(), key(1), 60, at(5)), 60);
}

#[test]
fn a_key_whose_first_request_comes_late_gets_no_more_than_one_that_came_early() {
    let limiter = limiter();
    assert_eq!(admitted(&limiter, key(1), 60, at(0)), 60);
    assert_eq!(admitted(&limiter, key(2), 60, at(86_400)), 60);
    assert_eq!(admitted(&limiter, key(1), 60, at(86_400)), 60);
}

#[test]
fn requests_flow_back_at_the_rate() {
    let limiter = limiter();
    admitted(&limiter, key(1), 60, at(0));
    assert_eq!(admitted(&limiter, key(1), 60, at(10)), 10);
    assert_eq!(admitted(&limiter, key(1), 60, at(10)), 0);
}

#[test]
fn keys_do_not_share_a_bucket() {
    let limiter = limiter();
    admitted(&limiter, key(1), 5, at(0));
    assert_eq!(admitted(&limiter, key(2), 5, at(0)), 5);
}

#[test]
fn a_changed_rate_limit_goes_on_from_where_the_key_stood() {
    let limiter = limiter();
    assert_eq!(admitted(&limiter, key(1), 60, at(0)), 60);
    // A minute of debt is a minute of debt at any rate.
    assert_eq!(admitted(&limiter, key(1), 600, at(0)), 0);
    assert_eq!(admitted(&limiter, key(1), 600, at(30)), 300);
}

#[test]
fn a_standing_tells_what_remains_and_when_it_is_whole_again() {
    let limiter = limiter();
    let standing = |remaining, reset| Standing {
        policy: Policy {
            requests: 3,
            window: 60,
        },
        remaining,
        reset,
    };
    let check = || limiter.check(key(1), per_minute(3), at(0));
    assert_eq!(limiter.peek(key(1), per_minute(3), at(0)), standing(3, 0));
    assert_eq!(check(), Outcome::Admitted(standing(2, 20)));
    assert_eq!(check(), Outcome::Admitted(standing(1, 40)));
    assert_eq!(limiter.peek(key(1), per_minute(3), at(0)), standing(1, 40));
    assert_eq!(check(), Outcome::Admitted(standing(0, 20)));
    assert_eq!(check(), Outcome::Limited(standing(0, 20)));
    assert_eq!(limiter.peek(key(1), per_minute(3), at(61)), standing(3, 0));
}

#[test]
fn a_burst_bounds_what_is_admitted_at_once_but_not_the_rate() {
    let limiter = Limiter::new(Config {
        burst: Burst::Requests(10),
        ..Config::default()
    });
    assert_eq!(admitted(&limiter, key(1), 60, at(0)), 10);
    assert_eq!(admitted(&limiter, key(1), 60, at(5)), 5);
    assert_eq!(
        admitted(&limiter, key(2), 4, at(0)),
        4,
        "a lower rate limit bounds it"
    );
}

#[test]
fn instances_divide_rate_and_burst() {
    let limiter = Limiter::new(Config {
        instances: 3,
        ..Config::default()
    });
    assert_eq!(admitted(&limiter, key(1), 60, at(0)), 20);
    assert_eq!(admitted(&limiter, key(1), 60, at(30)), 10);
    let Outcome::Admitted(standing) = limiter.check(key(2), per_minute(1), at(0)) else {
        panic!("a key may make one request");
    };
    let policy = Policy {
        requests: 1,
        window: 180,
    };
    assert_eq!(standing.policy, policy, "a third of one per minute");
}

#[test]
fn a_reconfigured_limiter_keeps_where_keys_stand() {
    let limiter = limiter();
    admitted(&limiter, key(1), 60, at(0));
    limiter.reconfigure(Config {
        burst: Burst::Requests(5),
        ..Config::default()
    });
    assert_eq!(admitted(&limiter, key(1), 60, at(0)), 0);
    assert_eq!(admitted(&limiter, key(1), 60, at(60)), 5);
}

#[test]
fn a_bound_that_nothing_reaches_takes_no_memory_for_it() {
    let limiter = Limiter::new(Config {
        max_keys: usize::MAX,
        ..Config::default()
    });
    assert_eq!(admitted(&limiter, key(1), 60, at(5)), 60);
}

fn crowded() -> Limiter {
    Limiter::new(Config {
        max_keys: 2,
        ..Config::default()
    })
}

#[test]
fn only_a_bucket_that_is_full_again_makes_room() {
    let limiter = crowded();
    assert_eq!(admitted(&limiter, key(1), 60, at(0)), 60);
    limiter.check(key(2), per_minute(60), at(0));
    assert_eq!(
        admitted(&limiter, key(3), 60, at(1)),
        60,
        "in place of the second"
    );
    assert_eq!(
        admitted(&limiter, key(1), 60, at(1)),
        1,
        "the first is as it was"
    );
}

#[test]
fn a_new_key_without_a_place_starts_with_one_request() {
    let limiter = crowded();
    admitted(&limiter, key(1), 60, at(0));
    admitted(&limiter, key(2), 60, at(0));
    assert_eq!(admitted(&limiter, key(3), 60, at(0)), 1);
    assert_eq!(limiter.peek(key(3), per_minute(60), at(0)).remaining, 0);
    assert_eq!(admitted(&limiter, key(3), 60, at(1)), 1);
    // Once there is a place, what it had already counts.
    assert_eq!(admitted(&limiter, key(3), 60, at(60)), 60);
    assert_eq!(admitted(&limiter, key(1), 60, at(60)), 60);
}

#[test]
fn many_threads_together_get_exactly_the_burst() {
    let limiter = limiter();
    let total = AtomicU32::new(0);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    if let Outcome::Admitted(_) = limiter.check(key(1), per_minute(1000), at(3)) {
                        total.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    assert_eq!(total.into_inner(), 1000);
}

#[test]
fn a_setting_of_zero_is_refused_by_name() {
    let config = Config {
        burst: Burst::Requests(0),
        max_keys: 0,
        instances: 0,
    };
    let mut found = Vec::new();
    config.problems("limiter", &mut found);
    let keys: Vec<_> = found.iter().map(|invalid| invalid.key.as_str()).collect();
    assert_eq!(
        keys,
        ["limiter.burst", "limiter.max_keys", "limiter.instances"]
    );
}

#[test]
fn a_burst_is_a_number_or_the_rate_limit() {
    let burst = |json: &str| serde_json::from_str::<Burst>(json);
    assert_eq!(burst("5").unwrap(), Burst::Requests(5));
    assert_eq!(burst("\"rate_limit\"").unwrap(), Burst::RATE_LIMIT);
    let error = burst("\"lots\"").unwrap_err().to_string();
    assert!(error.contains("\"rate_limit\""), "{error}");
}

proptest! {
    /// Over any stretch of time, at most the burst and what flowed back.
    #[test]
    fn no_sequence_of_requests_exceeds_the_quota(
        rate in 1_u32..5000,
        gaps in prop::collection::vec(0_u64..2 * SECOND, 1..200),
    ) {
        let limiter = limiter();
        let (mut now, mut admitted) = (0, 0_u64);
        for gap in gaps {
            now += gap;
            let outcome = limiter.check(key(1), per_minute(rate), Tick::from_nanos(now));
            admitted += u64::from(matches!(outcome, Outcome::Admitted(_)));
            let flowed = now / (60 * SECOND / u64::from(rate));
            prop_assert!(admitted <= u64::from(rate) + flowed);
        }
    }
}
