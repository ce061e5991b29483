//! What the usage layer asks of whatever records usage.

use std::net::IpAddr;

use http::Method;
use uuid::Uuid;

use super::event::Ended;
use crate::clock::Timestamp;
use crate::refusal::Refusal;

/// What is known when a request is decided.
#[derive(Clone, Copy, Debug)]
pub struct Decision<'a> {
    /// When the request arrived.
    pub occurred_at: Timestamp,
    /// Whose it is.
    pub key_id: Uuid,
    /// The name of the route; `default` in a stack that knows no routes.
    pub route: &'a str,
    pub method: &'a Method,
    /// Of the client, not of a proxy in between; `None` when it is not known.
    pub client: Option<IpAddr>,
}

/// What is known when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Zero when no response was begun.
    pub status: u16,
    pub ended: Ended,
    /// Of the body, without framing: what the inner service has taken of it.
    pub request_bytes: u64,
    /// Of the body, without framing: what has gone towards the client.
    pub response_bytes: u64,
    /// Microseconds from the request's arrival to its end.
    pub duration_us: u64,
    /// Microseconds that the inner service, which in a proxy is the upstream,
    /// took to the head of its response; zero when there was none.
    pub upstream_us: u64,
}

/// There is no room, and the deployment refuses rather than drops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the usage journal is full")]
pub struct Full;

/// Records the usage of known keys. Called on the request path: an
/// implementation neither blocks nor waits.
pub trait Recorder: Clone + 'static {
    type Reservation: Reservation;

    /// Reserves the record of an admitted request. `Full` refuses the request:
    /// to let it go unrecorded, reserve something that records nothing.
    fn admit(&self, decision: &Decision<'_>) -> Result<Self::Reservation, Full>;

    /// Records a refused request of a known key. Only `RefusalUsageLayer` calls this.
    fn refuse(&self, decision: &Decision<'_>, refusal: Refusal, completion: &Completion);
}

/// The record of one admitted request, until it has ended.
///
/// One that is dropped without being completed stands for a request that was
/// never seen to end, and is recorded as interrupted.
pub trait Reservation: 'static {
    fn complete(self, completion: &Completion);
}
