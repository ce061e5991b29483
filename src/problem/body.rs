//! A body that is either what it would have been, or a problem document.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of a service that may answer with a [`Problem`](super::Problem)
    /// of its own instead of the inner service's response.
    #[derive(Debug)]
    #[project = Projected]
    pub enum Body<B> {
        Inner { #[pin] body: B },
        Problem { document: Option<Bytes> },
    }
}

impl<B> Body<B> {
    pub const fn inner(body: B) -> Self {
        Self::Inner { body }
    }

    /// Nothing but the head.
    pub const fn empty() -> Self {
        Self::Problem { document: None }
    }

    pub const fn document(document: Bytes) -> Self {
        Self::Problem {
            document: Some(document),
        }
    }
}

impl<B: Default> Default for Body<B> {
    fn default() -> Self {
        Self::inner(B::default())
    }
}

impl<B: http_body::Body<Data = Bytes>> http_body::Body for Body<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project() {
            Projected::Inner { body } => body.poll_frame(cx),
            Projected::Problem { document } => {
                Poll::Ready(document.take().map(Frame::data).map(Ok))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Inner { body } => body.is_end_stream(),
            Self::Problem { document } => document.is_none(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Inner { body } => body.size_hint(),
            Self::Problem { document } => {
                SizeHint::with_exact(document.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
        }
    }
}
