//! Refusals without a known key: counted, never recorded one by one, so that
//! no flood of them can fill the journal.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use foldhash::fast::RandomState;

use super::client::network;
use crate::clock::Timestamp;
use crate::refusal::Refusal;

/// The most rows that one minute may have; what is beyond is counted in one
/// row more, without route, reason and client.
pub const ROWS_PER_MINUTE: usize = 10_000;

/// How many minutes may wait in full to be [drained](Refusals::drain); of
/// later ones only the number of refusals is kept until then.
const WAITING_MINUTES: usize = 10;

const MINUTE: i64 = 60 * 1_000_000;

/// Counts refusals of nobody in particular. Called on the request path.
pub trait RefusalCounter: Clone + 'static {
    /// `route` is `None` where none was matched.
    fn count(
        &self,
        at: Timestamp,
        route: Option<&Arc<str>>,
        refusal: Refusal,
        client: Option<IpAddr>,
    );
}

/// How often one thing was refused in one minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusalCount {
    /// The minute's beginning.
    pub minute: Timestamp,
    /// `None` in the row of what went beyond [`ROWS_PER_MINUTE`].
    pub what: Option<Refused>,
    pub count: u64,
}

/// What was refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Refused {
    pub route: Option<Arc<str>>,
    pub refusal: Refusal,
    /// The client's [network].
    pub client: Option<IpAddr>,
}

/// The counts of one process: a shard for each worker, drained by one reader.
#[derive(Clone, Debug)]
pub struct Refusals(Arc<[Arc<Shard>]>);

/// One worker's [`RefusalCounter`].
#[derive(Clone, Debug)]
pub struct RefusalTally(Arc<Shard>);

#[derive(Debug)]
struct Shard {
    rows: usize,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    current: Minute,
    finished: Vec<Minute>,
}

#[derive(Debug, Default)]
struct Minute {
    number: i64,
    rows: HashMap<Refused, u64, RandomState>,
    other: u64,
}

impl Refusals {
    /// With one [tally](Self::tally) for each of so many workers.
    pub fn new(workers: usize) -> Self {
        let workers = workers.max(1);
        let shard = || {
            Arc::new(Shard {
                rows: ROWS_PER_MINUTE / workers,
                counts: Mutex::default(),
            })
        };
        Self((0..workers).map(|_| shard()).collect())
    }

    pub fn tally(&self, worker: usize) -> RefusalTally {
        RefusalTally(Arc::clone(&self.0[worker % self.0.len()]))
    }

    /// Takes every minute that has ended. Each minute is handed out once, whole.
    pub fn drain(&self, now: Timestamp) -> Vec<RefusalCount> {
        self.take(minute_of(now))
    }

    /// Takes the minute that is still going on, too: when no more are counted.
    pub fn drain_all(&self) -> Vec<RefusalCount> {
        self.take(i64::MAX)
    }

    fn take(&self, now: i64) -> Vec<RefusalCount> {
        let mut merged: HashMap<(i64, Option<Refused>), u64, RandomState> = HashMap::default();
        for shard in &*self.0 {
            let mut counts = shard.lock();
            counts.turn(now);
            for minute in std::mem::take(&mut counts.finished) {
                for (refused, count) in minute.rows {
                    *merged.entry((minute.number, Some(refused))).or_default() += count;
                }
                if minute.other > 0 {
                    *merged.entry((minute.number, None)).or_default() += minute.other;
                }
            }
        }
        merged
            .into_iter()
            .map(|((minute, what), count)| RefusalCount {
                minute: Timestamp::from_micros(minute * MINUTE),
                what,
                count,
            })
            .collect()
    }
}

impl RefusalCounter for RefusalTally {
    fn count(
        &self,
        at: Timestamp,
        route: Option<&Arc<str>>,
        refusal: Refusal,
        client: Option<IpAddr>,
    ) {
        let refused = Refused {
            route: route.cloned(),
            refusal,
            client: client.map(network),
        };
        let mut counts = self.0.lock();
        counts.turn(minute_of(at));
        let rows = if counts.finished.len() < WAITING_MINUTES {
            self.0.rows
        } else {
            0
        };
        counts.current.count(refused, rows);
    }
}

impl Shard {
    fn lock(&self) -> MutexGuard<'_, Counts> {
        // Counts are whole at every point at which a thread could have died.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counts {
    /// Begins minute `now`, unless it has begun. Never goes back, so that a
    /// refusal that comes late counts in the minute that is going on.
    fn turn(&mut self, now: i64) {
        if now <= self.current.number {
            return;
        }
        let ended = std::mem::take(&mut self.current);
        self.current.number = now;
        if !ended.rows.is_empty() || ended.other > 0 {
            self.finished.push(ended);
        }
    }
}

impl Minute {
    fn count(&mut self, refused: Refused, rows: usize) {
        if let Some(count) = self.rows.get_mut(&refused) {
            *count += 1;
        } else if self.rows.len() < rows {
            self.rows.insert(refused, 1);
        } else {
            self.other += 1;
        }
    }
}

const fn minute_of(at: Timestamp) -> i64 {
    at.as_micros().div_euclid(MINUTE)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_micros(minute * MINUTE + 5)
    }

    fn address(number: u32) -> IpAddr {
        IpAddr::from((number << 8).to_be_bytes())
    }

    #[test]
    fn workers_counts_of_one_minute_are_one_row() {
        let refusals = Refusals::new(2);
        let route = Arc::from("orders");
        for (worker, client) in [(0, "192.0.2.1"), (1, "192.0.2.2"), (1, "198.51.100.1")] {
            let client = Some(client.parse().unwrap());
            let tally = refusals.tally(worker);
            tally.count(at(7), Some(&route), Refusal::KeyUnknown, client);
        }
        assert_eq!(refusals.drain(at(7)), []);
        let mut counts: Vec<_> = refusals.drain(at(8)).iter().map(|row| row.count).collect();
        counts.sort_unstable();
        assert_eq!(counts, [1, 2]);
        assert_eq!(refusals.drain_all(), []);
    }

    #[test]
    fn a_late_refusal_counts_in_the_minute_that_is_going_on() {
        let refusals = Refusals::new(1);
        let tally = refusals.tally(0);
        tally.count(at(1), None, Refusal::NoRoute, None);
        assert_eq!(refusals.drain(at(2)).len(), 1);
        tally.count(at(1), None, Refusal::NoRoute, None);
        assert_eq!(refusals.drain(at(2)), []);
        let rows = refusals.drain_all();
        assert_eq!(rows[0].minute, Timestamp::from_micros(2 * MINUTE));
    }

    #[test]
    fn a_flood_from_everywhere_fills_a_bounded_number_of_rows() {
        let refusals = Refusals::new(1);
        let tally = refusals.tally(0);
        for number in 0..u32::try_from(ROWS_PER_MINUTE).unwrap() + 5 {
            tally.count(at(1), None, Refusal::KeyUnknown, Some(address(number)));
        }
        let rows = refusals.drain(at(2));
        assert_eq!(rows.len(), ROWS_PER_MINUTE + 1);
        let other = rows.iter().find(|row| row.what.is_none()).unwrap();
        assert_eq!(other.count, 5);
    }

    #[test]
    fn while_nobody_drains_later_minutes_are_only_numbers() {
        let refusals = Refusals::new(1);
        let tally = refusals.tally(0);
        for minute in 0..30 {
            tally.count(at(minute), None, Refusal::KeyUnknown, Some(address(1)));
        }
        let rows = refusals.drain(at(31));
        assert_eq!(rows.iter().map(|row| row.count).sum::<u64>(), 30);
        assert_eq!(
            rows.iter().filter(|row| row.what.is_some()).count(),
            WAITING_MINUTES
        );
    }
}
