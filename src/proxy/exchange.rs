//! One request and its answer, on a connection to an upstream.
//!
//! The future is written by hand: it is moved through every layer of the stack
//! and holds little.

use std::future::Future;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, timeout_at};

use super::http1::{Connection, Early};
use super::http2::Place;
use super::http2_request::{Http2Request, Outcome};
use super::pool::{Lane, Sender};
use super::request_body::RequestBody;
use super::response_body::Source;
use super::way::Way;
use super::{BoxError, Failure, ResponseBody, head};
use crate::clock;

/// How a request comes to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    /// It may have one, and there is none.
    Anew,
    /// It has to wait until it may, and takes one that is left to it then.
    WhenFree,
}

/// A connection, what it may be used by, and whether it was kept.
struct Opened<B> {
    sender: Sender<B>,
    kept: bool,
    permit: Option<OwnedSemaphorePermit>,
}

impl<B> Lane<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    async fn open(self: &Rc<Self>, opening: Opening) -> Result<Opened<B>, Failure> {
        let mut permit = None;
        if opening == Opening::WhenFree {
            permit = self.upstream.wait_for(self.target()).await?;
        }
        let left = match opening {
            Opening::WhenFree => self.take(),
            Opening::Anew => None,
        };
        let (sender, kept) = match left {
            Some(sender) => (sender, true),
            None => self.connect().await?,
        };
        Ok(Opened {
            sender,
            kept,
            permit,
        })
    }
}

/// Sends a request on a kept connection, or on a new one when there is
/// none, and waits for the head of the answer. A kept connection that the
/// upstream closed before it took a byte of the request costs only that
/// one attempt; a target that cannot be reached has the next one asked.
pub(super) struct Exchange<B> {
    way: Option<Way<B>>,
    stage: Stage<B>,
}

enum Stage<B> {
    Over(Option<Failure>),
    /// Rare, so it may allocate.
    Connecting {
        connecting: Pin<Box<dyn Future<Output = Result<Opened<B>, Failure>>>>,
        request: Box<Request<RequestBody<B>>>,
    },
    Http1 {
        connection: Box<Connection<B>>,
        /// Until when the answer is waited for.
        due: Instant,
    },
    Http2(Box<Http2Request<B>>),
}

/// An answer, and where its body comes from.
enum Answer<B> {
    Http1(Response<()>, Box<Connection<B>>),
    Http2(Response<Incoming>, Place<B>),
}

impl<B> Exchange<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(way: Way<B>, request: Request<RequestBody<B>>) -> Self {
        let stage = if way.waits {
            Stage::opening(Opening::WhenFree, Box::new(request), &way)
        } else {
            match way.lane.take() {
                Some(sender) => Stage::sent(sender, true, request, &way),
                None => Stage::opening(Opening::Anew, Box::new(request), &way),
            }
        };
        Self {
            way: Some(way),
            stage,
        }
    }

    /// It failed before it was known which way to go.
    pub(super) const fn failed(failure: Failure) -> Self {
        Self {
            way: None,
            stage: Stage::Over(Some(failure)),
        }
    }
}

impl<B> Stage<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    fn sent(sender: Sender<B>, kept: bool, request: Request<RequestBody<B>>, way: &Way<B>) -> Self {
        match sender {
            Sender::Http1(mut connection) => match connection.send(request, &way.lines) {
                Ok(()) => Self::Http1 {
                    connection,
                    due: way.patience_from(clock::instant()),
                },
                Err(untaken) if kept => {
                    way.lane.counters.retries.increment(1);
                    Self::opening(Opening::Anew, untaken.request, way)
                }
                Err(untaken) => Self::Over(Some(Failure::BrokeOff(untaken.error.into()))),
            },
            Sender::Http2(place) => {
                Self::Http2(Box::new(Http2Request::new(place, kept, request, way)))
            }
        }
    }

    fn opening(opening: Opening, request: Box<Request<RequestBody<B>>>, way: &Way<B>) -> Self {
        let (lane, deadline) = (Rc::clone(way.lane.lane()), way.deadline);
        Self::Connecting {
            connecting: Box::pin(async move {
                match deadline {
                    None => lane.open(opening).await,
                    Some(deadline) => timeout_at(deadline, lane.open(opening))
                        .await
                        .map_err(|_| Failure::RouteTimeout)?,
                }
            }),
            request,
        }
    }

    fn failure(self) -> Failure {
        match self {
            Self::Over(Some(failure)) => failure,
            _ => Failure::NoUpstream,
        }
    }

    /// What comes after a connection was opened, or could not be.
    fn after(
        opened: Result<Opened<B>, Failure>,
        mut request: Box<Request<RequestBody<B>>>,
        way: &mut Way<B>,
    ) -> Self {
        match opened {
            Ok(opened) => {
                if opened.permit.is_some() {
                    way.lane.permits.put_connection(opened.permit);
                }
                Self::sent(opened.sender, opened.kept, *request, way)
            }
            Err(failure) => {
                let unreached = Rc::clone(way.lane.lane());
                if !failure.is_unreached() || !way.turn_to_another() {
                    return Self::Over(Some(failure));
                }
                unreached.target_failed();
                head::follow_target(&mut request, &way.lane.upstream, way.lane.target());
                Self::opening(Opening::WhenFree, request, way)
            }
        }
    }
}

impl<B> Exchange<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    fn poll_answer(&mut self, cx: &mut Context<'_>) -> Poll<Result<Answer<B>, Failure>> {
        // Put back where it has to be waited for.
        let mut stage = mem::replace(&mut self.stage, Stage::Over(None));
        let Some(way) = &mut self.way else {
            return Poll::Ready(Err(stage.failure()));
        };
        let waiting = loop {
            stage = match stage {
                Stage::Over(_) => return Poll::Ready(Err(stage.failure())),
                Stage::Connecting {
                    mut connecting,
                    request,
                } => match connecting.as_mut().poll(cx) {
                    Poll::Ready(opened) => Stage::after(opened, request, way),
                    Poll::Pending => {
                        break Stage::Connecting {
                            connecting,
                            request,
                        };
                    }
                },
                Stage::Http1 {
                    mut connection,
                    mut due,
                } => match connection.poll_answer(cx) {
                    Poll::Ready(Ok(head)) => {
                        return Poll::Ready(Ok(Answer::Http1(head, connection)));
                    }
                    Poll::Ready(Err(unanswered)) => return Poll::Ready(Err(unanswered.into())),
                    Poll::Pending if run_out(&mut connection, &mut due, way, cx).is_ready() => {
                        return Poll::Ready(Err(way.timed_out()));
                    }
                    Poll::Pending => break Stage::Http1 { connection, due },
                },
                Stage::Http2(mut request) => match request.poll(way, cx) {
                    Poll::Ready(Outcome::Answered(response)) => {
                        return Poll::Ready(Ok(Answer::Http2(response, request.into_place())));
                    }
                    Poll::Ready(Outcome::Failed(failure)) => return Poll::Ready(Err(failure)),
                    Poll::Ready(Outcome::Again(request)) => {
                        Stage::opening(Opening::Anew, request, way)
                    }
                    Poll::Pending => break Stage::Http2(request),
                },
            };
        };
        self.stage = waiting;
        Poll::Pending
    }
}

/// Ready when nothing of a request or its answer moved for too long.
fn run_out<B>(
    connection: &mut Connection<B>,
    due: &mut Instant,
    way: &Way<B>,
    cx: &mut Context<'_>,
) -> Poll<()> {
    loop {
        ready!(connection.poll_due(cx, *due));
        match way.more_patience(*due) {
            Some(later) => *due = later,
            None => return Poll::Ready(()),
        }
    }
}

impl<B> Future for Exchange<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Response<ResponseBody<B>>, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        let answered = ready!(this.poll_answer(cx));
        Poll::Ready(match this.way.take() {
            Some(way) => concluded(answered, way),
            None => Err(answered.err().unwrap_or(Failure::NoUpstream)),
        })
    }
}

fn concluded<B>(
    answered: Result<Answer<B>, Failure>,
    mut way: Way<B>,
) -> Result<Response<ResponseBody<B>>, Failure>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let answered = answered.and_then(|answer| answer.checked(&mut way));
    let response = answered.inspect_err(|failure| {
        way.lane.counters.count(failure.of_upstream());
        if failure.is_of_target() {
            way.lane.target_failed();
        }
    })?;
    if let Some(upload) = &way.upload {
        upload.is_answered();
    }
    way.lane.upstream.target_answered(way.lane.place);
    Ok(response.map(|source| ResponseBody::new(source, way.lane, way.deadline)))
}

impl<B> Answer<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Takes no other protocol than was asked for, and nothing else in its place.
    fn checked(self, way: &mut Way<B>) -> Result<Response<Source<B>>, Failure> {
        match self {
            Self::Http1(mut head, connection) if is_switch(head.status()) => {
                let (stream, ahead) = connection.into_tunnel();
                let switch = way.switch.take();
                let tunnel = switch.and_then(|switch| switch.accept(&mut head, stream, ahead));
                let tunnel = tunnel.ok_or(Failure::SwitchedProtocols)?;
                Ok(head.map(|()| Source::Tunnel(Box::new(tunnel))))
            }
            Self::Http1(head, _) if way.must_switch() && head.status().is_success() => {
                Err(Failure::NotSwitched)
            }
            Self::Http1(head, connection) if connection.has_sent() => {
                Ok(head.map(|()| Source::Http1(connection)))
            }
            Self::Http1(head, connection) => {
                let lane = Rc::clone(way.lane.lane());
                // The connection counts as long as there is one, also when its answer is over.
                let permits = mem::take(&mut way.lane.permits);
                let keep = move |connection| {
                    lane.give_back(connection);
                    drop(permits);
                };
                Ok(head.map(|()| Source::Early(Early::new(connection, keep))))
            }
            Self::Http2(response, _) if is_switch(response.status()) => {
                Err(Failure::SwitchedProtocols)
            }
            Self::Http2(response, place) => {
                Ok(response.map(|answer| Source::Http2(Box::new((answer, place)))))
            }
        }
    }
}

fn is_switch(status: StatusCode) -> bool {
    status == StatusCode::SWITCHING_PROTOCOLS
}
