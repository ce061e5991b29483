//! A response body that tells when the answer has ended.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::activity::InFlight;

pin_project! {
    /// In flight until it is dropped: hyper drops a body as soon as it has all of
    /// it, or wants no more.
    pub(super) struct WatchedBody<B> {
        // None for an answer that goes on as a tunnel.
        #[pin]
        inner: Option<B>,
        // None where the tunnel is in flight in its place.
        in_flight: Option<InFlight>,
    }
}

impl<B> WatchedBody<B> {
    pub(super) const fn new(inner: B, in_flight: InFlight) -> Self {
        Self {
            inner: Some(inner),
            in_flight: Some(in_flight),
        }
    }

    pub(super) const fn none(in_flight: Option<InFlight>) -> Self {
        Self {
            inner: None,
            in_flight,
        }
    }
}

impl<B: Body<Data = Bytes>> Body for WatchedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if let Some(in_flight) = this.in_flight {
            in_flight.is_asked();
        }
        let polled = match this.inner.as_pin_mut() {
            Some(inner) => inner.poll_frame(cx),
            None => Poll::Ready(None),
        };
        if polled.is_ready()
            && let Some(in_flight) = this.in_flight
        {
            in_flight.gave();
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(B::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let none = || SizeHint::with_exact(0);
        self.inner.as_ref().map_or_else(none, B::size_hint)
    }
}
