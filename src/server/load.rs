//! How many connections each worker has, and who takes the next one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use metrics::{Counter, Gauge, counter, gauge};
use tokio::sync::mpsc::UnboundedSender;

use super::Raw;
use crate::telemetry::metric::{CONNECTIONS, CONNECTIONS_ACCEPTED, CONNECTIONS_CLOSED_FULL};

/// A worker keeps what it accepts up to an eighth above the mean, and this many
/// more: below that, handing on costs more than it brings.
const SLACK: usize = 4;

/// The connections of all workers.
pub(super) struct Loads {
    counts: Box<[AtomicUsize]>,
    handing: Box<[UnboundedSender<Raw>]>,
    max: usize,
    open: Gauge,
    accepted: Counter,
    closed_full: Counter,
}

impl fmt::Debug for Loads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Loads").field(&self.counts).finish()
    }
}

impl Loads {
    pub(super) fn new(handing: Vec<UnboundedSender<Raw>>, max: usize) -> Self {
        Self {
            counts: handing.iter().map(|_| AtomicUsize::new(0)).collect(),
            handing: handing.into(),
            max,
            open: gauge!(CONNECTIONS),
            accepted: counter!(CONNECTIONS_ACCEPTED),
            closed_full: counter!(CONNECTIONS_CLOSED_FULL),
        }
    }

    pub(super) fn total(&self) -> usize {
        self.counts
            .iter()
            .map(|count| count.load(Ordering::Relaxed))
            .sum()
    }

    /// Whether one more is too many, which is counted.
    pub(super) fn are_full(&self) -> bool {
        let full = self.total() >= self.max;
        if full {
            self.closed_full.increment(1);
        }
        full
    }

    /// Who should take a connection that worker `index` accepted, when that is
    /// another one.
    pub(super) fn better_than(&self, index: usize) -> Option<usize> {
        let mean = self.total() / self.counts.len();
        let load = |of: usize| self.counts[of].load(Ordering::Relaxed);
        if load(index) <= mean + mean / 8 + SLACK {
            return None;
        }
        (0..self.counts.len())
            .min_by_key(|&of| load(of))
            .filter(|&least| least != index)
    }

    /// It again when worker `to` takes nothing any more.
    pub(super) fn hand_on(&self, raw: Raw, to: usize) -> Result<(), Raw> {
        self.handing[to].send(raw).map_err(|refused| refused.0)
    }

    /// Counts a connection of worker `index` until the guard is dropped.
    pub(super) fn count(self: &Arc<Self>, index: usize) -> Counted {
        self.counts[index].fetch_add(1, Ordering::Relaxed);
        self.accepted.increment(1);
        self.open.increment(1.0);
        Counted {
            loads: Arc::clone(self),
            index,
        }
    }
}

/// A connection that counts.
#[derive(Debug)]
pub(super) struct Counted {
    loads: Arc<Loads>,
    index: usize,
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.loads.counts[self.index].fetch_sub(1, Ordering::Relaxed);
        self.loads.open.decrement(1.0);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::unbounded_channel;

    use super::*;

    fn loads(counts: &[usize], max: usize) -> Loads {
        let handing = counts.iter().map(|_| unbounded_channel().0).collect();
        let loads = Loads::new(handing, max);
        for (count, &of) in loads.counts.iter().zip(counts) {
            count.store(of, Ordering::Relaxed);
        }
        loads
    }

    #[test]
    fn only_a_worker_far_above_the_mean_hands_on_and_to_the_least_loaded() {
        for (counts, accepted_by, taker) in [
            (&[0, 0][..], 0, None),
            (&[4, 0], 0, None),
            (&[9, 0], 0, Some(1)),
            (&[9, 0], 1, None),
            (&[100, 100, 100], 1, None),
            (&[150, 100, 50], 0, Some(2)),
            (&[1000], 0, None),
        ] {
            let loads = loads(counts, 10_000);
            assert_eq!(loads.better_than(accepted_by), taker, "{counts:?}");
        }
    }

    #[test]
    fn all_workers_together_are_bounded() {
        assert!(!loads(&[3, 6], 10).are_full());
        assert!(loads(&[4, 6], 10).are_full());
    }

    #[test]
    fn a_connection_counts_until_it_is_dropped() {
        let loads = Arc::new(loads(&[0, 0], 10));
        let counted = loads.count(1);
        assert_eq!(loads.total(), 1);
        drop(counted);
        assert_eq!(loads.total(), 0);
    }
}
