//! The arrival times of all keys, bounded.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use foldhash::fast::FixedState;
use metrics::{Counter, counter};
use uuid::Uuid;

use super::quota::Arrival;
use crate::clock::Tick;
use crate::telemetry::metric;

/// At least. Few, so that their heads stay in the cache. Not a power of two, lest a
/// million keys fill tables that are just to half.
const SHARDS: usize = 80;
/// Of a shard, or there are more of them: sweeping one takes some tens of
/// microseconds, and letting it grow one or two hundred.
const MOST_KEYS: usize = 12_500;
/// For a hundred million keys and more: they are made at start, whoever comes.
const MOST_SHARDS: usize = 8_000;
/// Below this many keys one shard is quick to sweep.
const ONE_SHARD: usize = 4096;
/// Keys without a bucket of their own share these.
const SHARED: usize = 32;

/// Arrival times by key id.
///
/// A bucket that is full again is as good as none, so only such ones are
/// evicted. Where `max_keys` others leave no place, a new key shares an arrival
/// time with every other such key that falls into the same slot, and is judged
/// without a burst: it starts with one request and never gets more than its rate.
pub(super) struct Buckets {
    shards: Box<[Line<Mutex<Shard>>]>,
    /// For each shard. Keys do not fall evenly, hence an eighth more than its
    /// share when there are several.
    capacity: usize,
    crowded: Counter,
}

/// Begins where a cache line does, so that two workers' locks share none.
#[repr(align(64))]
struct Line<T>(T);

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
const _: () = assert!(size_of::<Line<Mutex<Shard>>>() == 64);

struct Shard {
    arrivals: HashMap<Uuid, Arrival, FixedState>,
    // Hardly ever looked at: a shard and its lock are one cache line.
    shared: Box<[Arrival; SHARED]>,
    /// No bucket was full again before this, when last swept.
    next_full: Arrival,
}

impl Buckets {
    pub(super) fn new(max_keys: usize) -> Self {
        let (shards, capacity) = if max_keys <= ONE_SHARD {
            (1, max_keys)
        } else {
            let shards = max_keys.div_ceil(MOST_KEYS).clamp(SHARDS, MOST_SHARDS);
            (shards, max_keys.div_ceil(shards) * 9 / 8)
        };
        Self {
            shards: (0..shards)
                .map(|_| Line(Mutex::new(Shard::new())))
                .collect(),
            capacity,
            crowded: counter!(metric::LIMITER_CROWDED),
        }
    }

    /// Lets `decide` replace the key's arrival time, of which it is told
    /// whether it is one that is shared and has no burst.
    pub(super) fn update<T>(
        &self,
        key: Uuid,
        now: Tick,
        decide: impl FnOnce(Arrival, bool) -> (T, Arrival),
    ) -> T {
        let mut guard = self.shard(key);
        let shard = &mut *guard;
        if let Some(arrival) = shard.arrivals.get_mut(&key) {
            let (outcome, next) = decide(*arrival, false);
            *arrival = next;
            return outcome;
        }
        let common = &mut shard.shared[slot(key)];
        let has_place = shard.arrivals.len() < self.capacity
            || sweep(&mut shard.arrivals, &mut shard.next_full, now.as_nanos());
        let (outcome, next) = decide(*common, !has_place);
        if has_place {
            shard.arrivals.insert(key, next);
        } else {
            *common = next;
            self.crowded.increment(1);
        }
        outcome
    }

    /// The key's arrival time, and whether it is one that is shared.
    pub(super) fn read(&self, key: Uuid) -> (Arrival, bool) {
        let shard = self.shard(key);
        match shard.arrivals.get(&key) {
            Some(arrival) => (*arrival, false),
            None => (
                shard.shared[slot(key)],
                shard.arrivals.len() >= self.capacity,
            ),
        }
    }

    fn shard(&self, key: Uuid) -> MutexGuard<'_, Shard> {
        let [.., a, b, c, d] = *key.as_bytes();
        let random = u32::from_le_bytes([d, c, b, a]) as usize;
        let Line(shard) = &self.shards[random % self.shards.len()];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shard {
    fn new() -> Self {
        Self {
            arrivals: HashMap::default(),
            shared: Box::new([0; SHARED]),
            next_full: 0,
        }
    }
}

/// Evicts what is full again; whether that made room. Costs nothing until the
/// first of those that were left is full again.
fn sweep(
    arrivals: &mut HashMap<Uuid, Arrival, FixedState>,
    next_full: &mut Arrival,
    now: u64,
) -> bool {
    if now < *next_full {
        return false;
    }
    let before = arrivals.len();
    let mut earliest = u64::MAX;
    arrivals.retain(|_, arrival| {
        let kept = *arrival > now;
        if kept {
            earliest = earliest.min(*arrival);
        }
        kept
    });
    // Until something was evicted none joins, and arrival times only grow.
    *next_full = if arrivals.len() < before { 0 } else { earliest };
    arrivals.len() < before
}

/// The random bits of a UUIDv7 are its last.
fn slot(key: Uuid) -> usize {
    usize::from(key.as_bytes()[14]) % SHARED
}

impl fmt::Debug for Buckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buckets")
            .field("capacity", &self.capacity)
            .finish_non_exhaustive()
    }
}
