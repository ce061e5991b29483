//! The future of an authenticated request.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use http::{Request, Response};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{ApiKeyAuthLayer, identify};
use crate::directory::Entry;
use crate::problem;
use crate::refusal::Refusal;

pin_project! {
    /// The response of the inner service, or the refusal.
    pub struct ResponseFuture<S, B, R>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, S::Future, B, R>,
    }
}

pin_project! {
    #[project = Projected]
    #[project_replace = Replaced]
    enum State<S, F, B, R> {
        Inner { #[pin] future: F },
        Answer { response: Response<problem::Body<R>> },
        Lookup { lookup: Box<Lookup<S, B>> },
        Done,
    }
}

/// A request whose key the store is being asked for.
struct Lookup<S, B> {
    fetch: BoxFuture<'static, Result<Arc<Entry>, Refusal>>,
    rules: ApiKeyAuthLayer,
    ready: S,
    request: Request<B>,
}

impl<S, B, R> ResponseFuture<S, B, R>
where
    S: Service<Request<B>>,
{
    pub(super) const fn inner(future: S::Future) -> Self {
        Self {
            state: State::Inner { future },
        }
    }

    pub(super) const fn answer(response: Response<problem::Body<R>>) -> Self {
        Self {
            state: State::Answer { response },
        }
    }

    /// `ready` is the service that was polled ready.
    pub(super) fn lookup(
        fetch: impl Future<Output = Result<Arc<Entry>, Refusal>> + Send + 'static,
        rules: ApiKeyAuthLayer,
        ready: S,
        request: Request<B>,
    ) -> Self {
        Self {
            state: State::Lookup {
                lookup: Box::new(Lookup {
                    fetch: Box::pin(fetch),
                    rules,
                    ready,
                    request,
                }),
            },
        }
    }
}

impl<S, B> Lookup<S, B> {
    /// What is to be done, now that the store has told.
    fn go_on<R>(self, found: Result<Arc<Entry>, Refusal>) -> State<S, S::Future, B, R>
    where
        S: Service<Request<B>>,
    {
        let Self {
            rules,
            mut ready,
            mut request,
            ..
        } = self;
        match rules.judge_found(found, &request) {
            Ok(identity) => {
                identify(&mut request, identity);
                let future = ready.call(request);
                State::Inner { future }
            }
            Err(refused) => {
                let response = rules.answer(&request, refused);
                State::Answer { response }
            }
        }
    }
}

impl<S, B, R> Future for ResponseFuture<S, B, R>
where
    S: Service<Request<B>, Response = Response<R>>,
{
    type Output = Result<Response<problem::Body<R>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                Projected::Inner { future } => {
                    let response = ready!(future.poll(cx))?;
                    return Poll::Ready(Ok(response.map(problem::Body::inner)));
                }
                Projected::Lookup { lookup } => {
                    let found = ready!(lookup.fetch.as_mut().poll(cx));
                    if let Replaced::Lookup { lookup } = state.as_mut().project_replace(State::Done)
                    {
                        state.set(lookup.go_on(found));
                    }
                }
                Projected::Answer { .. } => {
                    if let Replaced::Answer { response } = state.project_replace(State::Done) {
                        return Poll::Ready(Ok(response));
                    }
                    return Poll::Pending;
                }
                // As any future that has given its output.
                Projected::Done => return Poll::Pending,
            }
        }
    }
}

impl<S, B, R> fmt::Debug for ResponseFuture<S, B, R>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
