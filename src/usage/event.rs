//! The usage event: one decided request of a known key.
//!
//! No path, no query and no header is in it: nothing secret can get in.

use std::net::IpAddr;

use uuid::Uuid;

use crate::clock::Timestamp;
use crate::refusal::Refusal;

/// One decided request of a known key, admitted or refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageEvent {
    /// UUIDv7; the sink keeps one row for it.
    pub event_id: Uuid,
    /// When the request was decided.
    pub occurred_at: Timestamp,
    pub key_id: Uuid,
    pub route: Box<str>,
    pub method: Box<str>,
    /// Zero when no response was begun.
    pub status: u16,
    pub outcome: Outcome,
    pub ended: Ended,
    /// Body bytes, without framing.
    pub request_bytes: u64,
    /// Body bytes, without framing.
    pub response_bytes: u64,
    pub duration_us: u64,
    /// Until the upstream's response head; zero when it was not reached.
    pub upstream_us: u64,
    pub client_ip: Option<IpAddr>,
}

/// How a request was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    Admitted,
    Refused(Refusal),
}

impl Outcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admitted => "admitted",
            Self::Refused(refusal) => refusal.reason(),
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        if text == "admitted" {
            return Some(Self::Admitted);
        }
        Refusal::from_reason(text).map(Self::Refused)
    }
}

/// How a decided request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ended {
    /// The whole response went towards the client.
    Complete,
    /// The client left first.
    ClientGone,
    /// The upstream, or what else is inside of the layers, failed.
    UpstreamFailed,
    /// It took longer than the upstream or the route may.
    Timeout,
    /// The key was revoked while its stream was open.
    Revoked,
    /// The process died first; found at recovery.
    Interrupted,
}

impl Ended {
    pub const ALL: [Self; 6] = [
        Self::Complete,
        Self::ClientGone,
        Self::UpstreamFailed,
        Self::Timeout,
        Self::Revoked,
        Self::Interrupted,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Complete => "complete",
            Self::ClientGone => "client_gone",
            Self::UpstreamFailed => "upstream_failed",
            Self::Timeout => "timeout",
            Self::Revoked => "revoked",
            Self::Interrupted => "interrupted",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|ended| ended.as_str() == text)
    }
}
