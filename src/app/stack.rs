//! What a request passes, outermost first.

use std::convert::Infallible;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tower::ServiceBuilder;
use tower_service::Service;

use crate::clock::Clock;
use crate::limiter::Limiter;
use crate::middleware::{
    ApiKeyAuthLayer, RateLimitLayer, RateLimitRefusalsLayer, RefusalUsageLayer, UsageLayer,
};
use crate::proxy::{self, ClientAddressRule, Ingress, IngressLayer, Upstreams};
use crate::route::RouteTable;
use crate::usage::journal::Writer;
use crate::usage::refusals::{RefusalTally, Refusals};

/// What the stacks of all workers share.
pub(super) struct Parts {
    pub(super) clock: Clock,
    pub(super) routes: Arc<ArcSwap<RouteTable>>,
    pub(super) upstreams: Arc<ArcSwap<Upstreams>>,
    pub(super) client_address: ClientAddressRule,
    pub(super) auth: ApiKeyAuthLayer,
    pub(super) limiter: Arc<Limiter>,
    /// One for each worker.
    pub(super) writers: Vec<Writer>,
    pub(super) refusals: Refusals,
}

impl Parts {
    /// The service of one worker, before it is told whom a connection is with.
    pub(super) fn stack(&self, worker: usize) -> Ingress<impl Inner + use<>, RefusalTally> {
        let clock = || self.clock.clone();
        let writer = self.writers[worker % self.writers.len()].clone();
        let tally = || self.refusals.tally(worker);
        let limiter = || Arc::clone(&self.limiter);
        ServiceBuilder::new()
            // Names, places and routes the request; 400, 404, 413 and preflights end here.
            .layer(IngressLayer::new(
                Arc::clone(&self.routes),
                self.client_address.clone(),
                tally(),
                clock(),
            ))
            // Records what is refused further in.
            .layer(RefusalUsageLayer::new(writer.clone(), tally(), clock()))
            // Tells a refused but identified key where it stands.
            .layer(RateLimitRefusalsLayer::new(limiter(), clock()))
            // Whose it is, and whether they may: 401, 403, 503.
            .layer(self.auth.clone())
            // Whether they may now: 429.
            .layer(RateLimitLayer::new(limiter()))
            // Records what is admitted, before its end can be seen.
            .layer(UsageLayer::new(writer, clock()))
            // Sends it to its upstream: 502, 504, and 413 on the way.
            .service(proxy::forward(Arc::clone(&self.upstreams), clock()))
    }
}

/// What lies inside of the ingress.
pub(super) trait Inner:
    Service<Request<Incoming>, Response = Response<Self::Body>, Error = Infallible, Future: 'static>
    + Clone
    + 'static
{
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + 'static;
}

impl<S, B> Inner for S
where
    S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible, Future: 'static>
        + Clone
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    type Body = B;
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
