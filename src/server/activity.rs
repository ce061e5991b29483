//! What a connection is doing, and until when it may.

use std::cell::Cell;
use std::fmt;
use std::rc::{Rc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::unasked::{GiveUp, Unasked};
use crate::clock;
use crate::pace::{Pace, Waited};

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
/// The clock is read when a phase begins that lasts, and timers are set only
/// when one would be due sooner than the one that is set already: an ordinary
/// request sets none.
#[derive(Debug)]
pub(super) struct Activity {
    /// HTTP/2: requests share the connection, and bytes need not be of one.
    multiplexed: bool,
    phase: Cell<Phase>,
    since: Cell<Instant>,
    /// The head that began since the last look at what is due. Most are whole
    /// before the next one, and need no clock.
    head_begins: Cell<bool>,
    /// How long the peer took no more of what is written.
    blocked: Cell<Waited>,
    settled: Cell<bool>,
    /// When it is old; of HTTP/2, until its client was told.
    retires: Cell<Option<Instant>>,
    /// Requests that are not yet answered to the end.
    open: Cell<usize>,
    /// Of those, answers that had more and were not asked for it since.
    unasked: Unasked,
    /// Requests so far, and those that the client gave up before an answer.
    begun: Cell<usize>,
    abandoned: Cell<usize>,
}

/// One request, until its answer has ended or nobody waits for it.
pub(super) struct InFlight {
    activity: Rc<Activity>,
    answered: bool,
    /// Which of the connection's requests it is.
    number: usize,
}

impl InFlight {
    pub(super) const fn answered(mut self) -> Self {
        self.answered = true;
        self
    }

    /// Whether the connection is as old as it may get.
    pub(super) fn is_of_an_old_connection(&self) -> bool {
        let retires = self.activity.retires.get();
        retires.is_some_and(|at| at <= Instant::now())
    }

    /// Whether an answer that nobody asks for has to be given up on its own: of
    /// HTTP/1, the socket says whether anybody listens.
    pub(super) fn is_one_of_many(&self) -> bool {
        self.activity.multiplexed
    }

    /// More of the answer is asked for.
    pub(super) fn is_asked(&self) {
        if self.is_one_of_many() {
            self.activity.unasked.remove(self.number);
        }
    }

    /// What was asked for is there; `answer` has more.
    pub(super) fn gave(&self, answer: Weak<dyn GiveUp>) {
        self.activity.unasked.push(self.number, answer);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.is_asked();
        self.activity.request_ended(self.answered);
    }
}

impl fmt::Debug for InFlight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InFlight")
            .field("number", &self.number)
            .field("answered", &self.answered)
            .finish_non_exhaustive()
    }
}

/// What is due when a time is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Overdue {
    Idle,
    Head,
    Write,
    /// The connection is old, and goes on until what it has is answered.
    Age,
    /// One of many.
    Answer,
}

/// So many requests may be given up on one connection, whatever else it does.
const ABANDONED: usize = 100;

/// How long the phases may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) first_byte: Duration,
    pub(super) header: Duration,
    pub(super) idle: Duration,
    /// What is asked of a client that takes its answer.
    pub(super) taking: Pace,
}

impl Activity {
    pub(super) fn new(multiplexed: bool, retires: Option<Instant>) -> Rc<Self> {
        Rc::new(Self {
            multiplexed,
            phase: Cell::new(Phase::Fresh),
            since: Cell::new(Instant::now()),
            head_begins: Cell::new(false),
            blocked: Cell::default(),
            settled: Cell::new(true),
            retires: Cell::new(retires),
            open: Cell::new(0),
            unasked: Unasked::default(),
            begun: Cell::new(0),
            abandoned: Cell::new(0),
        })
    }

    pub(super) fn bytes_were_read(&self) {
        if !self.multiplexed && matches!(self.phase.get(), Phase::Fresh | Phase::Idle) {
            self.phase.set(Phase::Head);
            self.head_begins.set(true);
        }
    }

    pub(super) const fn is_multiplexed(&self) -> bool {
        self.multiplexed
    }

    /// Whether every answer of the service is out: what is written now is
    /// hyper's own.
    pub(super) fn is_settled(&self) -> bool {
        !self.multiplexed && self.settled.get()
    }

    pub(super) fn everything_was_written(&self) {
        self.settled.set(self.phase.get() != Phase::Busy);
    }

    pub(super) fn request_begins(self: &Rc<Self>) -> InFlight {
        self.settled.set(false);
        self.phase.set(Phase::Busy);
        if self.open.get() == 0 {
            self.blocked.set(Waited::default());
        }
        self.open.set(self.open.get() + 1);
        self.begun.set(self.begun.get() + 1);
        InFlight {
            activity: Rc::clone(self),
            answered: false,
            number: self.begun.get(),
        }
    }

    fn request_ended(&self, answered: bool) {
        self.open.set(self.open.get() - 1);
        if !answered {
            self.abandoned.set(self.abandoned.get() + 1);
        }
        if self.open.get() == 0 {
            self.phase.set(Phase::Idle);
        }
        self.since.set(clock::instant());
    }

    /// Gives up the answers that were not asked for within `idle`, whatever else
    /// the connection does. Whether its client took any other meanwhile.
    pub(super) fn give_up_unasked(&self, idle: Duration) -> bool {
        let Some(before) = Instant::now().checked_sub(idle) else {
            return true;
        };
        self.unasked.give_up(before);
        !self.has_only_given_up() || self.since.get() > before
    }

    fn has_only_given_up(&self) -> bool {
        self.unasked.given_up() == self.open.get()
    }

    pub(super) fn has_served(&self) -> bool {
        self.begun.get() > 0
    }

    /// Whether the client begins requests only to give them up.
    pub(super) fn is_flooded(&self) -> bool {
        let abandoned = self.abandoned.get();
        abandoned > ABANDONED && abandoned > self.begun.get() / 2
    }

    pub(super) fn write_is_blocked(&self) {
        let mut blocked = self.blocked.get();
        if !blocked.is_waiting() {
            blocked.begins(Instant::now());
            self.blocked.set(blocked);
        }
    }

    pub(super) fn bytes_were_written(&self, count: usize) {
        let mut blocked = self.blocked.get();
        blocked.moved(count, Instant::now);
        self.blocked.set(blocked);
    }

    /// The client was told that the connection is old.
    pub(super) fn is_retired(&self) {
        self.retires.set(None);
    }

    /// What is due next, and when. Clients of HTTP/1 are told by an answer.
    pub(super) fn due(&self, limits: &Limits) -> Option<(Instant, Overdue)> {
        let due = self.due_of_phase(limits);
        match self.retires.get() {
            Some(at) if self.multiplexed && due.is_none_or(|(first, _)| at < first) => {
                Some((at, Overdue::Age))
            }
            _ => due,
        }
    }

    fn due_of_phase(&self, limits: &Limits) -> Option<(Instant, Overdue)> {
        if let Some(until) = self.blocked.get().until(limits.taking) {
            return Some((until, Overdue::Write));
        }
        let phase = self.phase.get();
        if phase == Phase::Head && self.head_begins.take() {
            self.since.set(Instant::now());
        }
        let since = self.since.get();
        match phase {
            Phase::Fresh => Some((since + limits.first_byte, Overdue::Idle)),
            Phase::Idle => Some((since + limits.idle, Overdue::Idle)),
            Phase::Head => Some((since + limits.header, Overdue::Head)),
            Phase::Busy => {
                let idle = || self.has_only_given_up().then_some(since);
                let since = self.unasked.since().or_else(idle)?;
                Some((since + limits.idle, Overdue::Answer))
            }
        }
    }
}
