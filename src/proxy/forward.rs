//! Sending an admitted request to its upstream.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::header::UPGRADE;
use http::{Extensions, HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::ext::Protocol;
use tokio::time::Instant;
use tower_service::Service;

use super::exchange::Exchange;
use super::head::{self, Heads, Rewritten, Vouching};
use super::lanes::Lanes;
use super::request_body::RequestBody;
use super::tunnel::{Switch, mark};
use super::upstream::{Set, Upstreams};
use super::way::Way;
use super::{BoxError, Failure, ResponseBody};
use super::{grpc, grpc_timeout};
use crate::clock::Clock;
use crate::context::RequestContext;
use crate::problem;

/// The answer of an upstream, or to a request that it did not answer.
pub type Forwarded<B> = Response<problem::Body<ResponseBody<B>>>;

/// The innermost service of a worker: forwards each request to its route's
/// upstream, on this worker's own connections. It takes the request's
/// extensions out, its [`RequestContext`] among them. What goes wrong becomes a response; where it is the
/// upstream's doing, an [`UpstreamFailure`](crate::context::UpstreamFailure)
/// is among its extensions.
///
/// To be called inside the worker's `LocalSet`. `upstreams` may be swapped
/// while requests are served; what it takes for them
/// to believe us is in `vouching`.
pub fn forward<B>(
    upstreams: Arc<ArcSwap<Upstreams>>,
    vouching: Vouching,
    clock: Clock,
) -> impl Service<
    Request<B>,
    Response = Forwarded<B>,
    Error = Infallible,
    Future = impl Future<Output = Result<Forwarded<B>, Infallible>>,
> + Clone
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let forwarder = Rc::new(Forwarder {
        lanes: Lanes::new(upstreams, clock.clone()),
        heads: Heads::new(vouching),
        clock,
    });
    tower::service_fn(move |mut request: Request<B>| {
        // As small as a pointer: the future is moved through every layer.
        let extensions = std::mem::take(request.extensions_mut());
        let exchange = match forwarder.begin(request, &extensions) {
            Ok((way, request)) => Exchange::new(way, request),
            Err(failure) => Exchange::failed(failure),
        };
        Forwarding {
            forwarder: Rc::clone(&forwarder),
            extensions,
            exchange,
        }
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
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    /// Rewrites the head, and finds out which way the request goes.
    fn begin(
        &self,
        mut request: Request<B>,
        extensions: &Extensions,
    ) -> Result<(Way<B>, Request<RequestBody<B>>), Failure> {
        let context: &RequestContext = extensions.get().ok_or(Failure::NoUpstream)?;
        let route = &*context.route;
        let (lane, waits) = self.lanes.engage(&route.upstream)?;
        let http2 = lane.upstream.config.http2;
        let waits_for = http2
            .then(|| grpc_timeout::timeout(request.headers()))
            .flatten();
        let timeout = route.timeout.into_iter().chain(waits_for).min();
        let deadline = timeout.map(|timeout| {
            let passed = self.clock.tick().since(context.received.tick);
            Instant::now() + timeout.saturating_sub(passed)
        });
        let may_switch = may_switch(&request);
        // The ingress lets in no other than a WebSocket.
        let tunnel = request.version() == Version::HTTP_2 && extensions.get::<Protocol>().is_some();
        if tunnel && http2 {
            return Err(Failure::NoTunnels);
        }
        let Rewritten { upgrade, lines } = self.heads.rewrite(
            request.headers_mut(),
            context,
            &lane.upstream,
            lane.target(),
        )?;
        let switch = if tunnel {
            Switch::for_http2(&route.tunnels)
        } else {
            // A stream of HTTP/2 cannot become a tunnel by an `Upgrade`.
            upgrade
                .filter(|_| may_switch && !http2)
                .and_then(|wish| Switch::listed(&wish, &route.tunnels))
        };
        let switch = switch
            .map(|switch| switch.admitted_by(&lane.upstream))
            .transpose()?;
        // Each message of gRPC comes when there is one; it needs HTTP/2 to its end.
        let is_grpc = http2 && grpc::is_grpc(&request);
        let pace = (!is_grpc).then_some(route.body_pace);
        if http2 {
            head::to_http2(&mut request, &lane.upstream);
        } else {
            if let Some(switch) = &switch {
                switch.mark(request.headers_mut());
            }
            *request.version_mut() = Version::HTTP_11;
        }
        let request = request.map(|body| RequestBody::new(body, route.body_limit, pace));
        let upload = request.body().upload();
        let lane_retries = lane.upstream.config.retry_percent > 0;
        let way = Way {
            lane,
            waits,
            tried: Set::EMPTY,
            may_repeat: http2 && lane_retries,
            upload,
            switch: switch.map(Box::new),
            lines,
            deadline,
        };
        Ok((way, request))
    }
}

/// Whether its connection may become another: only HTTP/1.1 has upgrades, and a
/// body would have to be sent before.
fn may_switch<B: Body>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_11
        && *request.method() == Method::GET
        && request.body().is_end_stream()
}

/// Of an answer that opens a tunnel: no other 101 comes this far.
fn agreed_protocol<B>(response: &Response<B>) -> Option<HeaderValue> {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    switches.then(|| response.headers().get(UPGRADE).cloned())?
}

/// The answer to one request, or what is said in its place.
struct Forwarding<B> {
    forwarder: Rc<Forwarder<B>>,
    extensions: Extensions,
    exchange: Exchange<B>,
}

impl<B> Future for Forwarding<B>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    type Output = Result<Forwarded<B>, Infallible>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        Poll::Ready(Ok(match ready!(Pin::new(&mut this.exchange).poll(cx)) {
            Ok(mut response) => {
                let agreed = agreed_protocol(&response);
                this.forwarder.heads.scrub_response(response.headers_mut());
                if let Some(protocol) = agreed {
                    mark(response.headers_mut(), protocol);
                }
                *response.version_mut() = Version::HTTP_11;
                let asked = std::mem::take(&mut this.extensions);
                response.map(|body| problem::Body::inner(body.of(asked)))
            }
            Err(failure) => {
                let context = this.extensions.get();
                log(&failure, context);
                failure.response(context)
            }
        }))
    }
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
