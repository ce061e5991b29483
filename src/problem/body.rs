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
        // Empty when it was read; two words, so that an answer is no larger for it.
        Problem { document: Box<[u8]> },
    }
}

/// What a layer hands on moves with it.
const _: () = assert!(size_of::<Body<Box<()>>>() == 2 * size_of::<usize>());

impl<B> Body<B> {
    pub const fn inner(body: B) -> Self {
        Self::Inner { body }
    }

    /// Nothing but the head.
    pub fn empty() -> Self {
        Self::document(Box::default())
    }

    pub const fn document(document: Box<[u8]>) -> Self {
        Self::Problem { document }
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
                let document = Bytes::from(std::mem::take(document));
                Poll::Ready((!document.is_empty()).then(|| Ok(Frame::data(document))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Inner { body } => body.is_end_stream(),
            Self::Problem { document } => document.is_empty(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Inner { body } => body.size_hint(),
            Self::Problem { document } => SizeHint::with_exact(document.len() as u64),
        }
    }
}
