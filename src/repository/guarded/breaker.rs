//! When a store counts as failing: pure rules.

use std::time::Duration;

use crate::clock::Tick;

/// So many calls that fail one after the other are no accident, whatever
/// succeeded since they began.
const FAILURES: u32 = 3;

/// The first probe comes this soon, at the latest: a fault that has passed
/// should not outlive itself.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// Which time the store began to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Opening(u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed {
        /// In a row.
        failures: u32,
    },
    Open,
}

/// Closed, everything is asked of the store; open, nothing but probes, one at
/// a time. Whatever succeeds closes it.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    last_success: Option<Tick>,
    openings: u64,
}

impl Breaker {
    pub(super) const fn new() -> Self {
        Self {
            state: State::Closed { failures: 0 },
            last_success: None,
            openings: 0,
        }
    }

    /// A call succeeded, late or not. Whether that ended an opening.
    pub(super) fn succeeded(&mut self, now: Tick) -> bool {
        self.last_success = Some(now);
        let before = std::mem::replace(&mut self.state, State::Closed { failures: 0 });
        before == State::Open
    }

    /// A call that began at `began` failed, or has taken too long. The opening
    /// that begins with that, if one does: a store that answered others since
    /// is not down for one failure.
    pub(super) fn failed(&mut self, began: Tick) -> Option<Opening> {
        let State::Closed { failures } = self.state else {
            return None;
        };
        let answers = self.last_success.is_some_and(|success| success > began);
        if answers && failures + 1 < FAILURES {
            self.state = State::Closed {
                failures: failures + 1,
            };
            return None;
        }
        self.state = State::Open;
        self.openings += 1;
        Some(Opening(self.openings))
    }

    /// Whether it is still the same opening.
    pub(super) fn is_open_since(&self, opening: Opening) -> bool {
        self.state == State::Open && opening == Opening(self.openings)
    }
}

/// How long to wait before the probe with this number, from 0: twice as long
/// each time, up to `longest`, and shorter by up to a half, so that the edges
/// of a fleet do not come back as one.
pub(super) fn pause(probe: u32, longest: Duration, random: u32) -> Duration {
    let whole = FIRST_PAUSE
        .saturating_mul(1_u32.checked_shl(probe).unwrap_or(u32::MAX))
        .min(longest);
    jittered(whole, random)
}

/// From a half of `whole` to all of it.
pub(super) fn jittered(whole: Duration, random: u32) -> Duration {
    whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Tick {
        Tick::from_nanos(millis * 1_000_000)
    }

    /// Calls that ended in this order: when each began, and when it succeeded.
    fn opened_after(calls: &[(u64, Option<u64>)]) -> Option<usize> {
        let mut breaker = Breaker::new();
        calls.iter().position(|(began, succeeded)| {
            if let Some(success) = succeeded {
                breaker.succeeded(at(*success));
                return false;
            }
            breaker.failed(at(*began)).is_some()
        })
    }

    #[test]
    fn it_opens_at_once_when_nothing_else_succeeds_and_else_at_the_third_in_a_row() {
        for (calls, opens) in [
            (vec![(0, None)], Some(0)),
            (vec![(0, Some(5)), (10, None)], Some(1)),
            (vec![(10, Some(10)), (10, None)], Some(1)),
            // While it waited, others were answered.
            (vec![(1, Some(5)), (2, Some(400)), (3, None)], None),
            (vec![(9, Some(9)), (1, None), (2, None), (3, None)], Some(3)),
            (
                vec![(9, Some(9)), (1, None), (2, None), (3, Some(10)), (4, None)],
                None,
            ),
        ] {
            assert_eq!(opened_after(&calls), opens, "{calls:?}");
        }
    }

    #[test]
    fn it_opens_once_and_whatever_succeeds_closes_it() {
        let mut breaker = Breaker::new();
        let first = breaker.failed(at(1)).unwrap();
        assert_eq!(breaker.failed(at(1)), None);
        assert!(breaker.is_open_since(first));
        assert!(breaker.succeeded(at(2)));
        assert!(!breaker.is_open_since(first));
        assert!(!breaker.succeeded(at(3)));
        let second = breaker.failed(at(4)).unwrap();
        assert!(!breaker.is_open_since(first), "it is another one");
        assert!(breaker.is_open_since(second));
    }

    #[test]
    fn the_pauses_double_up_to_the_longest_and_are_jittered() {
        let longest = Duration::from_secs(2);
        let whole = [0, 1, 2, 3, 4, 5, 40].map(|probe| pause(probe, longest, u32::MAX));
        let millis = [100, 200, 400, 800, 1600, 2000, 2000].map(Duration::from_millis);
        assert_eq!(whole, millis);
        assert_eq!(pause(5, longest, 0), Duration::from_secs(1));
        assert_eq!(pause(0, longest, u32::MAX / 2 + 1).as_millis(), 75);
    }
}
