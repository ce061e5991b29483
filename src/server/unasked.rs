//! Answers that have more, and are not asked for it.
//!
//! Over HTTP/2 a client opens a window for each answer. One that stays shut keeps
//! the answer's upstream waiting, and hyper does not ask the body again: neither
//! the route's time nor the loss of a right would end it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::fmt;
use std::rc::Weak;

use tokio::time::Instant;

/// An answer that can be given up from outside.
pub(super) trait GiveUp {
    /// Lets go of all that it holds. Whoever asks for more is told.
    fn give_up(&self);
}

/// The answers of one connection that wait for their client.
#[derive(Default)]
pub(super) struct Unasked {
    /// The longest first.
    waiting: RefCell<VecDeque<Waiting>>,
    /// Those that nobody asked for since.
    given_up: RefCell<Vec<usize>>,
}

struct Waiting {
    number: usize,
    since: Instant,
    answer: Weak<dyn GiveUp>,
}

impl Unasked {
    pub(super) fn push(&self, number: usize, answer: Weak<dyn GiveUp>) {
        self.waiting.borrow_mut().push_back(Waiting {
            number,
            since: Instant::now(),
            answer,
        });
    }

    pub(super) fn remove(&self, number: usize) {
        let waiting = &mut *self.waiting.borrow_mut();
        if let Some(at) = waiting.iter().position(|one| one.number == number) {
            waiting.remove(at);
        }
        self.given_up.borrow_mut().retain(|one| *one != number);
    }

    /// Since when the one waits that waits longest.
    pub(super) fn since(&self) -> Option<Instant> {
        self.waiting.borrow().front().map(|waiting| waiting.since)
    }

    /// Gives up those that wait since `before`, or longer.
    pub(super) fn give_up(&self, before: Instant) {
        while let Some(waiting) = self.pop(before) {
            self.given_up.borrow_mut().push(waiting.number);
            if let Some(answer) = waiting.answer.upgrade() {
                answer.give_up();
            }
        }
    }

    /// How many of the answers were given up.
    pub(super) fn given_up(&self) -> usize {
        self.given_up.borrow().len()
    }

    fn pop(&self, before: Instant) -> Option<Waiting> {
        let waiting = &mut *self.waiting.borrow_mut();
        waiting.pop_front_if(|longest| longest.since <= before)
    }
}

impl fmt::Debug for Unasked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.waiting.borrow().iter().map(|waiting| waiting.number))
            .finish()
    }
}
