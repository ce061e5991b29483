//! A brake on those whose tokens are no good, by address.
//!
//! It only stands in the way of refusals: whoever presents a good key is served,
//! whatever else came from their address, and however the brake counts.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Tick;
use crate::subscriber::Subscriber;

/// 512 KiB, whoever comes. Two addresses that share a place share what may fail
/// there, which costs the one that is no attacker a 429 in the place of a 401.
const PLACES: usize = 1 << 16;

const MINUTE: u64 = 60 * 1_000_000_000;

/// How often authentication may fail, for each address.
pub(super) struct Brake {
    /// When what has failed will be forgotten, in nanoseconds of the clock (GCRA).
    forgotten: Box<[AtomicU64]>,
    /// Nobody can choose an address for the place it has.
    hasher: RandomState,
    /// One failure is forgotten in so many nanoseconds.
    interval: u64,
}

impl Brake {
    /// `None` for no bound.
    pub(super) fn new(per_minute: u32) -> Option<Self> {
        let interval = MINUTE.checked_div(u64::from(per_minute))?;
        Some(Self {
            forgotten: (0..PLACES).map(|_| AtomicU64::new(0)).collect(),
            hasher: RandomState::new(),
            interval,
        })
    }

    /// Counts a failure from `client`; after how long one more may be, when there
    /// were too many.
    pub(super) fn fails(&self, client: IpAddr, now: Tick) -> Result<(), Duration> {
        let now = now.as_nanos();
        let counted =
            self.place(client)
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |forgotten| {
                    let next = forgotten.max(now) + self.interval;
                    (next - now <= MINUTE).then_some(next)
                });
        counted.map(drop).map_err(|forgotten| {
            let next = forgotten.max(now) + self.interval;
            Duration::from_nanos(next - now - MINUTE)
        })
    }

    fn place(&self, client: IpAddr) -> &AtomicU64 {
        let hash = self.hasher.hash_one(Subscriber::of(client));
        // why: the remainder is less than the places.
        &self.forgotten[usize::try_from(hash % PLACES as u64).unwrap_or(0)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick::from_nanos(seconds * 1_000_000_000)
    }

    #[test]
    fn so_many_may_fail_in_a_minute_and_later_as_many_as_were_forgotten() {
        let brake = Brake::new(60).unwrap();
        let fails = |client: &str, now| brake.fails(client.parse().unwrap(), at(now));
        for _ in 0..60 {
            assert_eq!(fails("2001:db8::1", 100), Ok(()));
        }
        let second = Duration::from_secs(1);
        assert_eq!(fails("2001:db8::1", 100), Err(second));
        assert_eq!(fails("2001:db8::ffff:2", 100), Err(second), "of one /64");
        assert_eq!(fails("192.0.2.1", 100), Ok(()), "somebody else");
        // What is refused is not counted: it is over as soon as that.
        assert_eq!(fails("2001:db8::1", 101), Ok(()));
        assert_eq!(fails("2001:db8::1", 101), Err(second));
        assert_eq!(
            (0..100)
                .filter(|_| fails("2001:db8::1", 500).is_ok())
                .count(),
            60
        );
    }

    #[test]
    fn no_bound_is_no_brake() {
        assert!(Brake::new(0).is_none());
        let brake = Brake::new(u32::MAX).unwrap();
        let client = "192.0.2.1".parse().unwrap();
        assert!((0..100_000).all(|_| brake.fails(client, at(1)).is_ok()));
    }
}
