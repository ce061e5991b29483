//! One request and its answer, on a connection to an upstream.
//!
//! The future is written by hand: it is moved through every layer of the stack
//! and holds little.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use pin_project_lite::pin_project;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep, sleep_until, timeout_at};

use super::pool::{Lane, Sender};
use super::request_body::{Broken, RequestBody};
use super::way::Way;
use super::{BoxError, Failure, ResponseBody, head, http2};

/// What hyper says of a request that it was given.
pub(super) type Answered<B> = Result<Response<Incoming>, TrySendError<Request<RequestBody<B>>>>;

/// Gives hyper a request; `F` is a type without a name.
type Send<B, F> = fn(&mut Sender<B>, Request<RequestBody<B>>) -> F;

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

pin_project! {
    /// Sends a request on a kept connection, or on a new one when there is
    /// none, and waits for the head of the answer. A kept connection that the
    /// upstream closed before it took a byte of the request costs only that
    /// one attempt; a target that cannot be reached has the next one asked.
    pub(super) struct Exchange<B, F> {
        way: Option<Way<B>>,
        #[pin]
        stage: Stage<B, F>,
        send: Send<B, F>,
    }
}

pin_project! {
    #[project = StageProjected]
    enum Stage<B, F> {
        Failed {
            failure: Option<Failure>,
        },
        /// Rare, so it may allocate.
        Connecting {
            connecting: Pin<Box<dyn Future<Output = Result<Opened<B>, Failure>>>>,
            request: Option<Box<Request<RequestBody<B>>>>,
        },
        Sent {
            sender: Option<Sender<B>>,
            kept: bool,
            // What is sent when it is turned away.
            spare: Option<Box<Request<RequestBody<B>>>>,
            #[pin]
            answer: F,
            #[pin]
            patience: Sleep,
        },
    }
}

impl<B, F> Exchange<B, F>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(
        begun: Result<(Way<B>, Request<RequestBody<B>>), Failure>,
        send: Send<B, F>,
    ) -> Self {
        let (way, request) = match begun {
            Ok((way, request)) => (way, request),
            Err(failure) => {
                let failure = Some(failure);
                return Self {
                    way: None,
                    stage: Stage::Failed { failure },
                    send,
                };
            }
        };
        let stage = if way.waits {
            Stage::opening(Opening::WhenFree, Box::new(request), &way)
        } else {
            match way.lane.take() {
                Some(sender) => Stage::sent(sender, true, request, send, &way),
                None => Stage::opening(Opening::Anew, Box::new(request), &way),
            }
        };
        Self {
            way: Some(way),
            stage,
            send,
        }
    }
}

impl<B, F> Stage<B, F>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    fn sent(
        mut sender: Sender<B>,
        kept: bool,
        request: Request<RequestBody<B>>,
        send: Send<B, F>,
        way: &Way<B>,
    ) -> Self {
        Self::Sent {
            spare: way.may_repeat.then(|| Box::new(copy(&request))),
            answer: send(&mut sender, request),
            sender: Some(sender),
            kept,
            patience: sleep_until(way.patience_from(Instant::now())),
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
            request: Some(request),
        }
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

impl<B, F> Future for Exchange<B, F>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
    F: Future<Output = Answered<B>>,
{
    type Output = Result<Response<ResponseBody<B>>, Failure>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let result = loop {
            let Some(way) = this.way.as_mut() else {
                let StageProjected::Failed { failure } = this.stage.as_mut().project() else {
                    break Err(Failure::NoUpstream);
                };
                break Err(failure.take().unwrap_or(Failure::NoUpstream));
            };
            let next = match this.stage.as_mut().project() {
                StageProjected::Failed { .. } => break Err(Failure::NoUpstream),
                StageProjected::Connecting {
                    connecting,
                    request,
                } => match ready!(connecting.as_mut().poll(cx)) {
                    Ok(opened) => {
                        let Some(request) = request.take() else {
                            return Poll::Pending;
                        };
                        if opened.permit.is_some() {
                            way.lane.permits.put_connection(opened.permit);
                        }
                        Stage::sent(opened.sender, opened.kept, *request, *this.send, way)
                    }
                    Err(failure) => {
                        if !failure.is_unreached() {
                            break Err(failure);
                        }
                        let Some(mut request) = request.take() else {
                            return Poll::Pending;
                        };
                        let unreached = Rc::clone(way.lane.lane());
                        if !way.turn_to_another() {
                            break Err(failure);
                        }
                        unreached.target_failed();
                        head::follow_target(&mut request, &way.lane.upstream, way.lane.target());
                        Stage::opening(Opening::WhenFree, request, way)
                    }
                },
                StageProjected::Sent {
                    sender,
                    kept,
                    spare,
                    answer,
                    patience,
                } => match answer.poll(cx) {
                    Poll::Ready(Ok(response)) => {
                        if let Some(upload) = &way.upload {
                            upload.is_answered();
                        }
                        break Ok((response, sender.take()));
                    }
                    Poll::Ready(Err(error)) => match unanswered(error, way, *kept) {
                        Unanswered::Failed(failure) => break Err(failure),
                        Unanswered::TurnedAway(failure) => match spare.take() {
                            Some(spare) if way.repeats(sender.as_ref()) => {
                                Stage::opening(Opening::Anew, spare, way)
                            }
                            _ => break Err(failure),
                        },
                        Unanswered::Unsent(request) => Stage::opening(Opening::Anew, request, way),
                    },
                    Poll::Pending => {
                        ready!(run_out(patience, way, cx));
                        break Err(way.timed_out());
                    }
                },
            };
            this.stage.set(next);
        };
        Poll::Ready(concluded(result, this.way.take()))
    }
}

fn concluded<B>(
    result: Result<(Response<Incoming>, Option<Sender<B>>), Failure>,
    way: Option<Way<B>>,
) -> Result<Response<ResponseBody<B>>, Failure>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let Some(mut way) = way else {
        // It failed before it was known which way to go.
        return Err(result.err().unwrap_or(Failure::NoUpstream));
    };
    let mut tunnel = None;
    let checked = match result {
        Ok((mut response, sender)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
            let switch = way.switch.take();
            tunnel = switch.and_then(|switch| switch.accept(&mut response));
            match tunnel {
                Some(_) => Ok((response, sender)),
                None => Err(Failure::SwitchedProtocols),
            }
        }
        Ok((response, _)) if way.must_switch() && response.status().is_success() => {
            Err(Failure::NotSwitched)
        }
        Ok((response, _)) if is_ambiguous(response.headers()) => Err(Failure::AmbiguousAnswer),
        checked => checked,
    };
    let (response, sender) = checked.inspect_err(|failure| {
        way.lane.counters.count(failure.of_upstream());
        if failure.is_of_target() {
            way.lane.target_failed();
        }
    })?;
    way.lane.upstream.target_answered(way.lane.place);
    Ok(response.map(|body| match tunnel {
        None => ResponseBody::new(body.into(), way.lane, sender, way.deadline),
        // A tunnel has its own bounds.
        Some(tunnel) => ResponseBody::new(tunnel.into(), way.lane, sender, None),
    }))
}

/// Whether an answer could end at two places, or has a coding beneath `chunked`
/// that its client would not be told of (RFC 9112, section 6.3).
fn is_ambiguous(headers: &HeaderMap) -> bool {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => false,
        (Some(coding), None) if coding.as_bytes().eq_ignore_ascii_case(b"chunked") => {
            headers.contains_key(CONTENT_LENGTH)
        }
        _ => true,
    }
}

/// Ready when nothing of a request or its answer moved for too long. An upload
/// that moves is no silence.
fn run_out<B>(mut patience: Pin<&mut Sleep>, way: &Way<B>, cx: &mut Context<'_>) -> Poll<()> {
    loop {
        ready!(patience.as_mut().poll(cx));
        let moved = way.upload.as_ref().map(|upload| upload.moved());
        match moved.map(|moved| way.patience_from(moved)) {
            Some(later) if later > patience.deadline() => patience.as_mut().reset(later),
            _ => return Poll::Ready(()),
        }
    }
}

/// Why there is no answer.
enum Unanswered<B> {
    Failed(Failure),
    /// The upstream did nothing with it.
    TurnedAway(Failure),
    /// Nothing of it was written, so it may be sent again.
    Unsent(Box<Request<RequestBody<B>>>),
}

fn unanswered<B>(
    mut error: TrySendError<Request<RequestBody<B>>>,
    way: &Way<B>,
    kept: bool,
) -> Unanswered<B> {
    let unsent = error.take_message();
    let turned_away = unsent.is_some() || http2::is_turned_away(error.error());
    if let Some(request) = unsent
        && kept
    {
        way.lane.counters.retries.increment(1);
        return Unanswered::Unsent(Box::new(request));
    }
    let broken = way.upload.as_ref().and_then(|upload| upload.broken());
    Unanswered::Failed(match broken {
        Some(Broken::TooLarge) => Failure::BodyTooLarge,
        Some(Broken::Client) => Failure::BodyBroken,
        Some(Broken::TooSlow) => Failure::BodyTooSlow,
        Some(Broken::Severed(severed)) => Failure::Severed(severed),
        Some(Broken::PassedOn) | None => {
            let failure = Failure::BrokeOff(error.into_error().into());
            if turned_away {
                return Unanswered::TurnedAway(failure);
            }
            failure
        }
    })
}
