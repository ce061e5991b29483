//! A connection that goes on as a tunnel, after a 101.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, ReadBuf};
use tokio::sync::mpsc;

/// The most that is read at once. It is kept on the stack, so that a tunnel in
/// which nothing moves holds no memory for what may come.
const CHUNK: usize = 16 * 1024;

/// The extension of a response that switches protocols: takes what the client
/// says from then on. What the client is told is the response's body.
#[derive(Clone, Debug)]
pub struct Tunnel {
    upload: mpsc::Sender<Bytes>,
    sent: Arc<AtomicU64>,
}

/// The other end of the tunnel is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Gone;

impl Tunnel {
    /// With what the client will say. It ends when every clone is dropped.
    pub fn new() -> (Self, mpsc::Receiver<Bytes>) {
        let (upload, said) = mpsc::channel(1);
        let sent = Arc::default();
        (Self { upload, sent }, said)
    }

    /// Waits until the one before was taken.
    pub async fn send(&self, said: Bytes) -> Result<(), Gone> {
        let length = said.len() as u64;
        self.upload.send(said).await.map_err(|_| Gone)?;
        self.sent.fetch_add(length, Ordering::Relaxed);
        Ok(())
    }

    /// How many bytes the client has said.
    pub const fn sent(&self) -> &Arc<AtomicU64> {
        &self.sent
    }
}

/// What comes next; nothing at the end.
pub fn poll_chunk<R: AsyncRead>(
    reader: Pin<&mut R>,
    cx: &mut Context<'_>,
) -> Poll<io::Result<Bytes>> {
    let mut room = [const { MaybeUninit::uninit() }; CHUNK];
    let mut buffer = ReadBuf::uninit(&mut room);
    ready!(reader.poll_read(cx, &mut buffer))?;
    Poll::Ready(Ok(Bytes::copy_from_slice(buffer.filled())))
}
