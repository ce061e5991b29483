//! A socket that tells what happens on it.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::activity::Activity;
use super::http2::PREFACE;
use super::unparsed;

/// Most heads are smaller: they are read at once.
const SNIFFED: usize = 1024;

/// A socket whose end can be sudden.
pub(super) trait Abort {
    /// When it is closed, what was written and not taken is forgotten. Else the
    /// kernel would go on offering it to a client that takes nothing.
    fn abort(&self);
}

impl Abort for TcpStream {
    fn abort(&self) {
        // When it fails, the kernel gives up by itself, later.
        let _ = SockRef::from(self).set_linger(Some(Duration::ZERO));
    }
}

#[cfg(feature = "tls")]
impl Abort for crate::tls::Stream {
    fn abort(&self) {
        self.get_ref().0.abort();
    }
}

/// A socket that tells an [`Activity`] when bytes come, and when they do not go.
///
/// Where hyper answers a head that it could not read, bare, it says what the
/// problem is instead.
pub(super) struct WatchedIo<T> {
    stream: TokioIo<T>,
    activity: Rc<Activity>,
    instead: Option<Instead>,
    /// The first bytes, until it is clear that they do not begin HTTP/2.
    sniffed: Option<Vec<u8>>,
    /// What was read and not given to hyper yet.
    ahead: Bytes,
}

/// What is written in the place of hyper's answer, and how much of it is out.
struct Instead {
    answer: Vec<u8>,
    written: usize,
}

impl<T: AsyncRead + AsyncWrite + Unpin> WatchedIo<T> {
    pub(super) fn new(stream: T, activity: Rc<Activity>) -> Self {
        let sniffed = (!activity.is_multiplexed()).then(Vec::new);
        Self {
            stream: TokioIo::new(stream),
            sniffed,
            activity,
            instead: None,
            ahead: Bytes::new(),
        }
    }

    /// The same socket for somebody who was not there for its first bytes.
    pub(super) fn rewound(self, ahead: Bytes, activity: Rc<Activity>) -> Self {
        Self {
            sniffed: None,
            ahead,
            activity,
            ..self
        }
    }

    /// Reads until there is all of HTTP/2's preface, or what is none: hyper takes
    /// a part of it for a bad request.
    fn poll_sniff(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(sniffed) = &mut self.sniffed {
            let mut room = [0; SNIFFED];
            let mut read = ReadBuf::new(&mut room);
            ready!(Pin::new(self.stream.inner_mut()).poll_read(cx, &mut read))?;
            self.activity.bytes_were_read();
            sniffed.extend_from_slice(read.filled());
            let is_part = sniffed.len() < PREFACE.len() && PREFACE.starts_with(sniffed);
            if !is_part || read.filled().is_empty() {
                self.ahead = Bytes::from(std::mem::take(sniffed));
                self.sniffed = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// What is no longer watched, and what was read of it and not taken.
    pub(super) fn into_parts(self) -> (T, Bytes) {
        (self.stream.into_inner(), self.ahead)
    }

    pub(super) fn abort(&self)
    where
        T: Abort,
    {
        self.stream.inner().abort();
    }

    /// Says a last word, as far as the socket takes it at once.
    pub(super) fn say(&mut self, word: &[u8]) {
        let cx = &mut Context::from_waker(Waker::noop());
        // The connection is given up: there is nobody to tell of a failure.
        let _ = Pin::new(&mut self.stream).poll_write(cx, word);
        let _ = Pin::new(&mut self.stream).poll_flush(cx);
    }

    /// Of a write of `length` bytes, when something else is said instead.
    fn poll_instead(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<usize>> {
        while let Some(Instead { answer, written }) = &mut self.instead {
            let rest = &answer[*written..];
            if rest.is_empty() {
                self.instead = None;
                break;
            }
            let wrote = Pin::new(&mut self.stream).poll_write(cx, rest);
            if let Poll::Ready(Ok(count)) = &wrote {
                *written += count;
            }
            self.note_write(&wrote);
            if ready!(wrote)? == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
        }
        Poll::Ready(Ok(length))
    }

    fn note_write(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending => self.activity.write_is_blocked(),
            Poll::Ready(written) => {
                let count = written.as_ref().copied().unwrap_or_default();
                self.activity.bytes_were_written(count);
            }
        }
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Read for WatchedIo<T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        if self.sniffed.is_some() {
            ready!(self.poll_sniff(cx))?;
        }
        if !self.ahead.is_empty() {
            let length = self.ahead.len().min(buf.remaining());
            buf.put_slice(&self.ahead.split_to(length));
            return Poll::Ready(Ok(()));
        }
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        self.activity.bytes_were_read();
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + AsyncWrite + Unpin> Write for WatchedIo<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.instead.is_none() && self.activity.is_settled() {
            self.instead = unparsed::instead_of(buf).map(|answer| Instead { answer, written: 0 });
        }
        if self.instead.is_some() {
            return self.poll_instead(cx, buf.len());
        }
        let written = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.note_write(&written);
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes when it has written all that it had.
        self.activity.everything_was_written();
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.note_write(&written);
        written
    }
}
