//! How long to wait before the next attempt.

use std::time::Duration;

/// A stream that the server closed, as it does now and then, is back before
/// anybody noticed.
const FIRST: Duration = Duration::from_millis(50);

/// A store that comes back is followed again within this.
const LONGEST: Duration = Duration::from_secs(5);

#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(super) const fn succeeded(&mut self) {
        self.failures = 0;
    }

    /// The wait after one more failure: doubling, and somewhere in its upper
    /// half, so that a fleet does not come back as one. `random` is uniform.
    pub(super) fn failed(&mut self, random: u32) -> Duration {
        let doubled = FIRST * 2_u32.saturating_pow(self.failures.min(16));
        self.failures = self.failures.saturating_add(1);
        let half = doubled.min(LONGEST) / 2;
        half + half.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_after_a_success() {
        let mut backoff = Backoff::default();
        let waits: Vec<_> = (0..9).map(|_| backoff.failed(u32::MAX)).collect();
        let millis = [50, 100, 200, 400, 800, 1600, 3200, 5000, 5000];
        assert_eq!(waits, millis.map(Duration::from_millis));
        backoff.succeeded();
        assert_eq!(backoff.failed(0), FIRST / 2);
    }
}
