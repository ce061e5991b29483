//! What a request passes, outermost first.

use std::convert::Infallible;
use std::num::NonZeroUsize;
use std::rc::Rc;
use std::sync::Arc;

use arc_swap::ArcSwap;
use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use tower::ServiceBuilder;
use tower_service::Service;

use crate::clock::Clock;
use crate::limiter::Limiter;
use crate::middleware::streams::StreamBody;
use crate::middleware::{
    ApiKeyAuthLayer, RateLimitLayer, RateLimitRefusalsLayer, RefusalUsageLayer, UsageLayer, usage,
};
use crate::problem::{self, Inside, Within};
use crate::proxy::{self, ClientAddressRule, Ingress, IngressLayer, Upstreams, Vouching};
use crate::route::RouteTable;
use crate::usage::journal::Writer;
use crate::usage::refusals::{RefusalTally, Refusals};

/// What the stacks of all workers share.
pub(super) struct Parts {
    pub(super) clock: Clock,
    pub(super) routes: Arc<ArcSwap<RouteTable>>,
    pub(super) upstreams: Arc<ArcSwap<Upstreams>>,
    pub(super) vouching: Vouching,
    /// What of them also holds where somebody else forwards.
    pub(super) decision_routes: Arc<ArcSwap<RouteTable>>,
    pub(super) client_address: ClientAddressRule,
    /// The fields that may hold a token.
    pub(super) credentials: Vec<HeaderName>,
    pub(super) auth: ApiKeyAuthLayer,
    pub(super) limiter: Arc<Limiter>,
    /// One for each worker.
    pub(super) writers: Vec<Writer>,
    pub(super) refusals: Refusals,
}

impl Parts {
    /// The service of one worker, before it is told whom a connection is with.
    pub(super) fn stack(&self, worker: usize) -> Own<impl Inner + use<>> {
        // Sends it to its upstream: 502, 504, and 413 on the way.
        let forward = proxy::forward(
            Arc::clone(&self.upstreams),
            self.vouching.clone(),
            self.clock.clone(),
        );
        self.around(forward, worker, &self.routes, self.client_address.clone())
    }

    /// The service of a thread that only decides, before it is told whose the
    /// request is that it is asked about.
    pub(super) fn verdicts(&self, worker: usize) -> Own<impl Inner + use<>> {
        let decide = proxy::decide(Rc::from(&*self.credentials));
        // Whoever asks says whose the request is; no field of its client does.
        let asked = ClientAddressRule::new(Vec::new(), NonZeroUsize::MIN);
        self.around(decide, worker, &self.decision_routes, asked)
    }

    fn around<S>(
        &self,
        innermost: S,
        worker: usize,
        routes: &Arc<ArcSwap<RouteTable>>,
        client_address: ClientAddressRule,
    ) -> Own<impl Inner + use<S>>
    where
        S: Innermost,
    {
        let clock = || self.clock.clone();
        let writer = self.writers[worker % self.writers.len()].clone();
        let tally = || self.refusals.tally(worker);
        let limiter = || Arc::clone(&self.limiter);
        ServiceBuilder::new()
            // Names, places and routes the request; 400, 404, 413 and preflights end here.
            .layer(Within(IngressLayer::new(
                Arc::clone(routes),
                client_address,
                tally(),
                clock(),
            )))
            // Records what is refused further in.
            .layer(RefusalUsageLayer::new(writer.clone(), tally(), clock()))
            // Tells a refused but identified key where it stands.
            .layer(RateLimitRefusalsLayer::new(limiter(), clock()))
            // Whose it is, and whether they may: 401, 403, 503.
            .layer(Within(self.auth.clone()))
            // Whether they may now: 429.
            .layer(Within(RateLimitLayer::new(limiter())))
            // Records what is admitted, before its end can be seen.
            .layer(UsageLayer::new(writer, clock()))
            // Cuts what still flows when its key loses the right to it.
            .layer(self.auth.streams())
            // What is done with what is admitted.
            .service(innermost)
    }
}

/// What lies inside of all layers.
pub(super) trait Innermost:
    Service<
        Request<StreamBody<usage::RequestBody<Incoming>>>,
        Response = Response<Self::Body>,
        Error = Infallible,
        Future: 'static,
    > + Clone
    + 'static
{
    type Body: Body<Data = Bytes, Error: Into<BoxError> + 'static> + 'static;
}

impl<S, B> Innermost for S
where
    S: Service<
            Request<StreamBody<usage::RequestBody<Incoming>>>,
            Response = Response<B>,
            Error = Infallible,
            Future: 'static,
        > + Clone
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError> + 'static> + 'static,
{
    type Body = B;
}

/// The outermost service. From here to the usage layer all answer in one body.
type Own<S> = Ingress<S, RefusalTally, Inside>;

/// What lies inside of the ingress.
pub(super) trait Inner:
    Service<
        Request<Incoming>,
        Response = Response<problem::Body<Self::Body>>,
        Error = Infallible,
        Future: 'static,
    > + Clone
    + 'static
{
    type Body: Body<Data = Bytes, Error: Into<BoxError>> + 'static;
}

impl<S, B> Inner for S
where
    S: Service<
            Request<Incoming>,
            Response = Response<problem::Body<B>>,
            Error = Infallible,
            Future: 'static,
        > + Clone
        + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    type Body = B;
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;
