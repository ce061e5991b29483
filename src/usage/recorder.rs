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
    pub occurred_at: Timestamp,
    pub key_id: Uuid,
    pub route: &'a str,
    pub method: &'a Method,
    pub client: Option<IpAddr>,
}

/// What is known when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    pub status: u16,
    pub ended: Ended,
    pub request_bytes: u64,
    pub response_bytes: u64,
    pub duration_us: u64,
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

    /// Reserves the record of an admitted request.
    fn admit(&self, decision: &Decision<'_>) -> Result<Self::Reservation, Full>;

    /// Records a refused request of a known key.
    fn refuse(&self, decision: &Decision<'_>, refusal: Refusal, completion: &Completion);
}

/// The record of one admitted request, until it has ended.
///
/// One that is dropped without being completed stands for a request that was
/// never seen to end, and is recorded as interrupted.
pub trait Reservation: 'static {
    fn complete(self, completion: &Completion);
}
