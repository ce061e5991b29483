//! A Tower service, as hyper calls it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::header::CONNECTION;
use http::{HeaderValue, Request, Response, StatusCode, Version};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::activity::{Activity, InFlight};
use super::crumbs;
use super::registry::Registry;
use super::response_body::WatchedBody;
use super::tunnel::Switched;
use crate::context::tunnel::Tunnel;

/// A Tower service for the requests of one connection. HTTP/1 has one at a
/// time, so the service is not cloned for each; HTTP/2 has many.
pub(super) struct Served<S, B> {
    service: Rc<RefCell<S>>,
    activity: Rc<Activity>,
    max_headers: usize,
    leaving: Option<Rc<Registry>>,
    switched: Slot<B>,
}

/// Where the tunnel is left that a connection goes on as.
pub(super) type Slot<B> = Rc<Cell<Option<Box<Switched<B>>>>>;

impl<S, B> Served<S, B> {
    /// `max_headers` is for HTTP/2: of HTTP/1, the parser counts them. Answers say
    /// that they are the last once the worker is `leaving`, where one is given.
    pub(super) fn new(
        service: S,
        activity: Rc<Activity>,
        max_headers: usize,
        leaving: Option<Rc<Registry>>,
    ) -> Self {
        Self {
            service: Rc::new(RefCell::new(service)),
            activity,
            max_headers,
            leaving,
            switched: Slot::default(),
        }
    }

    pub(super) fn slot(&self) -> Slot<B> {
        Rc::clone(&self.switched)
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Served<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone,
{
    type Response = Response<WatchedBody<B>>;
    type Error = S::Error;
    type Future = Answer<S, B>;

    fn call(&self, mut request: Request<Incoming>) -> Answer<S, B> {
        let state = if request.version() != Version::HTTP_2 {
            State::waiting(Rc::clone(&self.service), request)
        } else if request.headers().len() > self.max_headers {
            State::TooManyHeaders
        } else {
            crumbs::join(request.headers_mut());
            let service = self.service.borrow().clone();
            State::waiting(Rc::new(RefCell::new(service)), request)
        };
        Answer {
            state,
            in_flight: Some(self.activity.request_begins()),
            leaving: self.leaving.clone(),
            switched: Rc::clone(&self.switched),
        }
    }
}

pin_project! {
    /// Waits until the service is ready, then for its response.
    pub(super) struct Answer<S, B>
    where
        S: Service<Request<Incoming>>,
    {
        #[pin]
        state: State<S, S::Future>,
        in_flight: Option<InFlight>,
        leaving: Option<Rc<Registry>>,
        switched: Slot<B>,
    }
}

pin_project! {
    #[project = StateProjected]
    enum State<S, F> {
        Waiting { service: Rc<RefCell<S>>, request: Option<Request<Incoming>> },
        Called { #[pin] future: F },
        TooManyHeaders,
    }
}

impl<S, F> State<S, F> {
    const fn waiting(service: Rc<RefCell<S>>, request: Request<Incoming>) -> Self {
        Self::Waiting {
            service,
            request: Some(request),
        }
    }
}

impl<S, B> Future for Answer<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    type Output = Result<Response<WatchedBody<B>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            let future = match this.state.as_mut().project() {
                StateProjected::Waiting { service, request } => {
                    let mut service = service.borrow_mut();
                    ready!(service.poll_ready(cx))?;
                    let Some(request) = request.take() else {
                        return Poll::Pending;
                    };
                    service.call(request)
                }
                StateProjected::TooManyHeaders => {
                    let Some(in_flight) = this.in_flight.take() else {
                        return Poll::Pending;
                    };
                    let mut refusal = Response::new(WatchedBody::none(in_flight.answered()));
                    *refusal.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
                    return Poll::Ready(Ok(refusal));
                }
                StateProjected::Called { future } => {
                    let mut response = ready!(future.poll(cx))?;
                    let Some(in_flight) = this.in_flight.take() else {
                        return Poll::Pending;
                    };
                    let in_flight = in_flight.answered();
                    let tunnel = tunnel_of(&mut response);
                    if tunnel.is_none() && this.leaving.as_ref().is_some_and(|of| of.is_leaving()) {
                        // hyper closes the connection behind it.
                        let headers = response.headers_mut();
                        headers.insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    return Poll::Ready(Ok(response.map(|body| match tunnel {
                        None => WatchedBody::new(body, in_flight),
                        Some(tunnel) => {
                            let switched = Box::new(Switched { tunnel, body });
                            this.switched.set(Some(switched));
                            WatchedBody::none(in_flight)
                        }
                    })));
                }
            };
            this.state.set(State::Called { future });
        }
    }
}

fn tunnel_of<B>(response: &mut Response<B>) -> Option<Tunnel> {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    switches.then(|| response.extensions_mut().remove())?
}
