//! How slow a peer may be before it is given up.

use std::time::Duration;

use tokio::time::Instant;

/// What is asked of a peer that has to be waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long it may do nothing, at a time.
    pub patience: Duration,
    /// Bytes a second, over all the time that it was waited for beyond that.
    pub min_rate: u64,
}

impl Pace {
    /// Slow enough for a bad line, and too slow for somebody who means to hold on.
    pub const USUAL: Self = Self {
        patience: Duration::from_secs(20),
        min_rate: 500,
    };
}

/// How long a peer was waited for, and what it moved. Only time that it is
/// waited for counts: who has nothing to wait for it cannot call it slow.
#[derive(Clone, Copy, Debug, Default)]
pub struct Waited {
    since: Option<Instant>,
    before: Duration,
    moved: u64,
}

impl Waited {
    /// It is waited for from `now` on, unless it was already.
    pub fn begins(&mut self, now: Instant) {
        self.since.get_or_insert(now);
    }

    pub const fn is_waiting(&self) -> bool {
        self.since.is_some()
    }

    /// It moved so many bytes. `now` is only asked for when it was waited for.
    pub fn moved(&mut self, bytes: usize, now: impl FnOnce() -> Instant) {
        if let Some(since) = self.since.take() {
            self.before += now().duration_since(since);
        }
        self.moved = self.moved.saturating_add(bytes as u64);
    }

    /// Until when it is waited for; `None` while it is not.
    pub fn until(&self, pace: Pace) -> Option<Instant> {
        let since = self.since?;
        let seconds = self.moved / pace.min_rate.max(1);
        let granted = pace.patience.saturating_add(Duration::from_secs(seconds));
        let left = granted.saturating_sub(self.before).min(pace.patience);
        Some(since + left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        patience: Duration::from_secs(10),
        min_rate: 100,
    };

    /// After how long a peer is given up that moves `bytes` each `every` seconds.
    fn given_up_after(bytes: usize, every: u64) -> Option<Duration> {
        let begun = Instant::now();
        let (mut now, mut waited) = (begun, Waited::default());
        for _ in 0..1000 {
            waited.begins(now);
            let until = waited.until(PACE).unwrap();
            let next = now + Duration::from_secs(every);
            if until < next {
                return Some(until - begun);
            }
            now = next;
            waited.moved(bytes, || now);
        }
        None
    }

    #[test]
    fn a_peer_is_given_up_when_it_stands_still_or_is_too_slow_over_all() {
        for (bytes, every, after) in [
            // Nothing comes.
            (0, 3600, Some(10)),
            // Just as fast as it has to be.
            (500, 5, None),
            // A byte now and then.
            (1, 5, Some(10)),
            // Half as fast: each five seconds cost two and a half of the ten.
            (250, 5, Some(17)),
            // Fast, but it stands still for too long at a time.
            (1_000_000, 11, Some(10)),
            (1_000_000, 9, None),
        ] {
            let given_up = given_up_after(bytes, every);
            assert_eq!(
                given_up.map(|after| after.as_secs()),
                after,
                "{bytes} each {every} s"
            );
        }
    }

    #[test]
    fn time_that_nobody_waits_does_not_count() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut waited = Waited::default();
        waited.begins(at(0));
        waited.begins(at(1));
        assert_eq!(waited.until(PACE), Some(at(10)));
        waited.moved(0, || at(4));
        assert!(!waited.is_waiting());
        assert_eq!(waited.until(PACE), None);
        waited.begins(at(1000));
        assert_eq!(waited.until(PACE), Some(at(1006)));
    }
}
