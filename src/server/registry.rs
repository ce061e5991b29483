//! The connections of one worker, to be woken when it drains.
//!
//! That goes in two steps. First the answers of HTTP/1 say that they are the
//! last: a client that sends a request meanwhile gets its answer, and one that
//! was told sends no more. Then what is still idle is closed. HTTP/2 has a frame
//! for both at once.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The connections of one worker. Nothing here crosses threads.
#[derive(Debug, Default)]
pub(super) struct Registry {
    leaving: Cell<bool>,
    draining: Cell<bool>,
    slots: RefCell<Slots>,
}

#[derive(Debug, Default)]
struct Slots {
    wakers: Vec<Option<Waker>>,
    free: Vec<usize>,
    /// Of whoever waits until there is no connection.
    waiting: Option<Waker>,
}

impl Slots {
    fn open(&self) -> usize {
        self.wakers.len() - self.free.len()
    }
}

impl Registry {
    pub(super) fn enter(self: &Rc<Self>) -> Registered {
        let slots = &mut *self.slots.borrow_mut();
        let slot = slots.free.pop().unwrap_or_else(|| {
            slots.wakers.push(None);
            slots.wakers.len() - 1
        });
        Registered {
            registry: Rc::clone(self),
            slot,
        }
    }

    /// Begins the first step, for connections that come later too.
    pub(super) fn leave(&self) {
        self.leaving.set(true);
        self.wake();
    }

    /// Begins the second step.
    pub(super) fn drain(&self) {
        self.draining.set(true);
        self.wake();
    }

    fn wake(&self) {
        let slots = self.slots.borrow();
        slots.wakers.iter().flatten().for_each(Waker::wake_by_ref);
    }

    /// Whether an answer is the last of its connection.
    pub(super) const fn is_leaving(&self) -> bool {
        self.leaving.get()
    }

    pub(super) fn open(&self) -> usize {
        self.slots.borrow().open()
    }

    /// Waits until there is no connection.
    pub(super) async fn emptied(&self) {
        poll_fn(|cx| {
            let slots = &mut *self.slots.borrow_mut();
            if slots.open() == 0 {
                return Poll::Ready(());
            }
            slots.waiting = Some(cx.waker().clone());
            Poll::Pending
        })
        .await;
    }
}

/// One connection.
#[derive(Debug)]
pub(super) struct Registered {
    registry: Rc<Registry>,
    slot: usize,
}

impl Registered {
    pub(super) const fn registry(&self) -> &Rc<Registry> {
        &self.registry
    }

    /// Whether a connection is to be closed that has `last_answers`, or tells its
    /// client otherwise; when that changes, the task is woken.
    pub(super) fn poll_closing(&self, cx: &Context<'_>, last_answers: bool) -> bool {
        let registry = &self.registry;
        if registry.draining.get() || registry.leaving.get() && !last_answers {
            return true;
        }
        let slots = &mut *self.registry.slots.borrow_mut();
        match &mut slots.wakers[self.slot] {
            Some(waker) => waker.clone_from(cx.waker()),
            empty => *empty = Some(cx.waker().clone()),
        }
        false
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        let slots = &mut *self.registry.slots.borrow_mut();
        slots.wakers[self.slot] = None;
        slots.free.push(self.slot);
        if slots.open() == 0
            && let Some(waiting) = slots.waiting.take()
        {
            waiting.wake();
        }
    }
}
