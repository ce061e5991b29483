//! A Tower service, as hyper calls it.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use http_body::Body;
use hyper::body::Incoming;
use hyper::ext::Protocol;
use hyper::upgrade::{self, OnUpgrade};
use hyper_util::rt::TokioIo;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::activity::{Activity, InFlight};
use super::crumbs;
use super::registry::Registry;
use super::response_body::WatchedBody;
use super::tunnel::{self, Switched};
use crate::context::tunnel::Tunnel;

/// A Tower service for the requests of one connection. HTTP/1 has one at a
/// time, so the service is not cloned for each; HTTP/2 has many.
pub(super) struct Served<S, B> {
    service: Rc<RefCell<S>>,
    activity: Rc<Activity>,
    max_headers: usize,
    leaving: Option<Rc<Registry>>,
    tunnels: Tunnels<B>,
}

/// Where the tunnel is left that a connection goes on as.
pub(super) type Slot<B> = Rc<Cell<Option<Box<Switched<B>>>>>;

/// Where tunnels are.
pub(super) enum Tunnels<B> {
    /// HTTP/1: in the place of the connection.
    Connection(Slot<B>),
    /// HTTP/2: in streams beside others, whose client is waited for so long.
    Streams(Duration),
}

/// Where the tunnel goes that an answer may open.
enum Place<B> {
    Connection(Slot<B>),
    Stream(Box<Stream>),
    None,
}

struct Stream {
    upgrade: OnUpgrade,
    patience: Duration,
}

impl<S, B> Served<S, B> {
    /// `max_headers` is for HTTP/2: of HTTP/1, the parser counts them. Answers say
    /// that they are the last once the worker is `leaving`, where one is given, or
    /// the connection is old.
    pub(super) fn new(
        service: S,
        activity: Rc<Activity>,
        max_headers: usize,
        leaving: Option<Rc<Registry>>,
        tunnels: Tunnels<B>,
    ) -> Self {
        Self {
            service: Rc::new(RefCell::new(service)),
            activity,
            max_headers,
            leaving,
            tunnels,
        }
    }
}

impl<B> Tunnels<B> {
    fn place_for(&self, request: &mut Request<Incoming>) -> Place<B> {
        match self {
            Self::Connection(slot) => Place::Connection(Rc::clone(slot)),
            Self::Streams(patience)
                if *request.method() == Method::CONNECT
                    && request.extensions().get::<Protocol>().is_some() =>
            {
                Place::Stream(Box::new(Stream {
                    upgrade: upgrade::on(request),
                    patience: *patience,
                }))
            }
            Self::Streams(_) => Place::None,
        }
    }
}

impl<B> Place<B>
where
    B: Body<Data = Bytes> + 'static,
{
    /// Opens the tunnel where it goes. Gives the answer back what goes on with it.
    fn open(
        self,
        switched: Switched<B>,
        head: &mut Response<()>,
        in_flight: InFlight,
    ) -> Option<InFlight> {
        match self {
            Self::Connection(slot) => {
                slot.set(Some(Box::new(switched)));
                Some(in_flight)
            }
            Self::Stream(stream) => {
                // In HTTP/2 the word for it is another (RFC 8441, section 5).
                *head.status_mut() = StatusCode::OK;
                let headers = head.headers_mut();
                headers.remove(UPGRADE);
                headers.remove(CONNECTION);
                // Its time is bounded there.
                in_flight.is_asked();
                tokio::task::spawn_local(stream.run(switched, in_flight));
                None
            }
            Self::None => Some(in_flight),
        }
    }
}

impl Stream {
    async fn run<B>(self: Box<Self>, switched: Switched<B>, _open: InFlight)
    where
        B: Body<Data = Bytes> + 'static,
    {
        // An error means that the client has given it up.
        if let Ok(upgraded) = self.upgrade.await {
            let stream = TokioIo::new(upgraded);
            tunnel::run(stream, Bytes::new(), switched, self.patience).await;
        }
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Served<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone,
    B: Body<Data = Bytes> + 'static,
{
    type Response = Response<WatchedBody<B>>;
    type Error = S::Error;
    type Future = Answer<S, B>;

    fn call(&self, mut request: Request<Incoming>) -> Answer<S, B> {
        let in_flight = self.activity.request_begins();
        let place = self.tunnels.place_for(&mut request);
        let state = if request.version() != Version::HTTP_2 {
            State::asked(&self.service, request)
        } else if request.headers().len() > self.max_headers {
            State::TooManyHeaders
        } else {
            crumbs::join(request.headers_mut());
            let service = self.service.borrow().clone();
            State::asked(&Rc::new(RefCell::new(service)), request)
        };
        Answer {
            state,
            in_flight: Some(in_flight),
            leaving: self.leaving.clone(),
            place,
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
        place: Place<B>,
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

impl<S: Service<Request<Incoming>>> State<S, S::Future> {
    /// Calls the service at once when it is ready, as ours is: a request that
    /// waits is moved into the future and out of it again. What is said to nobody
    /// here, that it is not, is asked for again where somebody can be woken.
    ///
    /// One with a body waits all the same: hyper reads the beginning of it first,
    /// and would close the connection over a short one that is refused at once.
    fn asked(service: &Rc<RefCell<S>>, request: Request<Incoming>) -> Self {
        let cx = &mut Context::from_waker(Waker::noop());
        let mut ready = service.borrow_mut();
        if request.body().is_end_stream()
            && let Poll::Ready(Ok(())) = ready.poll_ready(cx)
        {
            let future = ready.call(request);
            return Self::Called { future };
        }
        Self::Waiting {
            service: Rc::clone(service),
            request: Some(request),
        }
    }
}

impl<S, B> Future for Answer<S, B>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
    B: Body<Data = Bytes> + 'static,
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
                    let mut refusal = Response::new(WatchedBody::none(Some(in_flight.answered())));
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
                    let is_last =
                        |of: &Rc<Registry>| of.is_leaving() || in_flight.is_of_an_old_connection();
                    if tunnel.is_none() && this.leaving.as_ref().is_some_and(is_last) {
                        // hyper closes the connection behind it.
                        let headers = response.headers_mut();
                        headers.insert(CONNECTION, HeaderValue::from_static("close"));
                    }
                    let Some(tunnel) = tunnel else {
                        let watched = |body| WatchedBody::new(body, in_flight);
                        return Poll::Ready(Ok(response.map(watched)));
                    };
                    let (head, body) = response.into_parts();
                    let mut head = Response::from_parts(head, ());
                    let place = std::mem::replace(this.place, Place::None);
                    let switched = Switched { tunnel, body };
                    let in_flight = place.open(switched, &mut head, in_flight);
                    return Poll::Ready(Ok(head.map(|()| WatchedBody::none(in_flight))));
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
