//! A request on a stream of HTTP/2, until its answer begins.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, Sleep, sleep_until};

use super::http2::{Place, is_turned_away};
use super::request_body::{Broken, RequestBody};
use super::way::Way;
use super::{BoxError, Failure};

/// What hyper says of a request that it was given.
type Answered<B> = Result<Response<Incoming>, TrySendError<Request<RequestBody<B>>>>;

/// It is boxed as a whole: the way over HTTP/1.1 is to stay small.
pub(super) struct Http2Request<B> {
    place: Place<B>,
    kept: bool,
    /// What is sent when it is turned away.
    spare: Option<Box<Request<RequestBody<B>>>>,
    answer: Pin<Box<dyn Future<Output = Answered<B>>>>,
    patience: Pin<Box<Sleep>>,
}

/// What became of it.
pub(super) enum Outcome<B> {
    Answered(Response<Incoming>),
    Failed(Failure),
    /// It is to be sent once more, over a new connection.
    Again(Box<Request<RequestBody<B>>>),
}

impl<B> Http2Request<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(
        place: Place<B>,
        kept: bool,
        request: Request<RequestBody<B>>,
        way: &Way<B>,
    ) -> Self {
        let spare = way.may_repeat.then(|| Box::new(copy(&request)));
        let mut sender = place.sender();
        Self {
            place,
            kept,
            spare,
            answer: Box::pin(sender.try_send_request(request)),
            patience: Box::pin(sleep_until(way.patience_from(Instant::now()))),
        }
    }

    /// Ready when its answer begins, or there is none. Not to be polled again then.
    pub(super) fn poll(&mut self, way: &mut Way<B>, cx: &mut Context<'_>) -> Poll<Outcome<B>> {
        Poll::Ready(match self.answer.as_mut().poll(cx) {
            Poll::Ready(Ok(response)) => Outcome::Answered(response),
            Poll::Ready(Err(error)) => self.unanswered(error, way),
            Poll::Pending => {
                ready!(self.run_out(way, cx));
                Outcome::Failed(way.timed_out())
            }
        })
    }

    pub(super) fn into_place(self) -> Place<B> {
        self.place
    }

    fn run_out(&mut self, way: &Way<B>, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.patience.as_mut().poll(cx));
            match way.more_patience(self.patience.deadline()) {
                Some(later) => self.patience.as_mut().reset(later),
                None => return Poll::Ready(()),
            }
        }
    }

    fn unanswered(
        &mut self,
        mut error: TrySendError<Request<RequestBody<B>>>,
        way: &mut Way<B>,
    ) -> Outcome<B> {
        let unsent = error.take_message();
        let turned_away = unsent.is_some() || is_turned_away(error.error());
        if let Some(request) = unsent
            && self.kept
        {
            way.lane.counters.retries.increment(1);
            return Outcome::Again(Box::new(request));
        }
        let broken = way.upload.as_ref().and_then(|upload| upload.broken());
        if let Some(broken) = broken.filter(|broken| *broken != Broken::PassedOn) {
            return Outcome::Failed(broken.into());
        }
        if turned_away
            && let Some(spare) = self.spare.take()
            && way.repeats(&self.place)
        {
            return Outcome::Again(spare);
        }
        Outcome::Failed(Failure::BrokeOff(error.into_error().into()))
    }
}

/// What hyper does not give back once it has begun with it.
fn copy<B: Body<Data = Bytes>>(request: &Request<RequestBody<B>>) -> Request<RequestBody<B>> {
    let mut copy = Request::new(request.body().for_next_sending());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.version_mut() = request.version();
    *copy.headers_mut() = request.headers().clone();
    copy
}
