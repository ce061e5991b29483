//! An answer that began before its request was all sent.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::{Broke, Connection};
use crate::proxy::BoxError;
use crate::proxy::request_body::Broken;

/// The connection of such an answer. A task sends the rest of the request, also
/// while nobody reads the answer: its client may wait with that until it has
/// said all. Dropped before the answer's end, it closes the connection.
pub(in crate::proxy) struct Early<B>(Rc<Both<B>>);

/// What the two that use the connection share.
struct Both<B> {
    /// `None` when one of them has closed it, or passed it on.
    connection: RefCell<Option<Box<Connection<B>>>>,
    /// Why the rest of the request does not come.
    broken: Cell<Option<Broken>>,
    reader: Cell<Option<Waker>>,
    sender: Cell<Option<Waker>>,
}

/// Why an answer breaks off.
#[derive(Debug, thiserror::Error)]
pub(in crate::proxy) enum Cut {
    #[error(transparent)]
    Broke(#[from] Broke),
    #[error(transparent)]
    Unsent(Broken),
}

impl<B> Early<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Begins to send the rest. A connection that has sent all, when its answer is
    /// over, too, goes to `keep`.
    pub(in crate::proxy) fn new(
        connection: Box<Connection<B>>,
        keep: impl FnOnce(Box<Connection<B>>) + 'static,
    ) -> Self {
        let both = Rc::new(Both {
            connection: RefCell::new(Some(connection)),
            broken: Cell::new(None),
            reader: Cell::new(None),
            sender: Cell::new(None),
        });
        let sending = Rc::clone(&both);
        tokio::task::spawn_local(async move {
            if let Some(connection) = poll_fn(|cx| sending.poll_send(cx)).await {
                keep(connection);
            }
        });
        Self(both)
    }
}

impl<B> Early<B> {
    pub(in crate::proxy) fn poll_frame(
        &self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Cut>>> {
        if let Some(broken) = self.0.broken.get() {
            return Poll::Ready(Some(Err(Cut::Unsent(broken))));
        }
        let mut connection = self.0.connection.borrow_mut();
        let Some(connection) = &mut *connection else {
            return Poll::Ready(None);
        };
        let frame = connection.poll_frame(cx);
        if frame.is_pending() {
            self.0.reader.set(Some(cx.waker().clone()));
        } else if connection.has_answered() {
            self.0.wake_sender();
        }
        frame.map(|frame| frame.map(|frame| frame.map_err(Cut::Broke)))
    }

    pub(in crate::proxy) fn has_answered(&self) -> bool {
        let connection = self.0.connection.borrow();
        connection.as_ref().is_none_or(|of| of.has_answered())
    }

    pub(in crate::proxy) fn size_hint(&self) -> SizeHint {
        let connection = self.0.connection.borrow();
        let hint = connection.as_ref().map(|of| of.size_hint());
        hint.unwrap_or(SizeHint::with_exact(0))
    }
}

impl<B> Drop for Early<B> {
    fn drop(&mut self) {
        if !self.has_answered() {
            self.0.connection.take();
        }
        self.0.wake_sender();
    }
}

impl<B> Both<B> {
    fn wake_sender(&self) {
        if let Some(sender) = self.sender.take() {
            sender.wake();
        }
    }
}

impl<B> Both<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Ready with the connection when both are over, or with nothing when it is
    /// closed.
    fn poll_send(&self, cx: &mut Context<'_>) -> Poll<Option<Box<Connection<B>>>> {
        let mut slot = self.connection.borrow_mut();
        let Some(connection) = &mut *slot else {
            return Poll::Ready(None);
        };
        if !connection.has_sent()
            && let Poll::Ready(Err(broken)) = connection.poll_send(cx)
        {
            self.broken.set(Some(broken));
            *slot = None;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
            return Poll::Ready(None);
        }
        if connection.has_answered() {
            if connection.has_sent() {
                return Poll::Ready(slot.take());
            }
            if connection.poll_unasked(cx).is_ready() {
                *slot = None;
                return Poll::Ready(None);
            }
        }
        self.sender.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl<B> fmt::Debug for Early<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Early").finish_non_exhaustive()
    }
}
