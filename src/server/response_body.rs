//! A response body that tells when the answer has ended.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::BoxError;
use super::activity::InFlight;
use super::unasked::GiveUp;

pin_project! {
    /// In flight until it is dropped: hyper drops a body as soon as it has all of
    /// it, or wants no more.
    pub(super) struct WatchedBody<B> {
        #[pin]
        inner: Inner<B>,
        // None where the tunnel is in flight in its place.
        in_flight: Option<InFlight>,
    }
}

pin_project! {
    #[project = Projected]
    enum Inner<B> {
        // Of an answer that goes on as a tunnel.
        None,
        Alone { #[pin] body: B },
        OneOfMany { body: Rc<Shared<B>> },
    }
}

/// A body that is dropped when nobody asks for it.
struct Shared<B>(RefCell<Option<Pin<Box<B>>>>);

/// What a client is told that asks for more of it after that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nobody asked for the answer for too long")]
struct GivenUp;

impl<B> GiveUp for Shared<B> {
    fn give_up(&self) {
        let body = self.0.borrow_mut().take();
        drop(body);
    }
}

impl<B: 'static> WatchedBody<B> {
    pub(super) fn new(body: B, in_flight: InFlight) -> Self {
        let inner = if in_flight.is_one_of_many() {
            let body = Rc::new(Shared(RefCell::new(Some(Box::pin(body)))));
            // Nobody has to ask for its beginning either.
            body.wait(&in_flight);
            Inner::OneOfMany { body }
        } else {
            Inner::Alone { body }
        };
        Self {
            inner,
            in_flight: Some(in_flight),
        }
    }
}

impl<B> WatchedBody<B> {
    pub(super) const fn none(in_flight: Option<InFlight>) -> Self {
        let inner = Inner::None;
        Self { inner, in_flight }
    }
}

impl<B: 'static> Shared<B> {
    fn wait(self: &Rc<Self>, in_flight: &InFlight) {
        let this: Rc<dyn GiveUp> = Rc::<Self>::clone(self);
        in_flight.gave(Rc::downgrade(&this));
    }
}

impl<B> Shared<B>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    fn poll_frame(
        self: &Rc<Self>,
        cx: &mut Context<'_>,
        in_flight: Option<&InFlight>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if let Some(in_flight) = in_flight {
            in_flight.is_asked();
        }
        let frame = match &mut *self.0.borrow_mut() {
            Some(body) => ready!(body.as_mut().poll_frame(cx)),
            None => return Poll::Ready(Some(Err(GivenUp.into()))),
        };
        if let Some(in_flight) = in_flight {
            self.wait(in_flight);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
    }
}

impl<B> Body for WatchedBody<B>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        match this.inner.project() {
            Projected::None => Poll::Ready(None),
            Projected::Alone { body } => {
                let frame = ready!(body.poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(Into::into)))
            }
            Projected::OneOfMany { body } => body.poll_frame(cx, this.in_flight.as_ref()),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::None => true,
            Inner::Alone { body } => body.is_end_stream(),
            // What was given up did not end.
            Inner::OneOfMany { body } => {
                let body = body.0.borrow();
                body.as_ref().is_some_and(Body::is_end_stream)
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::None => SizeHint::with_exact(0),
            Inner::Alone { body } => body.size_hint(),
            Inner::OneOfMany { body } => {
                let body = body.0.borrow();
                body.as_ref().map_or_else(SizeHint::new, Body::size_hint)
            }
        }
    }
}
