//! A Tower service, as hyper calls it.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use http::{Request, Response};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::activity::Activity;
use super::response_body::WatchedBody;

/// A Tower service for the requests of one connection. HTTP/1 has one at a
/// time, so the service is not cloned for each.
pub(super) struct Served<S> {
    service: Rc<RefCell<S>>,
    activity: Rc<Activity>,
}

impl<S> Served<S> {
    pub(super) fn new(service: S, activity: Rc<Activity>) -> Self {
        Self {
            service: Rc::new(RefCell::new(service)),
            activity,
        }
    }
}

impl<S, B> hyper::service::Service<Request<Incoming>> for Served<S>
where
    S: Service<Request<Incoming>, Response = Response<B>>,
{
    type Response = Response<WatchedBody<B>>;
    type Error = S::Error;
    type Future = Answer<S>;

    fn call(&self, request: Request<Incoming>) -> Answer<S> {
        self.activity.request_begins();
        Answer {
            state: State::Waiting {
                service: Rc::clone(&self.service),
                request: Some(request),
            },
            activity: Rc::clone(&self.activity),
        }
    }
}

pin_project! {
    /// Waits until the service is ready, then for its response.
    pub(super) struct Answer<S>
    where
        S: Service<Request<Incoming>>,
    {
        #[pin]
        state: State<S, S::Future>,
        activity: Rc<Activity>,
    }
}

pin_project! {
    #[project = StateProjected]
    enum State<S, F> {
        Waiting { service: Rc<RefCell<S>>, request: Option<Request<Incoming>> },
        Called { #[pin] future: F },
    }
}

impl<S, B> Future for Answer<S>
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
                StateProjected::Called { future } => {
                    let response = ready!(future.poll(cx))?;
                    let activity = Rc::clone(this.activity);
                    let response = response.map(|body| WatchedBody::new(body, activity));
                    return Poll::Ready(Ok(response));
                }
            };
            this.state.set(State::Called { future });
        }
    }
}
