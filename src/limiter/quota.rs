//! One key's quota, and the decision over its arrival time.

use std::cell::Cell;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::RateLimiter;
use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{NotKeyed, StateStore};

use super::{Burst, config::NamedBurst};
use crate::clock::Tick;

const MINUTE: u64 = 60_000_000_000;
const SECOND: u64 = 1_000_000_000;

/// Nanoseconds of the process's clock at which a key would have made its last
/// request, had it kept to its rate; one in the past is a full bucket.
pub(super) type Arrival = u64;

/// How many requests in how many seconds, for this instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Policy {
    pub requests: u32,
    /// Seconds.
    pub window: u32,
}

/// Where a key stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub policy: Policy,
    /// Requests that would be admitted now.
    pub remaining: u32,
    /// Seconds, rounded up: until the bucket is full again or, when nothing
    /// remains, until the next request would be admitted.
    pub reset: u32,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Quota {
    policy: Policy,
    /// Nanoseconds in which one request flows back.
    interval: u64,
    burst: NonZeroU32,
}

impl Quota {
    pub(super) fn new(rate_limit: NonZeroU32, burst: Burst, instances: u32) -> Self {
        let instances = instances.max(1);
        let burst = match burst {
            Burst::Requests(requests) => requests.min(rate_limit.get()),
            Burst::Named(NamedBurst::RateLimit) => rate_limit.get(),
        };
        // At most 60 s * 2^32, and at least 13 ns.
        let interval = MINUTE * u64::from(instances) / u64::from(rate_limit.get());
        let requests = (rate_limit.get() / instances).max(1);
        let window = (u64::from(requests) * interval).div_ceil(SECOND);
        Self {
            policy: Policy {
                requests,
                window: u32::try_from(window).unwrap_or(u32::MAX),
            },
            interval,
            burst: NonZeroU32::new(burst / instances).unwrap_or(NonZeroU32::MIN),
        }
    }

    /// The same rate, one request at a time.
    pub(super) const fn without_burst(self) -> Self {
        Self {
            burst: NonZeroU32::MIN,
            ..self
        }
    }

    /// The arrival time after one more request, when there is room for it.
    pub(super) fn take(&self, arrival: Arrival, now: Tick) -> Option<Arrival> {
        let quota = governor::Quota::with_period(Duration::from_nanos(self.interval))?
            .allow_burst(self.burst);
        let clock = Anchored::default();
        // governor reads its clock once here and counts from there: zero, the
        // start of the process, so that arrival times outlive this limiter.
        let limiter: RateLimiter<_, _, _, NoOpMiddleware<Nanos>> =
            RateLimiter::new(quota, Bucket(Cell::new(arrival)), clock);
        limiter.clock().0.set(now.as_nanos());
        limiter.check().ok()?;
        Some(limiter.into_state_store().0.get())
    }

    pub(super) fn standing(&self, arrival: Arrival, now: Tick) -> Standing {
        let until_full = arrival.saturating_sub(now.as_nanos());
        let spread = self.interval * u64::from(self.burst.get());
        let remaining = spread.saturating_sub(until_full) / self.interval;
        let reset = match remaining {
            0 => until_full.saturating_sub(spread - self.interval),
            _ => until_full,
        };
        Standing {
            policy: self.policy,
            remaining: u32::try_from(remaining).unwrap_or(u32::MAX),
            reset: u32::try_from(reset.div_ceil(SECOND)).unwrap_or(u32::MAX),
        }
    }
}

/// One key's state, in the hands of governor for one decision.
struct Bucket(Cell<Arrival>);

impl StateStore for Bucket {
    type Key = NotKeyed;

    fn measure_and_replace<T, F, E>(&self, _key: &NotKeyed, decide: F) -> Result<T, E>
    where
        F: Fn(Option<Nanos>) -> Result<(T, Nanos), E>,
    {
        let (outcome, next) = decide(Some(Nanos::new(self.0.get())))?;
        self.0.set(next.as_u64());
        Ok(outcome)
    }
}

/// Nanoseconds since the process started, as they were given.
#[derive(Default)]
struct Anchored(Cell<u64>);

impl Clock for Anchored {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        Nanos::new(self.0.get())
    }
}
