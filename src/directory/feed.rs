//! How long what was read may be believed: pure rules over the state of the feed.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use metrics::Gauge;

use super::Config;
use crate::clock::Tick;
use crate::telemetry::metric;

/// How many past periods of a healthy feed are remembered. A record that was
/// read in an older one counts from its own read.
const PERIODS: usize = 16;

/// The feed is cut.
const CUT: u64 = u64::MAX;

/// What may be done with a cached record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Freshness {
    Fresh,
    /// It serves, and is to be read again in the background.
    Ageing,
    /// It is to be read first, and serves when the store fails.
    Stale,
    Expired,
}

/// When the feed had no gap, and the rules of ageing.
pub(super) struct Feed {
    /// Since when there has been no gap, or [`CUT`].
    since: AtomicU64,
    /// Past stretches without a gap, oldest first.
    periods: Mutex<VecDeque<(Tick, Tick)>>,
    connected: Gauge,
    ttl: Duration,
    max_age: Duration,
    max_stale: Duration,
}

impl Feed {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            since: AtomicU64::new(CUT),
            periods: Mutex::default(),
            connected: metrics::gauge!(metric::STORE_FEED_CONNECTED),
            ttl: config.ttl,
            max_age: config.max_age,
            max_stale: config.max_stale,
        }
    }

    pub(super) fn connected(&self, now: Tick) {
        self.cut(now);
        self.since.store(now.as_nanos(), Ordering::Release);
        self.connected.set(1.0);
    }

    pub(super) fn cut(&self, now: Tick) {
        self.connected.set(0.0);
        let mut periods = self.periods.lock().unwrap_or_else(PoisonError::into_inner);
        let since = self.since.swap(CUT, Ordering::AcqRel);
        if since != CUT {
            periods.push_back((Tick::from_nanos(since), now));
            if periods.len() > PERIODS {
                periods.pop_front();
            }
        }
    }

    pub(super) fn is_connected(&self) -> bool {
        self.since.load(Ordering::Acquire) != CUT
    }

    /// Of a record that was read at `read_at`. `jitter` spreads the re-reading
    /// of records that were read together.
    pub(super) fn freshness(&self, read_at: Tick, jitter: u8, now: Tick) -> Freshness {
        if self.covers(read_at) {
            let age = now.since(read_at);
            if age < self.jittered(jitter) {
                Freshness::Fresh
            } else if age < self.max_age {
                Freshness::Ageing
            } else {
                Freshness::Stale
            }
        } else {
            let age = now.since(self.confirmed(read_at));
            if age < self.ttl {
                Freshness::Fresh
            } else if age < self.ttl * 2 {
                Freshness::Ageing
            } else if age < self.max_stale {
                Freshness::Stale
            } else {
                Freshness::Expired
            }
        }
    }

    /// How long what was read at `read_at` stays fresh from `now` on.
    pub(super) fn fresh_for(&self, read_at: Tick, jitter: u8, now: Tick) -> Duration {
        let (from, fresh) = if self.covers(read_at) {
            (read_at, self.jittered(jitter))
        } else {
            (self.confirmed(read_at), self.ttl)
        };
        fresh.saturating_sub(now.since(from))
    }

    /// Of what is not a usable key, and never serves beyond being fresh.
    pub(super) fn is_fresh(&self, read_at: Tick, now: Tick) -> bool {
        self.freshness(read_at, 0, now) == Freshness::Fresh
    }

    /// Whether every write since `read_at` has been heard of.
    fn covers(&self, read_at: Tick) -> bool {
        self.since.load(Ordering::Acquire) <= read_at.as_nanos()
    }

    /// When the store last confirmed what was read at `read_at`, while the feed
    /// does not.
    #[cold]
    fn confirmed(&self, read_at: Tick) -> Tick {
        let periods = self.periods.lock().unwrap_or_else(PoisonError::into_inner);
        periods
            .iter()
            .find(|(from, to)| *from <= read_at && read_at <= *to)
            .map_or(read_at, |(_, to)| *to)
    }

    /// From 0.95 to 0.99 of `max_age`: in time to be read in the background
    /// before it would have to be waited for, and hardly more often than once
    /// in that time. Those that were read together drift apart.
    fn jittered(&self, jitter: u8) -> Duration {
        let hundredth = self.max_age / 100;
        hundredth * 95 + hundredth * 4 / 256 * u32::from(jitter)
    }
}

#[cfg(test)]
mod tests {
    use super::Freshness::{Ageing, Expired, Fresh, Stale};
    use super::*;

    fn at(seconds: u64) -> Tick {
        Tick::from_nanos(seconds * 1_000_000_000)
    }

    fn feed() -> Feed {
        Feed::new(&Config::default())
    }

    fn ages(feed: &Feed, read_at: u64, rows: &[(u64, Freshness)]) {
        for (now, expected) in rows {
            assert_eq!(feed.freshness(at(read_at), 0, at(*now)), *expected, "{now}");
        }
    }

    #[test]
    fn without_a_feed_a_record_ages_from_its_own_read() {
        let rows = [
            (129, Fresh),
            (130, Ageing),
            (159, Ageing),
            (160, Stale),
            (699, Stale),
            (700, Expired),
        ];
        ages(&feed(), 100, &rows);
    }

    #[test]
    fn a_healthy_feed_keeps_a_record_fresh_until_its_age_asks_for_a_read() {
        let feed = feed();
        feed.connected(at(50));
        let rows = [
            (384, Fresh),
            (386, Ageing),
            (399, Ageing),
            (400, Stale),
            (99_999, Stale),
        ];
        ages(&feed, 100, &rows);
    }

    #[test]
    fn the_jitter_stays_below_the_maximal_age() {
        let feed = feed();
        feed.connected(at(0));
        assert_eq!(feed.freshness(at(0), 255, at(296)), Fresh);
        assert_eq!(feed.freshness(at(0), 255, at(297)), Ageing);
    }

    #[test]
    fn a_cut_feed_confirmed_records_until_the_cut() {
        let feed = feed();
        feed.connected(at(0));
        feed.cut(at(200));
        ages(&feed, 100, &[(229, Fresh), (230, Ageing), (800, Expired)]);
    }

    #[test]
    fn a_feed_that_came_back_does_not_confirm_what_was_read_before() {
        let feed = feed();
        feed.connected(at(0));
        feed.cut(at(200));
        feed.connected(at(201));
        ages(&feed, 100, &[(229, Fresh), (230, Ageing), (260, Stale)]);
        ages(&feed, 201, &[(260, Fresh)]);
    }

    #[test]
    fn what_was_read_in_a_gap_counts_from_its_own_read() {
        let feed = feed();
        feed.connected(at(0));
        feed.cut(at(100));
        feed.connected(at(200));
        ages(&feed, 150, &[(179, Fresh), (180, Ageing), (210, Stale)]);
    }
}
