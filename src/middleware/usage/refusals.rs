//! What was refused: recorded for a known key, counted otherwise.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::{Method, Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::Recorded;
use super::open::micros;
use crate::clock::{Clock, Now};
use crate::context::{Refused, RequestContext};
use crate::middleware::arrival;
use crate::route::Route;
use crate::usage::event::Ended;
use crate::usage::recorder::{Completion, Decision, Recorder};
use crate::usage::refusals::RefusalCounter;

/// Sees the refusals of every layer inside of it: those of a known key become
/// records, the others are counted.
#[derive(Clone, Debug)]
pub struct RefusalUsageLayer<R, C> {
    recorder: R,
    counter: C,
    clock: Clock,
}

impl<R, C> RefusalUsageLayer<R, C> {
    pub const fn new(recorder: R, counter: C, clock: Clock) -> Self {
        Self {
            recorder,
            counter,
            clock,
        }
    }
}

impl<S, R: Clone, C: Clone> Layer<S> for RefusalUsageLayer<R, C> {
    type Service = RefusalUsage<S, R, C>;

    fn layer(&self, inner: S) -> RefusalUsage<S, R, C> {
        RefusalUsage {
            inner,
            // One for each stack, so that threads do not share its count.
            records: Arc::new(self.clone()),
        }
    }
}

/// What [`RefusalUsageLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct RefusalUsage<S, R, C> {
    inner: S,
    records: Arc<RefusalUsageLayer<R, C>>,
}

/// What of a request is needed, should it be refused.
#[derive(Debug)]
struct Asked {
    received: Now,
    client: Option<IpAddr>,
    route: Arc<Route>,
    method: Method,
}

impl Asked {
    fn of<B>(request: &Request<B>) -> Option<Self> {
        let context = request.extensions().get::<RequestContext>()?;
        Some(Self {
            received: context.received,
            client: context.client,
            route: Arc::clone(&context.route),
            method: request.method().clone(),
        })
    }
}

impl<R: Recorder, C: RefusalCounter> RefusalUsageLayer<R, C> {
    fn record<T: Body>(&self, asked: &Asked, response: &Response<T>) {
        let extensions = response.extensions();
        let Some(refused) = extensions.get::<Refused>() else {
            return;
        };
        let (at, refusal) = (asked.received.wall, refused.refusal);
        let Some(key) = refused.identity.key() else {
            let route = Some(asked.route.name.shared());
            self.counter.count(at, route, refusal, asked.client);
            return;
        };
        if extensions.get::<Recorded>().is_some() {
            return;
        }
        let decision = Decision {
            occurred_at: at,
            key_id: key.id,
            route: &asked.route.name,
            method: &asked.method,
            client: asked.client,
        };
        let completion = Completion {
            status: response.status().as_u16(),
            ended: Ended::Complete,
            request_bytes: 0,
            response_bytes: response.body().size_hint().exact().unwrap_or(0),
            duration_us: micros(self.clock.tick().since(asked.received.tick)),
            upstream_us: 0,
        };
        self.recorder.refuse(&decision, refusal, &completion);
    }
}

impl<S, R, C, B, T> Service<Request<B>> for RefusalUsage<S, R, C>
where
    S: Service<Request<B>, Response = Response<T>>,
    R: Recorder,
    C: RefusalCounter,
    T: Body,
{
    type Response = Response<T>;
    type Error = S::Error;
    type Future = RefusalUsageFuture<S::Future, R, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        arrival::ensure_context(&mut request, &self.records.clock);
        RefusalUsageFuture {
            asked: Asked::of(&request),
            future: self.inner.call(request),
            records: Arc::clone(&self.records),
        }
    }
}

pin_project! {
    /// The response of the inner service.
    #[derive(Debug)]
    pub struct RefusalUsageFuture<F, R, C> {
        #[pin]
        future: F,
        asked: Option<Asked>,
        records: Arc<RefusalUsageLayer<R, C>>,
    }
}

impl<F, R, C, T, E> Future for RefusalUsageFuture<F, R, C>
where
    F: Future<Output = Result<Response<T>, E>>,
    R: Recorder,
    C: RefusalCounter,
    T: Body,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = self.project();
        // Only looked at: the response is not moved for it.
        let polled = this.future.poll(cx);
        if let (Poll::Ready(Ok(response)), Some(asked)) = (&polled, this.asked) {
            this.records.record(asked, response);
        }
        polled
    }
}
