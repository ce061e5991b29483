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
