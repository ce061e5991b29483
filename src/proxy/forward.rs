//! Sending an admitted request to its upstream.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use tokio::time::{Instant, timeout_at};
use tower_service::Service;

use super::head::Heads;
use super::lanes::Lanes;
use super::pool::{Lane, Sender};
use super::request_body::{Broken, RequestBody, Upload};
use super::upstream::Upstreams;
use super::{BoxError, Failure, ResponseBody};
use crate::clock::Clock;
use crate::context::RequestContext;
use crate::problem;

/// The answer of an upstream, or to a request that it did not answer.
pub type Forwarded<B> = Response<problem::Body<ResponseBody<B>>>;

/// The innermost service of a worker: forwards each request to its route's
/// upstream, on this worker's own connections. It takes the request's
/// [`RequestContext`] out. What goes wrong becomes a response; where it is the
/// upstream's doing, an [`UpstreamFailure`](crate::context::UpstreamFailure)
/// is among its extensions.
///
/// To be called inside the worker's `LocalSet`. `upstreams` may be swapped
/// while requests are served.
pub fn forward<B>(
    upstreams: Arc<ArcSwap<Upstreams>>,
    clock: Clock,
) -> impl Service<
    Request<B>,
    Response = Forwarded<B>,
    Error = Infallible,
    Future = impl Future<Output = Result<Forwarded<B>, Infallible>>,
> + Clone
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let forwarder = Rc::new(Forwarder {
        lanes: Lanes::new(upstreams),
        heads: Heads::new(),
        clock,
    });
    tower::service_fn(move |request| {
        let forwarder = Rc::clone(&forwarder);
        async move { Ok(forwarder.answer(request).await) }
    })
}

/// What one worker forwards with.
struct Forwarder<B> {
    lanes: Lanes<B>,
    heads: Heads,
    clock: Clock,
}

impl<B> Forwarder<B>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    async fn answer(&self, mut request: Request<B>) -> Forwarded<B> {
        let context = request.extensions_mut().remove::<RequestContext>();
        let forwarded = match &context {
            Some(context) => self.forward(request, context).await,
            None => Err(Failure::NoUpstream),
        };
        match forwarded {
            Ok(response) => response.map(problem::Body::inner),
            Err(failure) => {
                log(&failure, context.as_ref());
                failure.response(context.as_ref())
            }
        }
    }

    async fn forward(
        &self,
        mut request: Request<B>,
        context: &RequestContext,
    ) -> Result<Response<ResponseBody<B>>, Failure> {
        let route = &*context.route;
        let lane = self.lanes.to(&route.upstream).ok_or(Failure::NoUpstream)?;
        let deadline = route.timeout.map(|timeout| {
            let passed = self.clock.tick().since(context.received.tick);
            Instant::now() + timeout.saturating_sub(passed)
        });
        self.heads
            .rewrite(request.headers_mut(), context, &lane.upstream);
        *request.version_mut() = Version::HTTP_11;
        let request = request.map(|body| RequestBody::new(body, route.body_limit));
        let (mut response, sender) = exchange(&lane, request, deadline)
            .await
            .inspect_err(|failure| lane.counters.count(failure.of_upstream()))?;
        self.heads.scrub_response(response.headers_mut());
        *response.version_mut() = Version::HTTP_11;
        Ok(response.map(|body| ResponseBody::new(body, lane, sender, deadline)))
    }
}

/// Sends on a kept connection, or on a new one when there is none. A kept one
/// that the upstream closed before it took a byte of the request costs only
/// the one attempt.
async fn exchange<B>(
    lane: &Lane<B>,
    request: Request<RequestBody<B>>,
    deadline: Option<Instant>,
) -> Result<(Response<Incoming>, Sender<B>), Failure>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let upload = request.body().upload();
    let upload = upload.as_deref();
    let mut request = request;
    if let Some(mut sender) = lane.pool.take() {
        match send(lane, &mut sender, request, upload, deadline).await {
            Ok(response) => return Ok((response, sender)),
            Err(Unanswered::Failed(failure)) => return Err(failure),
            Err(Unanswered::Unsent(unsent, _)) => {
                lane.counters.retries.increment(1);
                request = *unsent;
            }
        }
    }
    let mut sender = match deadline {
        None => lane.connect().await?,
        Some(deadline) => timeout_at(deadline, lane.connect())
            .await
            .map_err(|_| Failure::ConnectTimeout)??,
    };
    match send(lane, &mut sender, request, upload, deadline).await {
        Ok(response) => Ok((response, sender)),
        Err(Unanswered::Failed(failure) | Unanswered::Unsent(_, failure)) => Err(failure),
    }
}

/// Why there is no answer.
enum Unanswered<B> {
    Failed(Failure),
    /// Nothing of the request was written: it may be sent again.
    Unsent(Box<Request<RequestBody<B>>>, Failure),
}

async fn send<B>(
    lane: &Lane<B>,
    sender: &mut Sender<B>,
    request: Request<RequestBody<B>>,
    upload: Option<&Upload>,
    deadline: Option<Instant>,
) -> Result<Response<Incoming>, Unanswered<B>>
where
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    let patience = lane.upstream.response_timeout;
    let mut until = earliest(Instant::now() + patience, deadline);
    let mut answer = pin!(sender.try_send_request(request));
    loop {
        match timeout_at(until, &mut answer).await {
            Ok(Ok(response)) if response.status() == StatusCode::SWITCHING_PROTOCOLS => {
                return Err(Unanswered::Failed(Failure::SwitchedProtocols));
            }
            Ok(Ok(response)) => return Ok(response),
            Ok(Err(error)) => return Err(unanswered(error, upload)),
            Err(_) => {
                // An upload that moves is no silence.
                let moved = upload.map(|upload| upload.moved() + patience);
                match moved.map(|moved| earliest(moved, deadline)) {
                    Some(later) if later > until => until = later,
                    _ => return Err(Unanswered::Failed(Failure::ResponseTimeout)),
                }
            }
        }
    }
}

fn unanswered<B>(
    mut error: TrySendError<Request<RequestBody<B>>>,
    upload: Option<&Upload>,
) -> Unanswered<B> {
    let unsent = error.take_message();
    let failure = match upload.and_then(Upload::broken) {
        Some(Broken::TooLarge) => Failure::BodyTooLarge,
        Some(Broken::Client) => Failure::BodyBroken,
        None => Failure::BrokeOff(error.into_error().into()),
    };
    match unsent {
        Some(request) => Unanswered::Unsent(Box::new(request), failure),
        None => Unanswered::Failed(failure),
    }
}

fn earliest(one: Instant, other: Option<Instant>) -> Instant {
    other.map_or(one, |other| one.min(other))
}

fn log(failure: &Failure, context: Option<&RequestContext>) {
    let Some(context) = context else {
        tracing::error!(%failure, "a request without a context reached the forwarder");
        return;
    };
    let (request_id, route) = (context.request_id.as_str(), &*context.route.name);
    if failure.of_upstream().is_some() {
        let upstream = &*context.route.upstream;
        tracing::warn!(%failure, upstream, route, request_id, "an upstream failed");
    } else {
        tracing::debug!(%failure, route, request_id, "a request failed");
    }
}
