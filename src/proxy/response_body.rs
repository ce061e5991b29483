//! A response body on its way to a client.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Extensions;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::BoxError;
use super::fields::scrub_response_trailers;
use super::pool::{Engaged, Sender};
use super::tunnel::{Fault, TunnelBody};
use crate::context::{RequestContext, UpstreamFailure};

/// Where the bytes come from.
#[derive(Debug)]
pub(super) enum Source {
    Answer(Incoming),
    Tunnel(Box<TunnelBody>),
}

impl From<Incoming> for Source {
    fn from(answer: Incoming) -> Self {
        Self::Answer(answer)
    }
}

impl From<TunnelBody> for Source {
    fn from(tunnel: TunnelBody) -> Self {
        Self::Tunnel(Box::new(tunnel))
    }
}

impl Source {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self {
            Self::Answer(answer) => {
                let frame = ready!(Pin::new(answer).poll_frame(cx));
                let fault = |error: hyper::Error| (UpstreamFailure::Failed, error.into());
                Poll::Ready(frame.map(|frame| frame.map_err(fault)))
            }
            Self::Tunnel(tunnel) => {
                let data = ready!(tunnel.poll_data(cx));
                Poll::Ready(data.map(|data| data.map(Frame::data)))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Answer(answer) => answer.is_end_stream(),
            Self::Tunnel(tunnel) => tunnel.has_ended(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Answer(answer) => answer.size_hint(),
            Self::Tunnel(_) => SizeHint::new(),
        }
    }
}

/// A response body that gives its connection back when it has ended. Dropped
/// before that, it closes the connection.
pub struct ResponseBody<B> {
    inner: Source,
    connection: Option<(Engaged<B>, Sender<B>)>,
    /// When the route's time is over.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Of the request that it answers, for the log.
    asked: Extensions,
}

impl<B> ResponseBody<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(
        inner: Source,
        lane: Engaged<B>,
        sender: Option<Sender<B>>,
        deadline: Option<Instant>,
    ) -> Self {
        let mut body = Self {
            inner,
            connection: sender.map(|sender| (lane, sender)),
            deadline: deadline.map(|at| Box::pin(sleep_until(at))),
            asked: Extensions::new(),
        };
        body.give_back_at_end();
        body
    }

    /// Says which request it answers, by its extensions.
    pub(super) fn of(self, asked: Extensions) -> Self {
        Self { asked, ..self }
    }

    fn give_back_at_end(&mut self) {
        if self.inner.is_end_stream() {
            self.give_back();
        }
    }

    /// Counts the failure, and closes the connection.
    fn failed(&mut self, failure: UpstreamFailure) -> UpstreamFailure {
        if let Some((lane, _)) = self.connection.take() {
            lane.counters.count(Some(failure));
            // Too slow for the route is not too slow.
            if failure == UpstreamFailure::Failed {
                lane.target_failed();
            }
        }
        failure
    }

    fn log(&self, error: &dyn fmt::Display) {
        let context = self.asked.get::<RequestContext>();
        let request_id = context.map(|context| context.request_id.as_str());
        let route = context.map(|context| &*context.route.name);
        let upstream = context.map(|context| &*context.route.upstream);
        tracing::warn!(%error, upstream, route, request_id, "an upstream failed inside an answer");
    }

    fn give_back(&mut self) {
        if let Some((lane, sender)) = self.connection.take() {
            lane.lane().give_back(sender);
        }
    }
}

impl<B> Body for ResponseBody<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Data = Bytes;
    type Error = UpstreamFailure;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, UpstreamFailure>>> {
        let this = self.get_mut();
        let frame = match this.inner.poll_frame(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                if let Some(deadline) = &mut this.deadline {
                    ready!(deadline.as_mut().poll(cx));
                    let failure = this.failed(UpstreamFailure::TimedOut);
                    this.log(&failure);
                    return Poll::Ready(Some(Err(failure)));
                }
                return Poll::Pending;
            }
        };
        Poll::Ready(match frame {
            Some(Ok(mut frame)) => {
                if let Some(trailers) = frame.trailers_mut() {
                    scrub_response_trailers(trailers);
                }
                this.give_back_at_end();
                Some(Ok(frame))
            }
            // A tunnel's time was over, which is no failure of its upstream's.
            Some(Err((failure @ UpstreamFailure::TimedOut, _))) => {
                this.connection = None;
                Some(Err(failure))
            }
            Some(Err((failure, error))) => {
                this.log(&error);
                Some(Err(this.failed(failure)))
            }
            None => {
                this.give_back();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody")
            .field("inner", &self.inner)
            .finish_non_exhaustive()
    }
}
