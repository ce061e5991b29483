//! How many requests may be tried again: a share of all, so that an upstream
//! in trouble does not get more of it.

use std::cell::Cell;

use crate::clock::Tick;

/// What one retry costs.
const RETRY: u64 = 100;

/// As many retries may come at once.
const MOST: u64 = 10 * RETRY;

/// And as many a second whatever the traffic, where there is little.
const EACH_SECOND: u64 = RETRY;

/// One worker's, for one upstream.
#[derive(Debug)]
pub(in crate::proxy) struct RetryBudget {
    percent: u64,
    left: Cell<u64>,
    filled: Cell<Tick>,
}

impl RetryBudget {
    pub(in crate::proxy) fn new(percent: u32, now: Tick) -> Self {
        Self {
            percent: u64::from(percent),
            left: Cell::new(MOST),
            filled: Cell::new(now),
        }
    }

    /// There is one request more.
    pub(in crate::proxy) fn deposit(&self) {
        self.left.set((self.left.get() + self.percent).min(MOST));
    }

    /// Whether one may be tried again.
    pub(in crate::proxy) fn withdraw(&self, now: Tick) -> bool {
        if self.percent == 0 {
            return false;
        }
        let seconds = now.since(self.filled.get()).as_secs();
        if seconds > 0 {
            self.filled.set(now);
        }
        let filled = self.left.get() + seconds.min(MOST) * EACH_SECOND;
        let left = filled.min(MOST).checked_sub(RETRY);
        self.left.set(left.unwrap_or(filled));
        left.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick::from_nanos(seconds * 1_000_000_000)
    }

    fn granted(budget: &RetryBudget, wanted: u32, now: Tick) -> usize {
        (0..wanted).filter(|_| budget.withdraw(now)).count()
    }

    #[test]
    fn an_upstream_that_fails_everything_gets_a_share_more_and_no_storm() {
        let budget = RetryBudget::new(20, at(0));
        let retried = (0..1000)
            .filter(|_| {
                budget.deposit();
                budget.withdraw(at(0))
            })
            .count();
        // A fifth, and the ten that were saved.
        assert!((205..=212).contains(&retried), "{retried}");
    }

    #[test]
    fn where_there_is_little_traffic_one_a_second_is_granted() {
        let budget = RetryBudget::new(20, at(0));
        assert_eq!(granted(&budget, 100, at(0)), 10);
        assert_eq!(granted(&budget, 100, at(1)), 1);
        assert_eq!(granted(&budget, 100, at(4)), 3);
        assert_eq!(granted(&budget, 100, at(1000)), 10);
    }

    #[test]
    fn without_a_share_nothing_is_tried_again() {
        assert_eq!(granted(&RetryBudget::new(0, at(0)), 100, at(50)), 0);
    }
}
