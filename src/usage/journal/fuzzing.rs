//! What the fuzz targets call: the readers of bytes that a crash or a broken
//! disk may have changed.

use std::ops::Range;

use http::Method;
use uuid::Uuid;

use super::Position;
use super::frame::{Frames, Salt};
use super::record::{self, Record};
use crate::usage::event::{Outcome, UsageEvent};
use crate::usage::recorder::{Completion, Decision};

/// Where the payloads lie that are found in the first segment of a writer, and
/// how often damage was met.
pub fn frames(segment: &[u8]) -> (Vec<Range<usize>>, u64) {
    let mut frames = Frames::new(segment, Salt::of(Uuid::nil(), 0, 1), 0);
    let mut found = Vec::new();
    for frame in frames.by_ref() {
        let start = frame.payload.as_ptr().addr() - segment.as_ptr().addr();
        found.push(start..start + frame.payload.len());
    }
    (found, frames.damaged())
}

/// The bytes of a record, written anew from what was read of them; `None` when
/// they are no record.
pub fn record(payload: &[u8]) -> Option<Vec<u8>> {
    let mut written = Vec::new();
    match record::decode(payload)? {
        Record::Began { decisions } => record::began(&mut written, decisions),
        Record::Opened { number, event } => opened(&mut written, number, &event)?,
        Record::Closed { number, event } => {
            opened(&mut written, number, &event)?;
            let refusal = match event.outcome {
                Outcome::Admitted => None,
                Outcome::Refused(refusal) => Some(refusal),
            };
            record::close(&mut written, 0, refusal, &completion(&event));
        }
    }
    Some(written)
}

/// The same of an acknowledged position.
pub fn position(bytes: &[u8]) -> Option<[u8; 20]> {
    Position::decode(bytes).map(Position::encode)
}

fn opened(written: &mut Vec<u8>, number: u64, event: &UsageEvent) -> Option<()> {
    let decision = Decision {
        occurred_at: event.occurred_at,
        key_id: event.key_id,
        route: &event.route,
        // A text that is no method was never written.
        method: &Method::from_bytes(event.method.as_bytes()).ok()?,
        client: event.client_ip,
    };
    record::opened(written, number, event.event_id, &decision, event.client_ip);
    Some(())
}

const fn completion(event: &UsageEvent) -> Completion {
    Completion {
        status: event.status,
        ended: event.ended,
        request_bytes: event.request_bytes,
        response_bytes: event.response_bytes,
        duration_us: event.duration_us,
        upstream_us: event.upstream_us,
    }
}
