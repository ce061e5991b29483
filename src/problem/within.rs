//! Where the answers of a layer go: in a body around the inner one, or in that
//! one itself.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::Response;

use super::Body;

/// What an inner service that answers with a body `R` is made to answer with.
pub trait Answers<R> {
    /// What [`Body`] holds that is no document.
    type Inner;

    /// Asks the inner service.
    fn poll<F, E>(
        future: Pin<&mut F>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<Body<Self::Inner>>, E>>
    where
        F: Future<Output = Result<Response<R>, E>>;
}

/// A body of its own around any inner one.
#[derive(Clone, Copy, Debug)]
pub struct Around;

impl<R> Answers<R> for Around {
    type Inner = R;

    fn poll<F, E>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<Result<Response<Body<R>>, E>>
    where
        F: Future<Output = Result<Response<R>, E>>,
    {
        match future.poll(cx) {
            Poll::Ready(Ok(response)) => Poll::Ready(Ok(response.map(Body::inner))),
            Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The inner body, which can hold a document already: a response goes through
/// without being moved for it.
#[derive(Clone, Copy, Debug)]
pub struct Inside;

impl<B> Answers<Body<B>> for Inside {
    type Inner = B;

    fn poll<F, E>(future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<Result<Response<Body<B>>, E>>
    where
        F: Future<Output = Result<Response<Body<B>>, E>>,
    {
        future.poll(cx)
    }
}

/// A layer whose answers go into the body of the service inside of it, which
/// has to be a [`Body`]. So a stack of several such layers has one, and not one
/// around the other.
#[derive(Clone, Copy, Debug)]
pub struct Within<L>(pub L);
