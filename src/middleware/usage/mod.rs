//! What was used: a record for every decided request of a known key.
//!
//! The record of an admitted request is reserved when it is admitted and
//! completed *before* the client can have seen the response whole: before the
//! frame that completes a known length, before the head where no body follows.
//! So whatever a client saw complete has its record, even if the process dies
//! in the next instant.

mod body;
mod open;
mod refusals;

pub use body::{RequestBody, ResponseBody};
pub use refusals::{RefusalUsage, RefusalUsageFuture, RefusalUsageLayer};

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::{Method, Request, Response, StatusCode};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::clock::Clock;
#[cfg(feature = "edge")]
use crate::context::tunnel::Tunnel;
use crate::context::{Identity, Refused, RequestContext, Severed, UpstreamFailure};
use crate::middleware::refusing::Refusing;
use crate::problem;
use crate::refusal::Refusal;
use crate::usage::event::Ended;
use crate::usage::recorder::{Decision, Recorder, Reservation};
use open::Open;

/// Records the requests of identified keys that reach it, which belongs inside
/// of [`ApiKeyAuthLayer`](super::ApiKeyAuthLayer). Anybody else's pass.
#[derive(Clone, Debug)]
pub struct UsageLayer<R> {
    recorder: R,
    clock: Clock,
}

impl<R> UsageLayer<R> {
    pub const fn new(recorder: R, clock: Clock) -> Self {
        Self { recorder, clock }
    }
}

impl<S, R: Clone> Layer<S> for UsageLayer<R> {
    type Service = Usage<S, R>;

    fn layer(&self, inner: S) -> Usage<S, R> {
        Usage {
            inner,
            recorder: self.recorder.clone(),
            clock: self.clock.clone(),
        }
    }
}

/// What [`UsageLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct Usage<S, R> {
    inner: S,
    recorder: R,
    clock: Clock,
}

impl<S, R: Recorder> Usage<S, R> {
    /// `None` for a request by nobody in particular; whose it is when there is no room.
    fn admit<B>(&self, request: &Request<B>) -> Result<Option<Open<R::Reservation>>, Identity> {
        let context = request.extensions().get::<RequestContext>();
        let Some((context, key)) =
            context.and_then(|context| Some((context, context.identity.key()?)))
        else {
            return Ok(None);
        };
        let decision = Decision {
            occurred_at: context.received.wall,
            key_id: key.id,
            route: &context.route.name,
            method: request.method(),
            client: context.client,
        };
        match self.recorder.admit(&decision) {
            Ok(reservation) => Ok(Some(Open::new(
                reservation,
                self.clock.clone(),
                context.received.tick,
            ))),
            Err(_) => Err(context.identity.clone()),
        }
    }
}

impl<S, R, B, T> Service<Request<B>> for Usage<S, R>
where
    S: Service<Request<RequestBody<B>>, Response = Response<T>>,
    R: Recorder,
    B: Body,
    T: Body,
{
    type Response = Response<problem::Body<ResponseBody<T, R::Reservation>>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R::Reservation>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let mut open = match self.admit(&request) {
            Ok(open) => open,
            Err(identity) => {
                let refused = Refusing::of(&mut request, Refusal::JournalFull, identity);
                let refusing = Some(refused);
                return ResponseFuture::of(State::Refused { refusing });
            }
        };
        let asks_for_a_head = *request.method() == Method::HEAD;
        let counts = open.is_some() && !request.body().is_end_stream();
        let request = request.map(|body| RequestBody::new(body, counts));
        if let Some(open) = &mut open {
            open.forward(request.body().counter());
        }
        ResponseFuture::of(State::Inner {
            future: self.inner.call(request),
            open,
            asks_for_a_head,
        })
    }
}

pin_project! {
    /// The response of the inner service, or the refusal.
    pub struct ResponseFuture<F, V>
    where
        V: Reservation,
    {
        #[pin]
        state: State<F, V>,
    }
}

pin_project! {
    #[project = Projected]
    enum State<F, V>
    where
        V: Reservation,
    {
        Inner {
            #[pin]
            future: F,
            open: Option<Open<V>>,
            asks_for_a_head: bool,
        },
        Refused {
            refusing: Option<Refusing>,
        },
    }
}

impl<F, V: Reservation> ResponseFuture<F, V> {
    const fn of(state: State<F, V>) -> Self {
        Self { state }
    }
}

impl<F, T, V, E> Future for ResponseFuture<F, V>
where
    F: Future<Output = Result<Response<T>, E>>,
    T: Body,
    V: Reservation,
{
    type Output = Result<Response<problem::Body<ResponseBody<T, V>>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            Projected::Inner {
                future,
                open,
                asks_for_a_head,
            } => match ready!(future.poll(cx)) {
                Ok(mut response) => {
                    if let Some(open) = open {
                        follow(&mut response, open, *asks_for_a_head);
                    }
                    let watched = |body| problem::Body::inner(ResponseBody::new(body, open.take()));
                    Poll::Ready(Ok(response.map(watched)))
                }
                Err(error) => {
                    if let Some(mut open) = open.take() {
                        open.end(Ended::UpstreamFailed);
                    }
                    Poll::Ready(Err(error))
                }
            },
            Projected::Refused { refusing } => match refusing.take() {
                Some(refusing) => Poll::Ready(Ok(refusing.response())),
                // As any future that has given its output.
                None => Poll::Pending,
            },
        }
    }
}

/// Tells what is `open` what the head of the response says.
fn follow<T: Body, V: Reservation>(
    response: &mut Response<T>,
    open: &mut Open<V>,
    asks_for_a_head: bool,
) {
    open.answered(response.status());
    #[cfg(feature = "edge")]
    if let Some(tunnel) = tunnel_of(response) {
        open.counts_in(tunnel.sent());
    }
    if response.extensions().get::<Refused>().is_some() {
        response.extensions_mut().insert(Recorded);
    }
    let failure = response.extensions().get::<UpstreamFailure>();
    if let Some(failure) = failure {
        open.end(ended_by(*failure));
    } else if response.extensions().get::<Severed>().is_some() {
        open.end(Ended::Revoked);
    } else if asks_for_a_head || has_no_body(response) {
        open.end(Ended::Complete);
    }
}

/// Through which the client speaks from here on.
#[cfg(feature = "edge")]
fn tunnel_of<T>(response: &Response<T>) -> Option<&Tunnel> {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    switches.then(|| response.extensions().get())?
}

fn has_no_body<T: Body>(response: &Response<T>) -> bool {
    matches!(
        response.status(),
        StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED
    ) || response.body().is_end_stream()
}

const fn ended_by(failure: UpstreamFailure) -> Ended {
    match failure {
        UpstreamFailure::Failed => Ended::UpstreamFailed,
        UpstreamFailure::TimedOut => Ended::Timeout,
    }
}

/// The response extension that says that a refused request has its record.
#[derive(Clone, Copy, Debug)]
struct Recorded;

impl<F, V: Reservation> std::fmt::Debug for ResponseFuture<F, V> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
