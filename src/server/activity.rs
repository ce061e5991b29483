//! What a connection is doing, and until when it may.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::Instant;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Before the first byte.
    Fresh,
    /// Between requests.
    Idle,
    /// In the head of a request.
    Head,
    /// From the end of a head to the end of the answer: not ours to time.
    Busy,
}

/// Shared by the parts of one connection, which tell it what happens.
///
/// The clock is read when a phase begins, and timers are set only when one
/// would be due sooner than the one that is set already: an ordinary request
/// sets none.
#[derive(Debug)]
pub(super) struct Activity {
    phase: Cell<Phase>,
    since: Cell<Instant>,
    /// Since when the peer takes no more of what is written.
    blocked: Cell<Option<Instant>>,
    settled: Cell<bool>,
}

/// What is due when a time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    Idle,
    Head,
    Write,
}

/// How long the phases may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) first_byte: Duration,
    pub(super) header: Duration,
    pub(super) idle: Duration,
}

impl Activity {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            phase: Cell::new(Phase::Fresh),
            since: Cell::new(Instant::now()),
            blocked: Cell::new(None),
            settled: Cell::new(true),
        })
    }

    pub(super) fn bytes_were_read(&self) {
        if matches!(self.phase.get(), Phase::Fresh | Phase::Idle) {
            self.enter(Phase::Head);
        }
    }

    /// Whether every answer of the service is out: what is written now is
    /// hyper's own.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.get()
    }

    pub(super) fn everything_was_written(&self) {
        self.settled.set(self.phase.get() != Phase::Busy);
    }

    pub(super) fn request_begins(&self) {
        self.settled.set(false);
        self.phase.set(Phase::Busy);
    }

    pub(super) fn answer_ended(&self) {
        self.enter(Phase::Idle);
    }

    pub(super) fn write_is_blocked(&self) {
        if self.blocked.get().is_none() {
            self.blocked.set(Some(Instant::now()));
        }
    }

    pub(super) fn bytes_were_written(&self) {
        self.blocked.set(None);
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.since.set(Instant::now());
    }

    /// What is due next, and when.
    pub(super) fn due(&self, limits: Limits) -> Option<(Instant, Overdue)> {
        if let Some(blocked) = self.blocked.get() {
            return Some((blocked + limits.idle, Overdue::Write));
        }
        let since = self.since.get();
        match self.phase.get() {
            Phase::Fresh => Some((since + limits.first_byte, Overdue::Idle)),
            Phase::Idle => Some((since + limits.idle, Overdue::Idle)),
            Phase::Head => Some((since + limits.header, Overdue::Head)),
            Phase::Busy => None,
        }
    }
}
