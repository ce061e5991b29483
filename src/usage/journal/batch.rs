//! What goes to a sink in one piece.

use uuid::Uuid;

use crate::usage::event::UsageEvent;

/// Events of one process, and how far its writers had come when they were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// The process: the id of its start.
    pub instance: Uuid,
    pub events: Vec<UsageEvent>,
    pub writers: Vec<Decided>,
}

/// How many requests one writer has decided since its process started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decided {
    pub writer: u32,
    /// Those that were dropped, too.
    pub decided: u64,
    /// Those that found no room.
    pub dropped: u64,
}

/// Where a batch ends that has not come to its number of events: a few times
/// what as many take as anybody asks for, unless their texts are long.
const MOST_BYTES: usize = 8 << 20;

/// Events that are read, until there are enough.
#[derive(Debug)]
pub(super) struct Filling {
    events: Vec<UsageEvent>,
    bytes: usize,
    limit: usize,
}

impl Filling {
    pub(super) const fn new(limit: usize) -> Self {
        Self {
            events: Vec::new(),
            bytes: 0,
            limit,
        }
    }

    pub(super) const fn is_full(&self) -> bool {
        self.events.len() >= self.limit || self.bytes >= MOST_BYTES
    }

    pub(super) fn push(&mut self, event: UsageEvent) {
        self.bytes += size_of::<UsageEvent>() + event.route.len() + event.method.len();
        self.events.push(event);
    }

    pub(super) fn into_events(self) -> Vec<UsageEvent> {
        self.events
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::usage::event::{Ended, Outcome};

    fn event(route: &str) -> UsageEvent {
        UsageEvent {
            event_id: Uuid::nil(),
            occurred_at: Timestamp::EPOCH,
            key_id: Uuid::nil(),
            route: route.into(),
            method: "GET".into(),
            status: 200,
            outcome: Outcome::Admitted,
            ended: Ended::Complete,
            request_bytes: 0,
            response_bytes: 0,
            duration_us: 0,
            upstream_us: 0,
            client_ip: None,
        }
    }

    fn filled(limit: usize, route: &str) -> usize {
        let mut filling = Filling::new(limit);
        while !filling.is_full() {
            filling.push(event(route));
        }
        filling.into_events().len()
    }

    #[test]
    fn a_batch_ends_at_its_number_of_events_or_of_bytes() {
        assert_eq!(filled(10_000, "orders"), 10_000);
        assert!(filled(10_000, &"o".repeat(65_000)) < 130);
    }
}
