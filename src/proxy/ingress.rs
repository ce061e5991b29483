//! The outermost layer: what a request is called, whose it is, where it goes.

use std::cell::RefCell;
use std::future::Future;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use arc_swap::{ArcSwap, Cache};
use bytes::Bytes;
use http::header::ORIGIN;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body::Body;
use hyper::ext::Protocol;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::meters::Meters;
use super::websocket::WEBSOCKET;
use super::{ClientAddressRule, grpc, target};
use crate::clock::{Clock, Now};
use crate::context::{ClientCertificate, Identity, Peer, Refused, RequestContext, RequestId};
use crate::problem::{self, Answers, Around, Inside, Within};
use crate::refusal::Refusal;
use crate::route::{Cors, Route, RouteTable};
use crate::usage::refusals::RefusalCounter;

/// Names, places and routes requests: see [`Ingress`]. One for each worker.
#[derive(Clone, Debug)]
pub struct IngressLayer<C>(Rc<Shared<C>>);

#[derive(Debug)]
struct Shared<C> {
    routes: RefCell<Cache<Arc<ArcSwap<RouteTable>>, Arc<RouteTable>>>,
    client_address: ClientAddressRule,
    clock: Clock,
    refusals: C,
    meters: Meters,
}

impl<C> IngressLayer<C> {
    /// `routes` may be swapped while requests are served. What is refused here
    /// is counted in `refusals`.
    pub fn new(
        routes: Arc<ArcSwap<RouteTable>>,
        client_address: ClientAddressRule,
        refusals: C,
        clock: Clock,
    ) -> Self {
        Self(Rc::new(Shared {
            routes: RefCell::new(Cache::new(routes)),
            client_address,
            clock,
            refusals,
            meters: Meters::default(),
        }))
    }
}

impl<S, C> Layer<S> for IngressLayer<C> {
    type Service = Ingress<S, C>;

    fn layer(&self, inner: S) -> Ingress<S, C> {
        Ingress::new(inner, self)
    }
}

impl<S, C> Layer<S> for Within<IngressLayer<C>> {
    type Service = Ingress<S, C, Inside>;

    fn layer(&self, inner: S) -> Ingress<S, C, Inside> {
        Ingress::new(inner, &self.0)
    }
}

/// Puts a [`RequestContext`] on every request that has a route, and answers
/// the others: 400, 404, 413 by the announced length, 501, and CORS preflights.
/// Every answer carries the request's `X-Request-Id`.
#[derive(Debug)]
pub struct Ingress<S, C, A = Around> {
    inner: S,
    shared: Rc<Shared<C>>,
    peer: Option<Peer>,
    certificate: Option<Arc<ClientCertificate>>,
    answers: PhantomData<A>,
}

impl<S, C, A> Ingress<S, C, A> {
    fn new(inner: S, layer: &IngressLayer<C>) -> Self {
        Self {
            inner,
            shared: Rc::clone(&layer.0),
            peer: None,
            certificate: None,
            answers: PhantomData,
        }
    }
}

impl<S: Clone, C, A> Clone for Ingress<S, C, A> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Rc::clone(&self.shared),
            peer: self.peer,
            certificate: self.certificate.clone(),
            answers: PhantomData,
        }
    }
}

impl<S: Clone, C, A> Ingress<S, C, A> {
    /// The same for the requests of a connection with `peer`.
    pub fn for_peer(&self, peer: IpAddr) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: Rc::clone(&self.shared),
            peer: Some(self.shared.client_address.peer(peer)),
            certificate: None,
            answers: PhantomData,
        }
    }

    /// The same for a connection over TLS, in which the client may have shown a
    /// certificate.
    pub fn over_tls(self, certificate: Option<Arc<ClientCertificate>>) -> Self {
        let secure = |peer| Peer {
            secure: true,
            ..peer
        };
        Self {
            peer: self.peer.map(secure),
            certificate,
            ..self
        }
    }
}

impl<S, C, A, B, R> Service<Request<B>> for Ingress<S, C, A>
where
    S: Service<Request<B>, Response = Response<R>>,
    C: RefusalCounter,
    A: Answers<R>,
    B: Body,
    R: Body<Data = Bytes>,
{
    type Response = Response<problem::Body<A::Inner>>;
    type Error = S::Error;
    type Future = IngressFuture<S::Future, A, A::Inner, C>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let received = self.shared.clock.now();
        let request_id = RequestId::of(request.headers(), received.wall);
        let is_grpc = grpc::is_grpc(&request);
        let client = self
            .peer
            .map(|peer| self.shared.client_address.client(peer, request.headers()));
        let (state, route) = match self.place(&mut request, received, client, &request_id) {
            Ok(Placed::Routed(route, cors)) => {
                let future = self.inner.call(request);
                (State::Inner { future, cors }, Some(route))
            }
            Ok(Placed::Preflight(route, headers)) => {
                (State::answered(no_content(headers)), Some(route))
            }
            Err(misplaced) => {
                let (refusal, route) = (misplaced.refusal, misplaced.route.clone());
                let name = route.as_ref().map(|route| route.name.shared());
                self.shared
                    .refusals
                    .count(received.wall, name, refusal, client);
                (State::answered(misplaced.answer(&request_id)), route)
            }
        };
        IngressFuture {
            state,
            is_grpc,
            request_id,
            asked: Asked {
                shared: Rc::clone(&self.shared),
                route,
                received,
            },
            answers: PhantomData,
        }
    }
}

/// What is measured of a request.
#[derive(Debug)]
struct Asked<C> {
    shared: Rc<Shared<C>>,
    route: Option<Arc<Route>>,
    received: Now,
}

impl<C> Asked<C> {
    /// Whether it was refused.
    fn answered<R>(&self, response: &Response<R>) -> bool {
        let refused = response.extensions().get::<Refused>();
        let route = self.route.as_ref().map(|route| route.name.shared());
        let after = self.shared.clock.last_tick().since(self.received.tick);
        self.shared
            .meters
            .answered(route, refused.map(|refused| refused.refusal), after);
        refused.is_some()
    }
}

/// Where a request goes.
enum Placed {
    Routed(Arc<Route>, Option<Marking>),
    /// Nowhere: the answer is here.
    Preflight(Arc<Route>, HeaderMap),
}

/// Why it goes nowhere, and the page that may read so.
struct Misplaced {
    refusal: Refusal,
    route: Option<Arc<Route>>,
    cors: Option<Marking>,
}

impl From<Refusal> for Misplaced {
    fn from(refusal: Refusal) -> Self {
        Self {
            refusal,
            route: None,
            cors: None,
        }
    }
}

impl Misplaced {
    fn answer<R>(self, request_id: &RequestId) -> Response<problem::Body<R>> {
        let refused = Refused {
            refusal: self.refusal,
            identity: Identity::ANONYMOUS,
        };
        let mut response = refused.into_response(Some(request_id));
        if let Some(cors) = self.cors {
            cors.mark(response.headers_mut());
        }
        response
    }
}

impl<S, C, A> Ingress<S, C, A> {
    fn place<B: Body>(
        &self,
        request: &mut Request<B>,
        received: Now,
        client: Option<IpAddr>,
        request_id: &RequestId,
    ) -> Result<Placed, Misplaced> {
        target::check_transfer_coding(request.headers())?;
        target::check(request)?;
        let host = target::host_of(request)?;
        let mut routes = self.shared.routes.borrow_mut();
        let routes = routes.load();
        let route = routes.find(host.as_ref(), request.uri().path())?;
        target::to_origin_form(request)?;
        let cors = match &route.cors {
            Some(cors) if Cors::is_preflight(request.method(), request.headers()) => {
                let answer = cors.answer_preflight(request.headers());
                return Ok(Placed::Preflight(Arc::clone(route), answer));
            }
            Some(_) => Some(Marking {
                route: Arc::clone(route),
                origin: request.headers().get(ORIGIN).cloned(),
            }),
            None => None,
        };
        if *request.method() == Method::CONNECT {
            if !opens_a_websocket(request, route) {
                return Err(Misplaced {
                    refusal: Refusal::UnsupportedProtocol,
                    route: Some(Arc::clone(route)),
                    cors,
                });
            }
            // What it is in HTTP/1.1: the same permission is asked for.
            *request.method_mut() = Method::GET;
        }
        if let Some(limit) = route.body_limit
            && request.body().size_hint().lower() > limit
        {
            return Err(Misplaced {
                refusal: Refusal::BodyTooLarge,
                route: Some(Arc::clone(route)),
                cors,
            });
        }
        let context = RequestContext {
            received,
            client,
            peer: self.peer,
            certificate: self.certificate.clone(),
            request_id: request_id.clone(),
            route: Arc::clone(route),
            identity: Identity::ANONYMOUS,
        };
        request.extensions_mut().insert(context);
        Ok(Placed::Routed(Arc::clone(route), cors))
    }
}

fn opens_a_websocket<B>(request: &Request<B>, route: &Route) -> bool {
    let protocol = request.extensions().get::<Protocol>();
    protocol.is_some_and(|protocol| protocol.as_ref().eq_ignore_ascii_case(WEBSOCKET))
        && route.tunnels.protocol(WEBSOCKET).is_some()
}

fn no_content<R>(headers: HeaderMap) -> Response<problem::Body<R>> {
    let mut response = Response::new(problem::Body::empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    *response.headers_mut() = headers;
    response
}

/// Marks an answer for the page that asked.
#[derive(Debug)]
struct Marking {
    route: Arc<Route>,
    origin: Option<HeaderValue>,
}

impl Marking {
    fn mark(&self, headers: &mut HeaderMap) {
        if let Some(cors) = &self.route.cors {
            cors.mark(self.origin.as_ref(), headers);
        }
    }
}

pin_project! {
    /// The answer, with the request's name on it.
    #[derive(Debug)]
    pub struct IngressFuture<F, A, R, C> {
        #[pin]
        state: State<F, R>,
        is_grpc: bool,
        request_id: RequestId,
        asked: Asked<C>,
        answers: PhantomData<A>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = StateProjected]
    enum State<F, R> {
        Inner { #[pin] future: F, cors: Option<Marking> },
        Answered { response: Option<Box<Response<problem::Body<R>>>> },
    }
}

impl<F, R> State<F, R> {
    fn answered(response: Response<problem::Body<R>>) -> Self {
        Self::Answered {
            response: Some(Box::new(response)),
        }
    }
}

impl<F, A, R, C, E> Future for IngressFuture<F, A, A::Inner, C>
where
    F: Future<Output = Result<Response<R>, E>>,
    A: Answers<R>,
{
    type Output = Result<Response<problem::Body<A::Inner>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(poll_state::<F, A, R, E>(this.state, cx))?;
        let is_refused = this.asked.answered(&response);
        // A refusal says it already, as a rule.
        if !is_refused || !response.headers().contains_key(RequestId::FIELD) {
            let request_id = this.request_id.to_header();
            response.headers_mut().insert(RequestId::FIELD, request_id);
        }
        if *this.is_grpc {
            grpc::spell(&mut response);
        }
        Poll::Ready(Ok(response))
    }
}

fn poll_state<F, A, R, E>(
    state: Pin<&mut State<F, A::Inner>>,
    cx: &mut Context<'_>,
) -> Poll<Result<Response<problem::Body<A::Inner>>, E>>
where
    F: Future<Output = Result<Response<R>, E>>,
    A: Answers<R>,
{
    match state.project() {
        StateProjected::Inner { future, cors: None } => A::poll(future, cx),
        StateProjected::Inner {
            future,
            cors: Some(cors),
        } => {
            let mut response = ready!(A::poll(future, cx))?;
            cors.mark(response.headers_mut());
            Poll::Ready(Ok(response))
        }
        StateProjected::Answered { response } => match response.take() {
            Some(response) => Poll::Ready(Ok(*response)),
            None => Poll::Pending,
        },
    }
}
