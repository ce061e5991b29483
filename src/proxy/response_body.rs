//! A response body on its way to a client.

use std::fmt;
use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Extensions;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::BoxError;
use super::fields::scrub_response_trailers;
use super::http1::{Connection, Cut, Early};
use super::http2::Place;
use super::pool::Engaged;
use super::tunnel::{Fault, TunnelBody};
use crate::context::{RequestContext, UpstreamFailure};

/// Where the bytes come from, and over what. Dropped before its end, it closes
/// that.
pub(super) enum Source<B> {
    Http1(Box<Connection<B>>),
    Early(Early<B>),
    /// Rare enough to be boxed with its place.
    Http2(Box<(Incoming, Place<B>)>),
    Tunnel(Box<TunnelBody>),
    /// It was given back.
    Ended,
    /// Why there is no more is said in the next turn.
    Breaking(Fault),
    BrokenOff,
}

impl<B> Source<B> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match self {
            Self::Http1(connection) => {
                let frame = ready!(connection.poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(Fault::of_target)))
            }
            Self::Early(early) => {
                let frame = ready!(early.poll_frame(cx));
                let fault = |cut: Cut| Fault {
                    failure: UpstreamFailure::Failed,
                    // It waits for a rest that its client does not send.
                    of_target: !matches!(cut, Cut::Unsent(_)),
                    error: cut.into(),
                };
                Poll::Ready(frame.map(|frame| frame.map_err(fault)))
            }
            Self::Http2(answer) => {
                let frame = ready!(Pin::new(&mut answer.0).poll_frame(cx));
                Poll::Ready(frame.map(|frame| frame.map_err(Fault::of_target)))
            }
            Self::Tunnel(tunnel) => {
                let data = ready!(tunnel.poll_data(cx));
                Poll::Ready(data.map(|data| data.map(Frame::data)))
            }
            Self::Breaking(_) => match mem::replace(self, Self::BrokenOff) {
                Self::Breaking(fault) => Poll::Ready(Some(Err(fault))),
                _ => Poll::Ready(None),
            },
            Self::Ended | Self::BrokenOff => Poll::Ready(None),
        }
    }

    /// As [`poll_frame`](Self::poll_frame); but what came before a fault goes to
    /// the client first, which who writes it does when there is nothing more.
    fn poll_in_turn(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let is_said = matches!(self, Self::Breaking(_) | Self::Tunnel(_));
        match self.poll_frame(cx) {
            Poll::Ready(Some(Err(fault))) if !is_said => {
                *self = Self::Breaking(fault);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            polled => polled,
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Http1(connection) => connection.has_answered(),
            Self::Early(early) => early.has_answered(),
            Self::Http2(answer) => answer.0.is_end_stream(),
            Self::Tunnel(tunnel) => tunnel.has_ended(),
            Self::Ended => true,
            Self::Breaking(_) | Self::BrokenOff => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Http1(connection) => connection.size_hint(),
            Self::Early(early) => early.size_hint(),
            Self::Http2(answer) => answer.0.size_hint(),
            Self::Ended => SizeHint::with_exact(0),
            Self::Tunnel(_) | Self::Breaking(_) | Self::BrokenOff => SizeHint::new(),
        }
    }
}

/// A response body that gives its connection back when it has ended. Dropped
/// before that, it closes the connection.
pub struct ResponseBody<B> {
    source: Source<B>,
    /// Until the end.
    lane: Option<Engaged<B>>,
    /// When the route's time is over.
    deadline: Option<Box<Deadline>>,
    /// Of the request that it answers, for the log.
    asked: Extensions,
}

struct Deadline {
    at: Instant,
    /// Made when the answer is first waited for: most of them are there.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Deadline {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(self.at)));
        sleep.as_mut().poll(cx)
    }
}

impl<B> ResponseBody<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// `deadline` is for no tunnel: that has its own bounds.
    pub(super) fn new(source: Source<B>, lane: Engaged<B>, deadline: Option<Instant>) -> Self {
        let deadline = deadline.filter(|_| !matches!(source, Source::Tunnel(_)));
        let mut body = Self {
            source,
            lane: Some(lane),
            deadline: deadline.map(|at| Box::new(Deadline { at, sleep: None })),
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
        if self.source.is_end_stream() {
            self.give_back();
        }
    }

    /// Counts the failure, and closes the connection.
    fn failed(&mut self, failure: UpstreamFailure) -> UpstreamFailure {
        self.source = Source::BrokenOff;
        if let Some(lane) = self.lane.take() {
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

    /// What came early gives itself back, when all is sent.
    fn give_back(&mut self) {
        let source = mem::replace(&mut self.source, Source::Ended);
        if let (Some(lane), Source::Http1(connection)) = (self.lane.take(), source) {
            lane.lane().give_back(connection);
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
        let frame = match this.source.poll_in_turn(cx) {
            Poll::Ready(frame) => frame,
            Poll::Pending => {
                if let Some(deadline) = &mut this.deadline {
                    ready!(deadline.poll(cx));
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
            // A tunnel's time was over, or the client did not send all.
            Some(Err(fault)) if !fault.of_target => {
                this.source = Source::BrokenOff;
                this.lane = None;
                Some(Err(fault.failure))
            }
            Some(Err(fault)) => {
                this.log(&fault.error);
                Some(Err(this.failed(fault.failure)))
            }
            None => {
                this.give_back();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.source.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.source.size_hint()
    }
}

impl<B> fmt::Debug for ResponseBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ended = self.source.is_end_stream();
        f.debug_struct("ResponseBody")
            .field("ended", &ended)
            .finish_non_exhaustive()
    }
}
