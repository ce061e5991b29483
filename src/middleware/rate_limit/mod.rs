//! How often: a key's limit, and the fields that tell a client of it.

mod fields;
mod refusals;

pub use refusals::{RateLimitRefusals, RateLimitRefusalsLayer, RefusalsFuture};

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::{HeaderValue, Request, Response, header};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use crate::context::{Identity, Refused, RequestContext};
use crate::limiter::{Limiter, Outcome, Standing};
use crate::problem;
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
        RateLimit {
            inner,
            limiter: Arc::clone(&self.limiter),
        }
    }
}

/// What [`RateLimitLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct RateLimit<S> {
    inner: S,
    limiter: Arc<Limiter>,
}

impl<S> RateLimit<S> {
    /// `None` for a request by nobody in particular.
    fn check<B>(&self, request: &Request<B>) -> Option<Outcome> {
        let context = request.extensions().get::<RequestContext>()?;
        let key = context.identity.key()?;
        let now = context.received.tick;
        Some(self.limiter.check(key.id, key.rate_limit, now))
    }
}

impl<S, B, R> Service<Request<B>> for RateLimit<S>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Response = Response<problem::Body<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future, R>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let standing = match self.check(&request) {
            None => None,
            Some(Outcome::Admitted(standing)) => Some(standing),
            Some(Outcome::Limited(standing)) => {
                let response = Some(refuse(&request, &standing));
                return ResponseFuture::Refused { response };
            }
        };
        ResponseFuture::Inner {
            future: self.inner.call(request),
            standing,
        }
    }
}

fn refuse<B, R>(request: &Request<B>, standing: &Standing) -> Response<problem::Body<R>> {
    let context = request.extensions().get::<RequestContext>();
    let refused = Refused {
        refusal: Refusal::RateLimited,
        identity: context.map_or(Identity::ANONYMOUS, |context| context.identity.clone()),
    };
    let mut response = refused.into_response(context.map(|context| &context.request_id));
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
    #[project = Projected]
    pub enum ResponseFuture<F, R> {
        Inner { #[pin] future: F, standing: Option<Standing> },
        Refused { response: Option<Response<problem::Body<R>>> },
    }
}

impl<F, R, E> Future for ResponseFuture<F, R>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = Result<Response<problem::Body<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            Projected::Inner { future, standing } => {
                let mut response = ready!(future.poll(cx))?;
                if let Some(standing) = standing {
                    fields::append(response.headers_mut(), standing);
                }
                Poll::Ready(Ok(response.map(problem::Body::inner)))
            }
            Projected::Refused { response } => match response.take() {
                Some(response) => Poll::Ready(Ok(response)),
                // As any future that has given its output.
                None => Poll::Pending,
            },
        }
    }
}
