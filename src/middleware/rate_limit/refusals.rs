//! Where an identified key stands that was refused for another reason.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::fields;
use crate::clock::Clock;
use crate::context::Refused;
use crate::limiter::Limiter;
use crate::refusal::Refusal;

/// Adds where a key stands to refusals by layers between this and
/// [`RateLimitLayer`](super::RateLimitLayer), which never saw the request. An
/// answer that must not tell whether the key exists does not tell this either.
#[derive(Clone, Debug)]
pub struct RateLimitRefusalsLayer {
    limiter: Arc<Limiter>,
    clock: Clock,
}

impl RateLimitRefusalsLayer {
    pub const fn new(limiter: Arc<Limiter>, clock: Clock) -> Self {
        Self { limiter, clock }
    }

    fn tell<R>(&self, response: &mut Response<R>) {
        let Some(refused) = response.extensions().get::<Refused>() else {
            return;
        };
        let untold = matches!(
            refused.refusal,
            Refusal::AddressDenied | Refusal::PermissionDenied
        );
        let Some(key) = refused.identity.key().filter(|_| untold) else {
            return;
        };
        let now = self.clock.tick();
        let standing = self.limiter.peek(key.id, key.rate_limit, now);
        fields::append(response.headers_mut(), &standing);
    }
}

impl<S> Layer<S> for RateLimitRefusalsLayer {
    type Service = RateLimitRefusals<S>;

    fn layer(&self, inner: S) -> RateLimitRefusals<S> {
        RateLimitRefusals {
            inner,
            // One for each stack, so that threads do not share its count.
            rules: Arc::new(self.clone()),
        }
    }
}

/// What [`RateLimitRefusalsLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct RateLimitRefusals<S> {
    inner: S,
    rules: Arc<RateLimitRefusalsLayer>,
}

impl<S, Q, R> Service<Q> for RateLimitRefusals<S>
where
    S: Service<Q, Response = Response<R>>,
{
    type Response = Response<R>;
    type Error = S::Error;
    type Future = RefusalsFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Q) -> Self::Future {
        RefusalsFuture {
            future: self.inner.call(request),
            rules: Arc::clone(&self.rules),
        }
    }
}

pin_project! {
    /// The response of the inner service.
    #[derive(Debug)]
    pub struct RefusalsFuture<F> {
        #[pin]
        future: F,
        rules: Arc<RateLimitRefusalsLayer>,
    }
}

impl<F, R, E> Future for RefusalsFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        let mut response = ready!(this.future.poll(cx))?;
        this.rules.tell(&mut response);
        Poll::Ready(Ok(response))
    }
}
