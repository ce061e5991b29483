//! What an upstream answers, to the edge's own client, beside hyper's.
//!
//! In whatever pieces it comes, it is read as the same; and what is read to its
//! end, hyper reads as the same, too.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use cypheron_edge::proxy::fuzzing::{Read, read};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use hyper::body::{Body, Bytes, Frame, Incoming, SizeHint};
use hyper::rt::ReadBufCursor;

/// The first byte says how the others are cut, and whether a `HEAD` was asked.
pub(super) fn run(data: &[u8]) {
    let Some((&cut, answer)) = data.split_first() else {
        return;
    };
    let (to_head, size) = (cut & 0x80 != 0, usize::from(cut & 0x7f) + 1);
    let whole = read(to_head, [answer]);
    let in_pieces = read(to_head, answer.chunks(size));
    assert_eq!(said(in_pieces.as_ref()), said(whole.as_ref()), "in pieces");
    let Some(whole) = whole else {
        return;
    };
    assert!(whole.behind.is_empty() || !whole.goes_on);
    if whole.whole && whole.head.status() != StatusCode::SWITCHING_PROTOCOLS {
        // Of what came behind it, hyper makes a failure of the answer.
        let answer = &answer[..answer.len() - whole.behind.len()];
        let theirs = read_by_hyper(to_head, answer).expect("hyper reads it, too");
        assert_eq!(whole.head.status(), theirs.head.status());
        assert_eq!(whole.head.headers(), theirs.head.headers());
        assert_eq!(whole.body, theirs.body);
        assert_eq!(whole.trailers, theirs.trailers);
    }
}

/// All that can be compared.
fn said(read: Option<&Read>) -> Option<impl PartialEq + std::fmt::Debug> {
    read.map(|read| {
        // A head is only refused as a whole; of a body, what came before counts.
        let headers = read.head.headers().clone();
        let trailers = read.trailers.clone();
        let ends = (read.whole, read.goes_on, read.behind.clone());
        (
            read.head.status(),
            headers,
            read.body.clone(),
            trailers,
            ends,
        )
    })
}

struct Theirs {
    head: Response<()>,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

/// Turns enough for any answer that comes all at once.
const TURNS: usize = 10_000;

fn read_by_hyper(to_head: bool, answer: &[u8]) -> Option<Theirs> {
    let cx = &mut Context::from_waker(Waker::noop());
    let upstream = Upstream {
        answer: answer.to_vec().into(),
        asked: false,
    };
    let mut begun = pin!(hyper::client::conn::http1::handshake(upstream));
    let Poll::Ready(Ok((mut sender, connection))) = begun.as_mut().poll(cx) else {
        panic!("nothing is waited for");
    };
    let mut connection = Some(Box::pin(connection));
    let mut request = Request::new(Nothing);
    *request.method_mut() = if to_head { Method::HEAD } else { Method::GET };
    let mut answered = pin!(sender.send_request(request));
    let mut head = None;
    let mut theirs: Option<(Theirs, Incoming)> = None;
    for _ in 0..TURNS {
        if let Some(driven) = &mut connection
            && driven.as_mut().poll(cx).is_ready()
        {
            connection = None;
        }
        if head.is_none() {
            let Poll::Ready(response) = answered.as_mut().poll(cx) else {
                continue;
            };
            let (parts, body) = response.ok()?.into_parts();
            head = Some(());
            let theirs_so_far = Theirs {
                head: Response::from_parts(parts, ()),
                body: Vec::new(),
                trailers: None,
            };
            theirs = Some((theirs_so_far, body));
        }
        let (read, body) = theirs.as_mut()?;
        match Pin::new(body).poll_frame(cx) {
            Poll::Pending => {}
            Poll::Ready(None) => return theirs.map(|(theirs, _)| theirs),
            Poll::Ready(Some(frame)) => match frame.ok()?.into_data() {
                Ok(data) => read.body.extend_from_slice(&data),
                Err(frame) => read.trailers = frame.into_trailers().ok(),
            },
        }
    }
    panic!("there is no end of it");
}

/// Waits until it is asked, says what it says, and closes.
struct Upstream {
    answer: Bytes,
    asked: bool,
}

impl hyper::rt::Read for Upstream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        mut room: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.asked {
            // It is polled again whatever happens.
            return Poll::Pending;
        }
        let count = room.remaining().min(self.answer.len());
        room.put_slice(&self.answer.split_to(count));
        Poll::Ready(Ok(()))
    }
}

impl hyper::rt::Write for Upstream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.asked = true;
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// A request without a body.
struct Nothing;

impl Body for Nothing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}
