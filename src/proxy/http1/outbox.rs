//! What is to be written to an upstream.

use std::io::{self, ErrorKind, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

use crate::proxy::upstream::Stream;

/// Pieces up to this size are copied together: one write of them is cheaper
/// than gathering them.
const SMALL: usize = 8 * 1024;

/// Bytes of ours, then a large piece of a body as it came, then what ends that.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    /// How many of them are out.
    written: usize,
    piece: Bytes,
    behind: &'static [u8],
    /// Something may be left in the encryption.
    unflushed: bool,
}

impl Outbox {
    pub(super) const fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    /// Adds a piece of a body and what ends it. To be called when it
    /// [has room](Self::has_room).
    pub(super) fn push(&mut self, piece: Bytes, behind: &'static [u8]) {
        if piece.len() <= SMALL {
            self.bytes.extend_from_slice(&piece);
            self.bytes.extend_from_slice(behind);
        } else {
            self.piece = piece;
            self.behind = behind;
        }
    }

    /// Whether more may be added before this is written.
    pub(super) fn has_room(&self) -> bool {
        self.piece.is_empty() && self.behind.is_empty() && self.bytes.len() < SMALL
    }

    pub(super) fn is_empty(&self) -> bool {
        self.left() == 0 && !self.unflushed
    }

    fn left(&self) -> usize {
        self.bytes.len() - self.written + self.piece.len() + self.behind.len()
    }

    /// Writes what is taken at once. An error says that nothing was.
    pub(super) fn try_flush(&mut self, stream: &Stream) -> io::Result<()> {
        match stream.try_write(&self.bytes) {
            Ok(count) => {
                self.advance(count);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub(super) fn poll_flush(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<()>> {
        while self.left() > 0 {
            let bytes = &self.bytes[self.written..];
            let written = if self.piece.is_empty() && self.behind.is_empty() {
                Pin::new(&mut *stream).poll_write(cx, bytes)
            } else {
                let all = [bytes, &self.piece, self.behind].map(IoSlice::new);
                Pin::new(&mut *stream).poll_write_vectored(cx, &all)
            };
            let count = ready!(written)?;
            if count == 0 {
                return Poll::Ready(Err(ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.advance(count);
        }
        ready!(Pin::new(stream).poll_flush(cx))?;
        self.unflushed = false;
        Poll::Ready(Ok(()))
    }

    fn advance(&mut self, mut count: usize) {
        let bytes = count.min(self.bytes.len() - self.written);
        self.written += bytes;
        count -= bytes;
        if self.written == self.bytes.len() {
            self.bytes.clear();
            self.written = 0;
        }
        let piece = count.min(self.piece.len());
        self.piece.advance(piece);
        self.behind = &self.behind[count - piece..];
        if self.piece.is_empty() {
            // What was written holds no memory.
            self.piece = Bytes::new();
        }
    }

    /// Forgets what cannot be written any more.
    pub(super) fn forget(&mut self) {
        *self = Self::default();
    }

    /// Keeps no more than an idle connection needs.
    pub(super) fn rest(&mut self) {
        if self.bytes.capacity() > SMALL {
            self.bytes = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_part_by_part_is_written_in_order() {
        let large = Bytes::from(vec![b'x'; SMALL + 1]);
        for step in [1, 2, 7, SMALL, 3 * SMALL] {
            let mut outbox = Outbox::default();
            outbox.bytes().extend_from_slice(b"head");
            outbox.push(large.clone(), b"end");
            assert!(!outbox.has_room());
            let mut left = 4 + large.len() + 3;
            while left > 0 {
                assert_eq!(outbox.left(), left);
                let count = step.min(left);
                outbox.advance(count);
                left -= count;
            }
            assert!(outbox.is_empty() && outbox.has_room());
        }
    }
}
