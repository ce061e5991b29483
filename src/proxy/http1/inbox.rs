//! What was read of an upstream, and not taken yet.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::BytesMut;
use tokio::io::AsyncReadExt;

use super::READ_AHEAD;
use crate::proxy::upstream::Stream;

/// What is read at once as long as nothing is known of an answer.
const USUAL: usize = 8 * 1024;

/// The most that is kept while nothing is asked.
const KEPT: usize = 2 * USUAL;

/// The buffer is taken from slice by slice. When all slices are gone, which is
/// before the next answer as a rule, its room is used again.
#[derive(Debug)]
pub(super) struct Inbox {
    pub(super) buffer: BytesMut,
    /// How much is read at once; follows what is found there.
    room: usize,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            buffer: BytesMut::new(),
            room: USUAL,
        }
    }

    /// Reads once more, of an answer that nobody knows the end of.
    pub(super) fn poll_more(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let most = READ_AHEAD.saturating_sub(self.buffer.len()).max(1);
        let room = self.room.min(most);
        let read = ready!(self.poll_read(stream, cx, room))?;
        if read >= room {
            self.room = (self.room * 2).min(READ_AHEAD);
        } else if read < self.room / 4 {
            self.room = (self.room / 2).max(USUAL);
        }
        Poll::Ready(Ok(read))
    }

    /// Reads once more, where so much is still to come.
    pub(super) fn poll_rest(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
        rest: u64,
    ) -> Poll<io::Result<usize>> {
        // With room for what should not follow: a read that leaves some shows
        // that there is no more, without another one.
        let rest = usize::try_from(rest).unwrap_or(usize::MAX);
        let room = rest.saturating_add(1).clamp(USUAL, READ_AHEAD);
        self.poll_read(stream, cx, room)
    }

    fn poll_read(
        &mut self,
        stream: &mut Stream,
        cx: &mut Context<'_>,
        room: usize,
    ) -> Poll<io::Result<usize>> {
        let buffer = &mut self.buffer;
        if !buffer.try_reclaim(room) {
            if buffer.is_empty() {
                // Not by growing, which would take what is in use along.
                *buffer = BytesMut::with_capacity(room);
            } else {
                buffer.reserve(room);
            }
        }
        pin!(stream.read_buf(buffer)).poll(cx)
    }

    /// Keeps no more than an idle connection needs. To be called when it is empty.
    pub(super) fn rest(&mut self) {
        self.room = USUAL;
        if self.buffer.capacity() > KEPT {
            self.buffer = BytesMut::new();
        }
    }
}
