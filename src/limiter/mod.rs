//! How often a key may be used: GCRA, as `governor` decides it.
//!
//! A key's state is one number, its theoretical arrival time, kept under the
//! key's id and apart from cached records: a refreshed record does not refill
//! a bucket, and a changed `rate_limit` goes on from where the key stood.
//!
//! A bucket begins full, so that a key's first minute may admit up to its burst
//! and what flows in meanwhile: twice `rate_limit`, unless `burst` says less.

mod buckets;
mod config;
mod quota;

pub use config::{Burst, Config};
pub use quota::{Policy, Standing};

use std::num::NonZeroU32;

use arc_swap::ArcSwap;
use uuid::Uuid;

use crate::clock::Tick;
use buckets::Buckets;
use quota::Quota;

/// What the limiter says of one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was counted.
    Admitted(Standing),
    /// It was not counted; `standing.reset` is when to try again.
    Limited(Standing),
}

/// The limits of every key, shared by all workers.
#[derive(Debug)]
pub struct Limiter {
    config: ArcSwap<Config>,
    buckets: Buckets,
}

impl Limiter {
    pub fn new(config: Config) -> Self {
        Self {
            buckets: Buckets::new(config.max_keys),
            config: ArcSwap::from_pointee(config),
        }
    }

    /// Changes burst and instances from the next request on. `max_keys` keeps
    /// the value the limiter was made with.
    pub fn reconfigure(&self, config: Config) {
        self.config.store(config.into());
    }

    /// Counts one request of `key` when its bucket has room. `now` is a tick of
    /// the one clock of this process.
    pub fn check(&self, key: Uuid, rate_limit: NonZeroU32, now: Tick) -> Outcome {
        let quota = self.quota(rate_limit);
        self.buckets.update(key, now, |arrival, one_at_a_time| {
            let quota = if one_at_a_time {
                quota.without_burst()
            } else {
                quota
            };
            match quota.take(arrival, now) {
                Some(next) => (Outcome::Admitted(quota.standing(next, now)), next),
                None => (Outcome::Limited(quota.standing(arrival, now)), arrival),
            }
        })
    }

    /// Where `key` stands, without counting anything.
    pub fn peek(&self, key: Uuid, rate_limit: NonZeroU32, now: Tick) -> Standing {
        let (arrival, one_at_a_time) = self.buckets.read(key);
        let quota = self.quota(rate_limit);
        let quota = if one_at_a_time {
            quota.without_burst()
        } else {
            quota
        };
        quota.standing(arrival, now)
    }

    fn quota(&self, rate_limit: NonZeroU32) -> Quota {
        let config = self.config.load();
        Quota::new(rate_limit, config.burst, config.instances)
    }
}

#[cfg(test)]
mod tests;
