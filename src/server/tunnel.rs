//! The client's half of a tunnel: what a connection is after a 101.
//!
//! It runs in the connection's own task, so that it counts as a connection and
//! drains like one.

use std::cell::Cell;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::Body;
use metrics::{Gauge, gauge};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::task::yield_now;
use tokio::time::timeout;

use crate::context::tunnel::{Tunnel, poll_chunk};
use crate::telemetry::metric::TUNNELS;

/// The response that switched protocols.
pub(super) struct Switched<B> {
    pub(super) tunnel: Tunnel,
    pub(super) body: B,
}

/// The client is gone, or has to go.
struct Broken;

/// Moves bytes both ways until both sides have said all, or one is gone.
/// `early` came with the head of the request. Nobody is waited for longer than
/// `patience` who takes nothing of what is written.
pub(super) async fn run<T, B>(stream: T, early: Bytes, switched: Switched<B>, patience: Duration)
where
    T: AsyncRead + AsyncWrite,
    B: Body<Data = Bytes>,
{
    let _open = Open::count();
    let (reader, writer) = split(stream);
    // It outlives the download: dropped before its end, it ends the upload.
    let mut body = pin!(switched.body);
    let said_all = Cell::new(false);
    let mut upload = pin!(upload(reader, early, switched.tunnel, &said_all));
    let mut download = pin!(download(writer, body.as_mut(), patience, &said_all));
    tokio::select! {
        said = &mut upload => if said.is_ok() {
            // The client has said all, and listens.
            let _ = download.await;
        },
        told = &mut download => if told.is_ok() {
            // The upstream has said all, and may listen.
            let _ = timeout(patience, upload).await;
        },
    }
}

async fn upload<T: AsyncRead>(
    mut reader: ReadHalf<T>,
    early: Bytes,
    tunnel: Tunnel,
    said_all: &Cell<bool>,
) -> Result<(), Broken> {
    let mut said = early;
    loop {
        // An upstream that listens no more may still have something to tell.
        if !said.is_empty() && tunnel.send(said).await.is_err() {
            return Ok(());
        }
        said = poll_fn(|cx| poll_chunk(Pin::new(&mut reader), cx))
            .await
            .map_err(|_| Broken)?;
        if said.is_empty() {
            // A stream of HTTP/2 that its client gave up ends so, too; who writes to
            // it knows better, and has its turn first.
            yield_now().await;
            said_all.set(true);
            return Ok(());
        }
    }
}

async fn download<T, B>(
    mut writer: WriteHalf<T>,
    mut body: Pin<&mut B>,
    patience: Duration,
    said_all: &Cell<bool>,
) -> Result<(), Broken>
where
    T: AsyncWrite,
    B: Body<Data = Bytes>,
{
    let mut next = |writer: &mut WriteHalf<T>, cx: &mut Context<'_>| {
        if said_all.get() && is_broken(writer, cx) {
            return Poll::Ready(Err(Broken));
        }
        let frame = body.as_mut().poll_frame(cx);
        frame.map(|frame| frame.transpose().map_err(|_| Broken))
    };
    while let Some(frame) = poll_fn(|cx| next(&mut writer, cx)).await? {
        if let Some(data) = frame.data_ref() {
            let written = timeout(patience, writer.write_all(data)).await;
            written.map_err(|_| Broken)?.map_err(|_| Broken)?;
        }
    }
    writer.shutdown().await.map_err(|_| Broken)
}

fn is_broken<T: AsyncWrite>(writer: &mut WriteHalf<T>, cx: &mut Context<'_>) -> bool {
    matches!(Pin::new(writer).poll_flush(cx), Poll::Ready(Err(_)))
}

/// A tunnel that is open.
struct Open(Gauge);

impl Open {
    fn count() -> Self {
        let open = gauge!(TUNNELS);
        open.increment(1.0);
        Self(open)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
