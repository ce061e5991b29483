//! An admitted request that has not ended.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::StatusCode;

use crate::clock::{Clock, Tick};
use crate::usage::event::Ended;
use crate::usage::recorder::{Completion, Reservation};

/// What is known so far of a request whose record is reserved. Dropped before
/// its end, it was the client that left.
pub(super) struct Open<V: Reservation> {
    reservation: Option<V>,
    clock: Clock,
    received: Tick,
    forwarded: Tick,
    request_bytes: Option<Arc<AtomicU64>>,
    /// No response was begun when it is zero.
    status: u16,
    upstream: Duration,
    pub(super) response_bytes: u64,
}

impl<V: Reservation> Open<V> {
    pub(super) fn new(reservation: V, clock: Clock, received: Tick) -> Self {
        Self {
            reservation: Some(reservation),
            clock,
            received,
            forwarded: received,
            request_bytes: None,
            status: 0,
            upstream: Duration::ZERO,
            response_bytes: 0,
        }
    }

    /// The request goes on now; its body is counted in `bytes`.
    pub(super) fn forward(&mut self, bytes: Option<&Arc<AtomicU64>>) {
        self.forwarded = self.clock.last_tick();
        self.request_bytes = bytes.cloned();
    }

    /// What the client says is counted there.
    #[cfg(feature = "edge")]
    pub(super) fn counts_in(&mut self, bytes: &Arc<AtomicU64>) {
        self.request_bytes = Some(Arc::clone(bytes));
    }

    /// The head of the response came.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = status.as_u16();
        self.upstream = self.clock.last_tick().since(self.forwarded);
    }

    /// Completes the record, once.
    pub(super) fn end(&mut self, ended: Ended) {
        let Some(reservation) = self.reservation.take() else {
            return;
        };
        let request_bytes = self.request_bytes.as_deref();
        reservation.complete(&Completion {
            status: self.status,
            ended,
            request_bytes: request_bytes.map_or(0, |bytes| bytes.load(Ordering::Relaxed)),
            response_bytes: self.response_bytes,
            duration_us: micros(self.clock.last_tick().since(self.received)),
            upstream_us: micros(self.upstream),
        });
    }
}

impl<V: Reservation> Drop for Open<V> {
    fn drop(&mut self) {
        self.end(Ended::ClientGone);
    }
}

pub(super) fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

impl<V: Reservation> fmt::Debug for Open<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Open")
            .field("ended", &self.reservation.is_none())
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}
