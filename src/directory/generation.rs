//! Tokens of a generation that is not held.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::{Directory, Reload};
use crate::clock::{Now, Tick};
use crate::refusal::Refusal;

/// Between two looks for a keyring that holds it. A forger can write any
/// generation into a token, and costs one read of the keyring in this time.
const PAUSE: Duration = Duration::from_secs(5);

/// When it was last looked for; zero is never.
#[derive(Debug, Default)]
pub(super) struct Looks {
    began_at: AtomicU64,
    ended_at: AtomicU64,
}

impl Looks {
    /// Whether it is time for a look; one caller in [`PAUSE`] is told so.
    fn begin(&self, now: Tick) -> bool {
        let last = self.began_at.load(Ordering::Relaxed);
        let now = now.as_nanos().max(1);
        !is_recent(last, now)
            && self
                .began_at
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }

    fn end(&self, now: Tick) {
        let now = now.as_nanos().max(1);
        self.ended_at.store(now, Ordering::Release);
    }

    fn ended_recently(&self, now: Tick) -> bool {
        is_recent(self.ended_at.load(Ordering::Acquire), now.as_nanos())
    }
}

fn is_recent(then: u64, now: u64) -> bool {
    then != 0 && Tick::from_nanos(now).since(Tick::from_nanos(then)) < PAUSE
}

impl Directory {
    /// What to say to a token of a generation that is not held. Never waits.
    ///
    /// While the feed is healthy, a new keyring is told of, and there is no such
    /// generation. While it is cut, the keyring is loaded again.
    pub fn generation_not_held(&self, now: Now) -> Refusal {
        let looks = &self.0.looks;
        if self.is_connected() || looks.ended_recently(now.tick) {
            return Refusal::KeyUnknown;
        }
        if !self.is_store_failing() && looks.begin(now.tick) {
            let directory = self.clone();
            self.0.background.spawn(async move {
                directory.0.opener.reload(Reload::Lacking).await;
                directory.0.looks.end(directory.0.clock.tick());
            });
        }
        Refusal::StoreUnavailable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_caller_in_five_seconds_looks() {
        let at = |millis: u64| Tick::from_nanos(millis * 1_000_000);
        let looks = Looks::default();
        let told: Vec<_> = [0, 0, 4999, 5000, 5001, 10_000]
            .into_iter()
            .filter(|millis| looks.begin(at(*millis)))
            .collect();
        assert_eq!(told, [0, 5001], "{told:?}");
        assert!(!looks.ended_recently(at(1)));
        looks.end(at(2000));
        assert!(looks.ended_recently(at(6999)));
        assert!(!looks.ended_recently(at(7000)));
    }
}
