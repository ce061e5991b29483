//! Bodies that are counted, and whose end is recorded.

use std::any::Any;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::ended_by;
use super::open::Open;
use crate::context::{Severed, UpstreamFailure};
use crate::usage::event::Ended;
use crate::usage::recorder::Reservation;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

pin_project! {
    /// A request's body, counted as it is read.
    #[derive(Debug)]
    pub struct RequestBody<B> {
        #[pin]
        inner: B,
        counter: Option<Arc<AtomicU64>>,
    }
}

impl<B> RequestBody<B> {
    pub(super) fn new(inner: B, counts: bool) -> Self {
        Self {
            inner,
            counter: counts.then(Arc::default),
        }
    }

    pub(super) const fn counter(&self) -> Option<&Arc<AtomicU64>> {
        self.counter.as_ref()
    }
}

impl<B: Body<Data = Bytes>> Body for RequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.inner.poll_frame(cx));
        if let (Some(counter), Some(Ok(frame))) = (this.counter, &frame) {
            counter.fetch_add(data_length(frame), Ordering::Relaxed);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A response's body: it completes the request's record before it yields
/// what makes the response whole.
///
/// On the heap: every layer further out hands the response on by value, and so it
/// is small.
pub struct ResponseBody<B, V: Reservation>(Pin<Box<Followed<B, V>>>);

pin_project! {
    struct Followed<B, V>
    where
        V: Reservation,
    {
        #[pin]
        inner: B,
        open: Option<Open<V>>,
        // What is still to come, when that is known.
        left: Option<u64>,
    }
}

impl<B: Body, V: Reservation> ResponseBody<B, V> {
    pub(super) fn new(inner: B, open: Option<Open<V>>) -> Self {
        Self(Box::pin(Followed {
            left: inner.size_hint().exact(),
            inner,
            open,
        }))
    }
}

impl<B, V> Body for ResponseBody<B, V>
where
    B: Body<Data = Bytes, Error: 'static>,
    V: Reservation,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.0.as_mut().project();
        let frame = ready!(this.inner.as_mut().poll_frame(cx));
        let Some(open) = this.open else {
            return Poll::Ready(frame);
        };
        match &frame {
            Some(Ok(frame)) => {
                let length = data_length(frame);
                open.response_bytes += length;
                *this.left = this.left.map(|left| left.saturating_sub(length));
                if *this.left == Some(0) || frame.is_trailers() || this.inner.is_end_stream() {
                    open.end(Ended::Complete);
                }
            }
            Some(Err(error)) => {
                open.end(ended_with(error));
            }
            None => open.end(Ended::Complete),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.0.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.0.inner.size_hint()
    }
}

/// How a response ended whose body broke off with `error`, which may be boxed.
fn ended_with(error: &dyn Any) -> Ended {
    let failure = match error.downcast_ref::<BoxError>() {
        Some(boxed) if boxed.is::<Severed>() => return Ended::Revoked,
        Some(boxed) => boxed.downcast_ref::<UpstreamFailure>(),
        None => error.downcast_ref::<UpstreamFailure>(),
    };
    failure.copied().map_or(Ended::UpstreamFailed, ended_by)
}

fn data_length(frame: &Frame<Bytes>) -> u64 {
    frame.data_ref().map_or(0, |data| data.len() as u64)
}

impl<B, V: Reservation> std::fmt::Debug for ResponseBody<B, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseBody").finish_non_exhaustive()
    }
}
