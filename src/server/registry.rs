//! The connections of one worker, to be woken when it drains.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// The connections of one worker. Nothing here crosses threads.
#[derive(Debug, Default)]
pub(super) struct Registry {
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

    /// Tells every connection, those that come later too.
    pub(super) fn drain(&self) {
        self.draining.set(true);
        let slots = self.slots.borrow();
        slots.wakers.iter().flatten().for_each(Waker::wake_by_ref);
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
    /// Whether the worker drains; when it begins to, the task is woken.
    pub(super) fn poll_draining(&self, cx: &Context<'_>) -> bool {
        if self.registry.draining.get() {
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
