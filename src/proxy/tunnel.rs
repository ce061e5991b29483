//! The upstream's half of a tunnel.

use std::cell::Cell;
use std::future::Future;
use std::io;
use std::mem;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Response};
use tokio::io::{AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::AbortHandle;
use tokio::time::{Instant, Sleep, sleep_until, timeout};

use super::upstream::{Stream, Upstream};
use super::websocket::{Handshake, WEBSOCKET};
use super::{BoxError, Failure};
use crate::context::UpstreamFailure;
use crate::context::tunnel::{Tunnel, poll_chunk};
use crate::route::Tunnels;

/// What a request asks its connection to become, and how long that may be.
#[derive(Debug)]
pub(super) struct Switch {
    pub(super) protocol: HeaderValue,
    pub(super) idle_timeout: Duration,
    pub(super) lifetime: Option<Duration>,
    /// For a client of HTTP/2, of which the upstream is to know nothing.
    pub(super) handshake: Option<Handshake>,
    /// Where the upstream has only so many.
    permit: Option<OwnedSemaphorePermit>,
}

impl Switch {
    /// The first of the protocols in `wish` that the route lists.
    pub(super) fn listed(wish: &HeaderValue, tunnels: &Tunnels) -> Option<Self> {
        let mut wishes = wish.as_bytes().split(|&byte| byte == b',');
        let protocol = wishes.find_map(|wish| tunnels.protocol(wish.trim_ascii()))?;
        Some(Self::to(protocol, tunnels))
    }

    /// A WebSocket for a client of HTTP/2, where the route lists it.
    pub(super) fn for_http2(tunnels: &Tunnels) -> Option<Self> {
        let protocol = tunnels.protocol(WEBSOCKET)?;
        Some(Self {
            handshake: Some(Handshake::new()),
            ..Self::to(protocol, tunnels)
        })
    }

    fn to(protocol: &HeaderValue, tunnels: &Tunnels) -> Self {
        Self {
            protocol: protocol.clone(),
            idle_timeout: tunnels.idle_timeout,
            lifetime: tunnels.lifetime,
            handshake: None,
            permit: None,
        }
    }

    /// The same, counted among those of `upstream`.
    pub(super) fn admitted_by(mut self, upstream: &Upstream) -> Result<Self, Failure> {
        self.permit = upstream.admit_tunnel()?;
        Ok(self)
    }

    /// Asks for it.
    pub(super) fn mark(&self, headers: &mut HeaderMap) {
        mark(headers, self.protocol.clone());
        if let Some(handshake) = &self.handshake {
            handshake.ask(headers);
        }
    }

    /// Whether its client takes any good answer for a tunnel: that of HTTP/2 does.
    pub(super) const fn is_a_must(&self) -> bool {
        self.handshake.is_some()
    }

    /// The tunnel that an upstream's 101 opens on `stream`, of which `ahead` was
    /// read already; `None` when it agrees to another protocol than it was asked
    /// for, or does not show that it was asked.
    pub(super) fn accept(
        self,
        response: &mut Response<()>,
        stream: Stream,
        ahead: Bytes,
    ) -> Option<TunnelBody> {
        let mut agreed = response.headers().get_all(UPGRADE).iter();
        let agreed = match (agreed.next(), agreed.next()) {
            (Some(agreed), None) => agreed.as_bytes(),
            _ => return None,
        };
        if !agreed.eq_ignore_ascii_case(self.protocol.as_bytes()) {
            return None;
        }
        if let Some(handshake) = &self.handshake
            && !handshake.is_answered(response.headers_mut())
        {
            return None;
        }
        let (tunnel, said) = Tunnel::new();
        response.extensions_mut().insert(tunnel);
        Some(TunnelBody::new(stream, ahead, said, self))
    }
}

/// The fields that ask for `protocol`, or agree to it.
pub(super) fn mark(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(UPGRADE, protocol);
    headers.append(CONNECTION, HeaderValue::from_static("upgrade"));
}

/// What an upstream says in a tunnel. Meanwhile what the client says is written
/// to it; that ends when this is dropped before its end.
#[derive(Debug)]
pub(super) struct TunnelBody {
    stage: Stage,
    moved: Rc<Cell<Instant>>,
    idle_timeout: Duration,
    end: Option<Instant>,
    timer: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

#[derive(Debug)]
enum Stage {
    Open {
        /// What came with the 101.
        ahead: Bytes,
        download: ReadHalf<Stream>,
        upload: AbortHandle,
    },
    Ended,
}

/// Why there is no more, and what became of it.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) failure: UpstreamFailure,
    /// The target is to be blamed.
    pub(super) of_target: bool,
    pub(super) error: BoxError,
}

impl Fault {
    pub(super) fn of_target(error: impl Into<BoxError>) -> Self {
        Self {
            failure: UpstreamFailure::Failed,
            of_target: true,
            error: error.into(),
        }
    }
}

impl TunnelBody {
    fn new(stream: Stream, ahead: Bytes, said: mpsc::Receiver<Bytes>, switch: Switch) -> Self {
        let now = Instant::now();
        let moved = Rc::new(Cell::new(now));
        let (download, writer) = split(stream);
        let upload = upload(writer, said, Rc::clone(&moved), switch.idle_timeout);
        Self {
            stage: Stage::Open {
                ahead,
                download,
                upload: tokio::task::spawn_local(upload).abort_handle(),
            },
            moved,
            idle_timeout: switch.idle_timeout,
            end: switch.lifetime.map(|lifetime| now + lifetime),
            timer: Box::pin(sleep_until(now)),
            _permit: switch.permit,
        }
    }

    pub(super) const fn has_ended(&self) -> bool {
        matches!(self.stage, Stage::Ended)
    }

    pub(super) fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Fault>>> {
        let polled = self.poll_stage(cx);
        if polled.is_pending() {
            ready!(self.poll_overdue(cx));
            self.cut();
            let failure = UpstreamFailure::TimedOut;
            return Poll::Ready(Some(Err(Fault {
                failure,
                of_target: false,
                error: failure.into(),
            })));
        }
        self.moved.set(Instant::now());
        polled.map(|data| match data {
            Ok(data) if data.is_empty() => {
                // What the client has said before goes its way.
                self.stage = Stage::Ended;
                None
            }
            Ok(data) => Some(Ok(data)),
            Err(error) => {
                self.cut();
                Some(Err(Fault::of_target(error)))
            }
        })
    }

    fn poll_stage(&mut self, cx: &mut Context<'_>) -> Poll<Result<Bytes, BoxError>> {
        match &mut self.stage {
            Stage::Open { ahead, .. } if !ahead.is_empty() => Poll::Ready(Ok(mem::take(ahead))),
            Stage::Open { download, .. } => poll_chunk(Pin::new(download), cx).map_err(Into::into),
            Stage::Ended => Poll::Ready(Ok(Bytes::new())),
        }
    }

    /// Ready when nothing moved for too long, or the tunnel is as old as it may be.
    fn poll_overdue(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            let idle = self.moved.get() + self.idle_timeout;
            let due = self.end.map_or(idle, |end| end.min(idle));
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            if self.timer.is_elapsed() || self.timer.deadline() > due {
                self.timer.as_mut().reset(due);
            }
            ready!(self.timer.as_mut().poll(cx));
        }
    }

    fn cut(&mut self) {
        if let Stage::Open { upload, .. } = &self.stage {
            upload.abort();
        }
        self.stage = Stage::Ended;
    }
}

impl Drop for TunnelBody {
    fn drop(&mut self) {
        self.cut();
    }
}

/// Writes what the client says, then that it has said all.
async fn upload(
    mut writer: WriteHalf<Stream>,
    mut said: mpsc::Receiver<Bytes>,
    moved: Rc<Cell<Instant>>,
    patience: Duration,
) -> io::Result<()> {
    while let Some(data) = said.recv().await {
        let written = async {
            writer.write_all(&data).await?;
            // Encryption keeps what the socket does not take.
            writer.flush().await
        };
        timeout(patience, written).await??;
        moved.set(Instant::now());
    }
    writer.shutdown().await
}
