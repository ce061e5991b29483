//! Which events have a place among the others, and which are put aside.

use std::collections::BTreeSet;
use std::time::Duration;

use super::rows::{Aside, is_storable};
use crate::clock::Timestamp;
use crate::usage::event::UsageEvent;

const DAY: i64 = 24 * 3600 * 1_000_000;

/// What clocks that are nearly right may be ahead.
const AHEAD: Duration = Duration::from_hours(24);

/// Why an event is in quarantine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reason {
    TooOld,
    TooNew,
    Unstorable,
}

impl Reason {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::TooOld => "too_old",
            Self::TooNew => "too_new",
            Self::Unstorable => "unstorable",
        }
    }
}

/// The times that have a place among the others.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    earliest: Timestamp,
    latest: Timestamp,
}

impl Bounds {
    /// `horizon` is the day before which days were dropped.
    pub(super) fn new(now: Timestamp, retention: Duration, horizon: Timestamp) -> Self {
        let retained = now.saturating_sub(retention);
        Self {
            earliest: retained.max(horizon).max(Timestamp::EPOCH),
            latest: now.saturating_add(AHEAD),
        }
    }

    fn refuses(self, event: &UsageEvent) -> Option<Reason> {
        if event.occurred_at < self.earliest {
            Some(Reason::TooOld)
        } else if event.occurred_at > self.latest {
            Some(Reason::TooNew)
        } else if !is_storable(event) {
            Some(Reason::Unstorable)
        } else {
            None
        }
    }
}

/// The events of a batch, sorted into those to store and those to put aside.
#[derive(Debug, Default)]
pub(super) struct Sorted<'a> {
    pub(super) store: Vec<&'a UsageEvent>,
    pub(super) aside: Vec<Aside<'a>>,
}

impl<'a> Sorted<'a> {
    pub(super) fn new(events: &'a [UsageEvent], bounds: Bounds) -> Self {
        let mut sorted = Self::default();
        for event in events {
            match bounds.refuses(event) {
                None => sorted.store.push(event),
                Some(reason) => sorted.aside.push((event, reason)),
            }
        }
        sorted
    }

    /// The days of what is to be stored, counted from 1970.
    pub(super) fn days(&self) -> BTreeSet<i32> {
        self.store
            .iter()
            .filter_map(|event| day_of(event.occurred_at))
            .collect()
    }
}

/// Counted from 1970; `None` beyond what a day's number can be.
pub(super) fn day_of(at: Timestamp) -> Option<i32> {
    i32::try_from(at.as_micros().div_euclid(DAY)).ok()
}
