//! One connection, and what is said on it.

use std::fmt;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response};
use http_body::{Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

use super::Broke;
use super::answer::{Answer, Reader};
use super::body::Body;
use super::inbox::Inbox;
use super::outbox::Outbox;
use super::request;
use super::upload::{Step, Upload};
use crate::proxy::BoxError;
use crate::proxy::request_body::{Broken, RequestBody};
use crate::proxy::upstream::Stream;

/// Farther away than anything that is waited for.
const LONG: Duration = Duration::from_hours(24);

/// A connection, by its one owner at a time: the pool, a request, its answer.
pub(in crate::proxy) struct Connection<B> {
    stream: Stream,
    inbox: Inbox,
    outbox: Outbox,
    /// What is not in the outbox yet.
    upload: Option<Upload<B>>,
    reader: Reader,
    /// Of the answer.
    body: Body,
    /// Another request may follow.
    goes_on: bool,
    /// Why the rest of the request is not written.
    unwritten: Option<io::Error>,
    /// The request's fields, whose room the answer's take.
    fields: HeaderMap,
    /// Kept from request to request, and seldom set.
    timer: Pin<Box<Sleep>>,
}

/// Why there is no answer.
#[derive(Debug)]
pub(in crate::proxy) enum Unanswered {
    /// The request did not come whole.
    Unsent(Broken),
    Broke(Broke),
}

/// A request as it was, and why not a byte of it was taken.
pub(in crate::proxy) struct Untaken<B> {
    pub(in crate::proxy) request: Box<Request<RequestBody<B>>>,
    pub(in crate::proxy) error: io::Error,
}

impl From<Broke> for Unanswered {
    fn from(broke: Broke) -> Self {
        Self::Broke(broke)
    }
}

impl<B> Connection<B> {
    pub(in crate::proxy) fn new(stream: Stream) -> Box<Self> {
        Box::new(Self {
            stream,
            inbox: Inbox::new(),
            outbox: Outbox::default(),
            upload: None,
            reader: Reader::default(),
            body: Body::Ended,
            goes_on: true,
            unwritten: None,
            fields: HeaderMap::new(),
            timer: Box::pin(sleep(LONG)),
        })
    }

    /// Whether a request may be sent on it, as far as is known: the upstream has
    /// not closed it, nor said anything that nobody asked for.
    pub(in crate::proxy) fn is_open(&mut self) -> bool {
        self.stream.is_silent()
    }

    /// Nothing of a request is left to be written.
    pub(in crate::proxy) fn has_sent(&self) -> bool {
        self.upload.is_none() && self.outbox.is_empty()
    }

    pub(in crate::proxy) fn has_answered(&self) -> bool {
        self.body.has_ended()
    }

    pub(in crate::proxy) fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }

    /// Makes it ready for the next request; `false` when there may be none.
    pub(in crate::proxy) fn rest(&mut self) -> bool {
        // What lies there already is no answer to what is asked next.
        let ready =
            self.goes_on && self.has_sent() && self.has_answered() && self.inbox.buffer.is_empty();
        if ready {
            self.inbox.rest();
            self.outbox.rest();
        }
        ready
    }

    /// What is left when it goes on as something else: with what was read ahead.
    pub(in crate::proxy) fn into_tunnel(self) -> (Stream, Bytes) {
        (self.stream, self.inbox.buffer.freeze())
    }

    /// Ready when `due` has come. The timer is only set to an earlier time, or
    /// when it has run out.
    pub(in crate::proxy) fn poll_due(&mut self, cx: &mut Context<'_>, due: Instant) -> Poll<()> {
        let mut timer = self.timer.as_mut();
        if due < timer.deadline() {
            timer.as_mut().reset(due);
        }
        loop {
            ready!(timer.as_mut().poll(cx));
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            timer.as_mut().reset(due);
        }
    }

    /// Reads the next frame of the answer.
    pub(in crate::proxy) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broke>>> {
        loop {
            if let Some(frame) = self.body.decode(&mut self.inbox.buffer)? {
                return Poll::Ready(Some(Ok(frame)));
            }
            let (inbox, stream) = (&mut self.inbox, &mut self.stream);
            let read = match self.body {
                Body::Ended => return Poll::Ready(None),
                Body::Length(left) => ready!(inbox.poll_rest(stream, cx, left)),
                Body::Chunked(_) | Body::UntilClose => ready!(inbox.poll_more(stream, cx)),
            };
            if read.map_err(Broke::Io)? == 0 {
                self.body.close()?;
            }
        }
    }

    /// Ready when the upstream closes, or says more than its answer was.
    pub(in crate::proxy) fn poll_unasked(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if !self.inbox.buffer.is_empty() {
            return Poll::Ready(());
        }
        self.inbox.poll_more(&mut self.stream, cx).map(|_| ())
    }
}

impl<B> Connection<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Begins to send a request, with `lines` as they are behind its fields. When not
    /// a byte of it was taken, it is given back as it was.
    pub(in crate::proxy) fn send(
        &mut self,
        mut request: Request<RequestBody<B>>,
        lines: &[u8],
    ) -> Result<(), Untaken<B>> {
        let coding = request::coding(&request);
        request::write(&request, lines, coding.as_ref(), self.outbox.bytes());
        // A body may go with the head: it is waited for what there is of it.
        if coding.is_none()
            && let Err(error) = self.outbox.try_flush(&self.stream)
        {
            let request = Box::new(request);
            return Err(Untaken { request, error });
        }
        self.reader.begin(*request.method() == Method::HEAD);
        self.fields = mem::take(request.headers_mut());
        self.fields.clear();
        self.upload = coding.map(|coding| Upload {
            body: request.into_body(),
            coding,
        });
        Ok(())
    }

    /// Sends what is left of the request, and waits for the head of its answer:
    /// the one does not wait for the other.
    pub(in crate::proxy) fn poll_answer(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Response<()>, Unanswered>> {
        if !self.has_sent()
            && let Poll::Ready(Err(broken)) = self.poll_send(cx)
        {
            return Poll::Ready(Err(Unanswered::Unsent(broken)));
        }
        loop {
            let buffer = &mut self.inbox.buffer;
            if let Some(answer) = self.reader.read(buffer, &mut self.fields)? {
                let Answer {
                    head,
                    body,
                    goes_on,
                } = answer;
                self.body = body;
                self.goes_on &= goes_on;
                return Poll::Ready(Ok(head));
            }
            let read = ready!(self.inbox.poll_more(&mut self.stream, cx));
            let closed = match read {
                Ok(0) => Broke::Incomplete,
                Ok(_) => continue,
                Err(error) => Broke::Io(error),
            };
            // What came first says more.
            let closed = self.unwritten.take().map_or(closed, Broke::Io);
            return Poll::Ready(Err(closed.into()));
        }
    }

    /// Sends what is left of the request. An upstream that takes no more of it may
    /// have answered all the same: that is no failure, but its last answer.
    pub(in crate::proxy) fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            let mut waits = false;
            while let Some(upload) = &mut self.upload
                && self.outbox.has_room()
            {
                match upload.poll_step(cx, &mut self.outbox) {
                    Poll::Ready(Ok(Step::More)) => {}
                    Poll::Ready(Ok(Step::Ended)) => self.upload = None,
                    Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken)),
                    Poll::Pending => {
                        waits = true;
                        break;
                    }
                }
            }
            if let Err(error) = ready!(self.outbox.poll_flush(&mut self.stream, cx)) {
                self.outbox.forget();
                self.upload = None;
                self.goes_on = false;
                self.unwritten = Some(error);
            }
            if self.upload.is_none() {
                return Poll::Ready(Ok(()));
            }
            if waits {
                return Poll::Pending;
            }
        }
    }
}

impl<B> fmt::Debug for Connection<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("body", &self.body)
            .field("goes_on", &self.goes_on)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::Full;
    use rustix::net::{Shutdown, shutdown};
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn a_request_of_which_not_a_byte_was_taken_comes_back_as_it_was() {
        let upstream = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(upstream.local_addr().unwrap()).await;
        let stream = stream.unwrap();
        // As one that is closed already, and nobody has been told yet.
        shutdown(&stream, Shutdown::Write).unwrap();
        let mut connection = Connection::new(Stream::Plain(stream));
        assert!(connection.is_open());
        let body = RequestBody::new(Full::new(Bytes::new()), None, None);
        let request = Request::get("/orders?page=2").header("x-one", "1");
        let untaken = connection.send(request.body(body).unwrap(), b"x-two: 2\r\n");
        let untaken = untaken.expect_err("nothing was written");
        assert_eq!(untaken.error.kind(), io::ErrorKind::BrokenPipe);
        assert_eq!(untaken.request.uri(), "/orders?page=2");
        assert_eq!(untaken.request.headers()["x-one"], "1");
        assert_eq!(untaken.request.headers().len(), 1);
    }
}
