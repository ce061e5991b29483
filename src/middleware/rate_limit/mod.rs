//! How often: a key's limit, and the fields that tell a client of it.

mod fields;
mod refusals;

pub use refusals::{RateLimitRefusals, RateLimitRefusalsLayer, RefusalsFuture};

use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderValue, Request, Response, header};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::refusing::Refusing;
use crate::context::{Identity, RequestContext};
use crate::limiter::{Limiter, Outcome, Standing};
use crate::problem::{self, Answers, Around, Inside, Within};
use crate::refusal::Refusal;

/// Counts each request of an identified key against its limit, and answers it
/// with where the key stands. Anybody else passes: it belongs inside of
/// [`ApiKeyAuthLayer`](super::ApiKeyAuthLayer).
#[derive(Clone, Debug)]
pub struct RateLimitLayer {
    limiter: Arc<Limiter>,
}

impl RateLimitLayer {
    pub const fn new(limiter: Arc<Limiter>) -> Self {
        Self { limiter }
    }
}

impl<S> Layer<S> for RateLimitLayer {
    type Service = RateLimit<S>;

    fn layer(&self, inner: S) -> RateLimit<S> {
        RateLimit::new(inner, &self.limiter)
    }
}

impl<S> Layer<S> for Within<RateLimitLayer> {
    type Service = RateLimit<S, Inside>;

    fn layer(&self, inner: S) -> RateLimit<S, Inside> {
        RateLimit::new(inner, &self.0.limiter)
    }
}

/// What [`RateLimitLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct RateLimit<S, A = Around> {
    inner: S,
    limiter: Arc<Limiter>,
    answers: PhantomData<A>,
}

impl<S, A> RateLimit<S, A> {
    fn new(inner: S, limiter: &Arc<Limiter>) -> Self {
        Self {
            inner,
            limiter: Arc::clone(limiter),
            answers: PhantomData,
        }
    }

    /// `None` for a request by nobody in particular.
    fn check<B>(&self, request: &Request<B>) -> Option<Outcome> {
        let context = request.extensions().get::<RequestContext>()?;
        let key = context.identity.key()?;
        let now = context.received.tick;
        Some(self.limiter.check(key.id, key.rate_limit, now))
    }
}

impl<S, A, B, R> Service<Request<B>> for RateLimit<S, A>
where
    S: Service<Request<B>, Response = Response<R>>,
    A: Answers<R>,
{
    type Response = Response<problem::Body<A::Inner>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, A>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let standing = match self.check(&request) {
            None => None,
            Some(Outcome::Admitted(standing)) => Some(standing),
            Some(Outcome::Limited(standing)) => {
                let refusing = Some(refuse(&mut request));
                return ResponseFuture::of(State::Refused { refusing, standing });
            }
        };
        let future = self.inner.call(request);
        ResponseFuture::of(State::Inner { future, standing })
    }
}

fn refuse<B>(request: &mut Request<B>) -> Refusing {
    let context = request.extensions().get::<RequestContext>();
    let identity = context.map_or(Identity::ANONYMOUS, |context| context.identity.clone());
    Refusing::of(request, Refusal::RateLimited, identity)
}

fn refused<R>(refusing: Refusing, standing: &Standing) -> Response<problem::Body<R>> {
    let mut response = refusing.response();
    let retry_after = HeaderValue::from(standing.reset.max(1));
    response
        .headers_mut()
        .insert(header::RETRY_AFTER, retry_after);
    fields::append(response.headers_mut(), standing);
    response
}

pin_project! {
    /// The response of the inner service with the key's standing, or the refusal.
    #[derive(Debug)]
    pub struct ResponseFuture<F, A = Around> {
        #[pin]
        state: State<F>,
        answers: PhantomData<A>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = Projected]
    enum State<F> {
        Inner { #[pin] future: F, standing: Option<Standing> },
        Refused { refusing: Option<Refusing>, standing: Standing },
    }
}

impl<F, A> ResponseFuture<F, A> {
    const fn of(state: State<F>) -> Self {
        Self {
            state,
            answers: PhantomData,
        }
    }
}

impl<F, A, R, E> Future for ResponseFuture<F, A>
where
    F: Future<Output = Result<Response<R>, E>>,
    A: Answers<R>,
{
    type Output = Result<Response<problem::Body<A::Inner>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            Projected::Inner { future, standing } => {
                let mut response = ready!(A::poll(future, cx))?;
                if let Some(standing) = standing {
                    fields::append(response.headers_mut(), standing);
                }
                Poll::Ready(Ok(response))
            }
            Projected::Refused { refusing, standing } => match refusing.take() {
                Some(refusing) => Poll::Ready(Ok(refused(refusing, standing))),
                // As any future that has given its output.
                None => Poll::Pending,
            },
        }
    }
}
