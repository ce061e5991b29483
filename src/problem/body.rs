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

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    #[test]
    fn what_is_nothing_but_the_head_ends_with_it() {
        // Over HTTP/2 a 204 would have a length and a frame of no bytes otherwise.
        let empty = Body::<String>::empty();
        assert!(empty.is_end_stream());
        assert_eq!(empty.size_hint().exact(), Some(0));
    }

    #[test]
    fn a_document_is_read_once() {
        let mut body = Body::<String>::document(Box::from(*b"{}"));
        assert_eq!(body.size_hint().exact(), Some(2));
        let cx = &mut Context::from_waker(std::task::Waker::noop());
        let mut read = || match Pin::new(&mut body).poll_frame(cx) {
            Poll::Ready(frame) => frame.map(|frame| frame.unwrap().into_data().unwrap()),
            Poll::Pending => panic!("it is there"),
        };
        assert_eq!(read().as_deref(), Some(&b"{}"[..]));
        assert_eq!(read(), None);
        assert!(body.is_end_stream());
    }

    #[test]
    fn what_every_layer_hands_on_is_no_more_than_two_words() {
        assert_eq!(size_of::<Body<Box<()>>>(), 2 * size_of::<usize>());
    }
}
