//! What is to be sent, and when measuring begins and ends.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::time::Duration;

use cypheron_edge::clock::{Clock, Tick};
use tokio::sync::Notify;

use super::keys::Keys;

/// Loaded from `begins`, measured from `measured_from` until `ends`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    begins: Tick,
    measured_from: Tick,
    ends: Tick,
}

impl Window {
    pub(super) fn new(begins: Tick, warm_up: Duration, measured: Duration) -> Self {
        let measured_from = begins.saturating_add(warm_up);
        Self {
            begins,
            measured_from,
            ends: measured_from.saturating_add(measured),
        }
    }

    pub(super) const fn begins(self) -> Tick {
        self.begins
    }

    pub(super) const fn measured_from(self) -> Tick {
        self.measured_from
    }

    pub(super) const fn ends(self) -> Tick {
        self.ends
    }

    pub(super) fn measures(self, due: Tick) -> bool {
        self.measured_from <= due && due < self.ends
    }
}

/// One request to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Job {
    /// Whatever passes from here on is its latency.
    pub(super) due: Tick,
    pub(super) key: Option<usize>,
}

/// The requests that connections take theirs from.
#[derive(Debug)]
pub(super) struct Work {
    pub(super) clock: Clock,
    pub(super) window: Window,
    keys: Keys,
    random: Option<RefCell<fastrand::Rng>>,
    next_key: Cell<usize>,
    /// Of an open loop.
    due: Option<RefCell<VecDeque<Tick>>>,
    arrived: Notify,
    closed: Cell<bool>,
}

impl Work {
    pub(super) fn new(
        clock: Clock,
        window: Window,
        keys: Keys,
        random: Option<u64>,
        open: bool,
    ) -> Self {
        Self {
            clock,
            window,
            keys,
            random: random.map(|seed| RefCell::new(fastrand::Rng::with_seed(seed))),
            next_key: Cell::new(0),
            due: open.then(RefCell::default),
            arrived: Notify::new(),
            closed: Cell::new(false),
        }
    }

    pub(super) const fn distinct_keys(&self) -> usize {
        self.keys.len()
    }

    pub(super) fn token(&self, job: Job) -> Option<&str> {
        job.key.map(|key| self.keys.get(key))
    }

    /// A request of an open loop is due.
    pub(super) fn arrive(&self, due: Tick) {
        if let Some(queue) = &self.due {
            queue.borrow_mut().push_back(due);
            self.arrived.notify_one();
        }
    }

    /// Nothing more becomes due; what is due already is still sent.
    pub(super) fn close(&self) {
        self.closed.set(true);
        self.arrived.notify_waiters();
    }

    /// The next request; `None` at the end.
    pub(super) async fn next(&self) -> Option<Job> {
        let Some(queue) = &self.due else {
            let due = self.clock.tick();
            return (due < self.window.ends()).then(|| self.job(due));
        };
        loop {
            let arrived = self.arrived.notified();
            let due = queue.borrow_mut().pop_front();
            match due {
                Some(due) => return Some(self.job(due)),
                None if self.closed.get() => return None,
                None => arrived.await,
            }
        }
    }

    fn job(&self, due: Tick) -> Job {
        let count = self.keys.len();
        let key = (count > 0).then(|| match &self.random {
            Some(random) => random.borrow_mut().usize(..count),
            None => self.next_key.replace((self.next_key.get() + 1) % count),
        });
        Job { due, key }
    }
}
