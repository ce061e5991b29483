//! The future of an authenticated request.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::future::BoxFuture;
use http::{HeaderValue, Request, Response, header};
use pin_project_lite::pin_project;
use tower_service::Service;

use super::{ApiKeyAuthLayer, identify};
use crate::directory::Entry;
use crate::middleware::refusing::Refusing;
use crate::problem::{self, Answers, Around};
use crate::refusal::Refusal;

pin_project! {
    /// The response of the inner service, or the refusal.
    pub struct ResponseFuture<S, B, A = Around>
    where
        S: Service<Request<B>>,
    {
        #[pin]
        state: State<S, S::Future, B>,
        answers: PhantomData<A>,
    }
}

pin_project! {
    #[project = Projected]
    #[project_replace = Replaced]
    enum State<S, F, B> {
        Inner { #[pin] future: F },
        Answer { answer: Answer },
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

/// What is said in the place of the inner service.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) refusing: Refusing,
    /// In seconds.
    pub(super) retry_after: Option<u64>,
}

impl Answer {
    fn response<R>(self) -> Response<problem::Body<R>> {
        let mut response = self.refusing.response();
        if let Some(seconds) = self.retry_after {
            let seconds = HeaderValue::from(seconds);
            response.headers_mut().insert(header::RETRY_AFTER, seconds);
        }
        response
    }
}

impl<S, B, A> ResponseFuture<S, B, A>
where
    S: Service<Request<B>>,
{
    const fn of(state: State<S, S::Future, B>) -> Self {
        Self {
            state,
            answers: PhantomData,
        }
    }

    pub(super) const fn inner(future: S::Future) -> Self {
        Self::of(State::Inner { future })
    }

    pub(super) const fn answer(answer: Answer) -> Self {
        Self::of(State::Answer { answer })
    }

    /// `ready` is the service that was polled ready.
    pub(super) fn lookup(
        fetch: impl Future<Output = Result<Arc<Entry>, Refusal>> + Send + 'static,
        rules: ApiKeyAuthLayer,
        ready: S,
        request: Request<B>,
    ) -> Self {
        Self::of(State::Lookup {
            lookup: Box::new(Lookup {
                fetch: Box::pin(fetch),
                rules,
                ready,
                request,
            }),
        })
    }
}

impl<S, B> Lookup<S, B> {
    /// What is to be done, now that the store has told.
    fn go_on(self, found: Result<Arc<Entry>, Refusal>) -> State<S, S::Future, B>
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
                let answer = rules.answer(&mut request, refused);
                State::Answer { answer }
            }
        }
    }
}

impl<S, B, A, R> Future for ResponseFuture<S, B, A>
where
    S: Service<Request<B>, Response = Response<R>>,
    A: Answers<R>,
{
    type Output = Result<Response<problem::Body<A::Inner>>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                Projected::Inner { future } => return A::poll(future, cx),
                Projected::Lookup { lookup } => {
                    let found = ready!(lookup.fetch.as_mut().poll(cx));
                    if let Replaced::Lookup { lookup } = state.as_mut().project_replace(State::Done)
                    {
                        state.set(lookup.go_on(found));
                    }
                }
                Projected::Answer { .. } => {
                    if let Replaced::Answer { answer } = state.project_replace(State::Done) {
                        return Poll::Ready(Ok(answer.response()));
                    }
                    return Poll::Pending;
                }
                // As any future that has given its output.
                Projected::Done => return Poll::Pending,
            }
        }
    }
}

impl<S, B, A> fmt::Debug for ResponseFuture<S, B, A>
where
    S: Service<Request<B>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
