//! A connection to a target, in plain or encrypted.

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind, IoSlice};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::task::coop::unconstrained;
use tokio_rustls::client::TlsStream;

/// One of the two, told apart by each call rather than by a pointer to code.
#[derive(Debug)]
pub(in crate::proxy) enum Stream {
    Plain(TcpStream),
    Encrypted(Box<TlsStream<TcpStream>>),
}

impl Stream {
    /// Writes what is taken at once, and wakes nobody. Nothing where it is
    /// encrypted: what is left over there has to be flushed by somebody who waits.
    pub(in crate::proxy) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(stream) => stream.try_write(bytes),
            Self::Encrypted(_) => Err(ErrorKind::WouldBlock.into()),
        }
    }

    /// Whether the peer keeps silent: it has neither closed nor said anything.
    /// The kernel is only asked when it told of something.
    pub(in crate::proxy) fn is_silent(&mut self) -> bool {
        let mut said = [0; 1];
        match self {
            Self::Plain(stream) => matches!(
                stream.try_read(&mut said),
                Err(error) if error.kind() == ErrorKind::WouldBlock
            ),
            // What belongs to TLS alone, a ticket for one, is taken in on the way.
            Self::Encrypted(stream) => {
                let cx = &mut Context::from_waker(Waker::noop());
                let mut said = ReadBuf::new(&mut said);
                // A task whose budget is spent would hear of nothing.
                let said = unconstrained(poll_fn(|cx| {
                    Pin::new(&mut *stream).poll_read(cx, &mut said)
                }));
                pin!(said).poll(cx).is_pending()
            }
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Self::Encrypted(stream) = self {
            // Says that it ends here, as far as that is taken at once.
            let cx = &mut Context::from_waker(Waker::noop());
            let _ = Pin::new(stream).poll_shutdown(cx);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Encrypted(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Encrypted(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Encrypted(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Encrypted(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
            Self::Encrypted(stream) => Pin::new(stream).poll_write_vectored(cx, bufs),
        }
    }
}
