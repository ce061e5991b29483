//! What still flows when its key loses the right to it.
//!
//! A request is judged when it arrives. Its bodies may flow on for hours, and
//! are judged again whenever the key's record changes, and when the key
//! expires. A body that is there when it is asked for, as that of an ordinary
//! response, is never watched: a watch begins when a body makes its reader wait.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Method, Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::sleep;
use tower_layer::Layer;
use tower_service::Service;

use super::ApiKeyAuthLayer;
use crate::context::{RequestContext, Severed};
use crate::directory::Entry;
use crate::refusal::Refusal;
use crate::route::Route;

/// How long a body may go on after its right is lost: an ordinary answer that
/// is half way at that moment arrives whole, and a stream still ends well
/// within the 100 ms that a revocation may take.
const GRACE: Duration = Duration::from_millis(25);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Ends the bodies of requests whose key lost the right to them with the error
/// [`Severed`]. Made by [`ApiKeyAuthLayer::streams`], it belongs inside of
/// [`UsageLayer`](super::UsageLayer), which records why they ended.
#[derive(Clone, Debug)]
pub struct StreamsLayer(ApiKeyAuthLayer);

impl StreamsLayer {
    pub(super) const fn new(rules: ApiKeyAuthLayer) -> Self {
        Self(rules)
    }
}

impl<S> Layer<S> for StreamsLayer {
    type Service = Streams<S>;

    fn layer(&self, inner: S) -> Streams<S> {
        Streams {
            inner,
            // One for each stack, so that threads do not share its count.
            rules: Arc::new(self.0.clone()),
        }
    }
}

/// What [`StreamsLayer`] makes of a service.
#[derive(Clone, Debug)]
pub struct Streams<S> {
    inner: S,
    rules: Arc<ApiKeyAuthLayer>,
}

/// What one request was admitted by.
#[derive(Clone)]
struct Right {
    rules: Arc<ApiKeyAuthLayer>,
    entry: Arc<Entry>,
    route: Arc<Route>,
    method: Method,
    client: Option<IpAddr>,
}

impl Right {
    /// `None` for a request by nobody in particular.
    fn of<B>(request: &Request<B>, rules: &Arc<ApiKeyAuthLayer>) -> Option<Self> {
        let context = request.extensions().get::<RequestContext>()?;
        Some(Self {
            entry: Arc::clone(context.identity.entry()?),
            rules: Arc::clone(rules),
            route: Arc::clone(&context.route),
            method: request.method().clone(),
            client: context.client,
        })
    }

    /// Whether it may be lost already: its record was replaced, or has expired.
    fn is_outdated(&self) -> bool {
        let is_over = |at| at <= self.rules.now();
        !self.entry.is_current() || self.entry.key.expires_at().is_some_and(is_over)
    }

    /// Ends a moment after it is lost.
    #[cold]
    fn watch(self) -> BoxFuture<'static, Refusal> {
        let Self {
            rules,
            entry,
            route,
            method,
            client,
        } = self;
        let lost = rules.directory().clone().lost(entry, move |key, now| {
            let needed = route.access.required.of(&method);
            rules.verdict(key, needed, client, now)
        });
        Box::pin(async move {
            let refusal = lost.await;
            sleep(GRACE).await;
            refusal
        })
    }
}

/// What is known of a body's right to flow.
enum Guard {
    /// Nobody's, or it has ended.
    Off,
    /// Nobody had to wait for it yet.
    Held(Right),
    Watching(BoxFuture<'static, Refusal>),
}

impl From<Option<Right>> for Guard {
    fn from(right: Option<Right>) -> Self {
        right.map_or(Self::Off, Self::Held)
    }
}

impl Guard {
    fn watch(&mut self) {
        *self = match std::mem::replace(self, Self::Off) {
            Self::Held(right) => Self::Watching(right.watch()),
            other => other,
        };
    }

    /// Ready, once, when the right is lost.
    fn poll_lost(&mut self, cx: &mut Context<'_>) -> Poll<Severed> {
        let Self::Watching(watch) = self else {
            return Poll::Pending;
        };
        let refusal = ready!(watch.as_mut().poll(cx));
        *self = Self::Off;
        Poll::Ready(Severed(refusal))
    }

    fn is_outdated(&self) -> bool {
        matches!(self, Self::Held(right) if right.is_outdated())
    }
}

pin_project! {
    /// A body that ends with [`Severed`] when its key loses the right to it.
    pub struct StreamBody<B> {
        #[pin]
        inner: B,
        guard: Guard,
    }
}

impl<B: Body> StreamBody<B> {
    fn new(inner: B, right: Option<Right>) -> Self {
        let guard = if inner.is_end_stream() {
            Guard::Off
        } else {
            right.into()
        };
        Self { inner, guard }
    }
}

impl<B> Body for StreamBody<B>
where
    B: Body<Data = Bytes, Error: Into<BoxError>>,
{
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.project();
        if let Poll::Ready(severed) = this.guard.poll_lost(cx) {
            return Poll::Ready(Some(Err(severed.into())));
        }
        let frame = this.inner.poll_frame(cx);
        // What comes faster than it is taken makes nobody wait, and is looked
        // at when its record was replaced or has expired.
        let is_end = matches!(frame, Poll::Ready(None));
        if frame.is_pending() || !is_end && this.guard.is_outdated() {
            this.guard.watch();
            if let Poll::Ready(severed) = this.guard.poll_lost(cx) {
                return Poll::Ready(Some(Err(severed.into())));
            }
        }
        frame.map(|frame| frame.map(|frame| frame.map_err(Into::into)))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl<S, B, R> Service<Request<B>> for Streams<S>
where
    S: Service<Request<StreamBody<B>>, Response = Response<R>>,
    B: Body,
    R: Body,
{
    type Response = Response<StreamBody<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let right = Right::of(&request, &self.rules);
        let request = request.map(|body| {
            let of_body = (!body.is_end_stream()).then(|| right.clone()).flatten();
            StreamBody::new(body, of_body)
        });
        ResponseFuture {
            future: self.inner.call(request),
            right,
        }
    }
}

pin_project! {
    /// The response of the inner service, whose body is watched.
    pub struct ResponseFuture<F> {
        #[pin]
        future: F,
        right: Option<Right>,
    }
}

impl<F, R, E> Future for ResponseFuture<F>
where
    F: Future<Output = Result<Response<R>, E>>,
    R: Body,
{
    type Output = Result<Response<StreamBody<R>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.future.poll(cx))?;
        Poll::Ready(Ok(
            response.map(|body| StreamBody::new(body, this.right.take()))
        ))
    }
}

impl<B> std::fmt::Debug for StreamBody<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StreamBody").finish_non_exhaustive()
    }
}

impl<F> std::fmt::Debug for ResponseFuture<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
