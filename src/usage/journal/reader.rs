//! The reading side: what a writer of this process has recorded, in order.

use std::sync::Arc;

use super::batch::{Decided, Filling};
use super::frame::{Frames, Salt};
use super::record::{self, Record};
use super::shared::Shared;
use super::storage::{Storage, View};
use super::{MAGIC, Position};

/// Reads what one writer records, while it does.
#[derive(Debug)]
pub(super) struct Reader<S: Storage> {
    shared: Arc<Shared<S>>,
    next: Position,
    damaged: u64,
}

impl<S: Storage> Reader<S> {
    pub(super) fn new(shared: Arc<Shared<S>>) -> Self {
        Self {
            shared,
            next: Position::new(1, MAGIC.len() as u64),
            damaged: 0,
        }
    }

    pub(super) fn shared(&self) -> &Shared<S> {
        &self.shared
    }

    #[cfg(test)]
    pub(super) const fn next(&self) -> Position {
        self.next
    }

    /// Reads events that have ended. Whether it came to the end of what there
    /// is.
    pub(super) fn read(&mut self, filling: &mut Filling) -> bool {
        let segments = self.shared.segments();
        for (index, segment) in segments.iter().enumerate() {
            if segment.sequence < self.next.sequence {
                continue;
            }
            let all = segment
                .view
                .with(|bytes| self.read_segment(bytes, segment.salt, filling));
            if !all {
                return false;
            }
            if let Some(following) = segments.get(index + 1) {
                self.next = Position::new(following.sequence, MAGIC.len() as u64);
            }
        }
        true
    }

    /// Whether it came to the end of what there is.
    fn read_segment(&mut self, bytes: &[u8], salt: Salt, filling: &mut Filling) -> bool {
        let start = usize::try_from(self.next.offset).unwrap_or(usize::MAX);
        let mut frames = Frames::new(bytes, salt, start);
        while !filling.is_full() {
            let Some(frame) = frames.next() else {
                self.next.offset = bytes.len() as u64;
                self.damaged += frames.damaged();
                return true;
            };
            self.next.offset = frame.end as u64;
            // Every second one; what it says, the closing one says again.
            if record::is_opening(frame.payload) {
                continue;
            }
            match record::decode(frame.payload) {
                Some(Record::Closed { event, .. }) => filling.push(event),
                Some(_) => {}
                None => self.damaged += 1,
            }
        }
        self.damaged += frames.damaged();
        false
    }

    pub(super) fn decided(&self) -> Decided {
        let (recorded, dropped) = self.shared.decisions();
        Decided {
            writer: self.shared.settings.writer,
            decided: recorded + dropped,
            dropped,
        }
    }

    /// The sink has all that was read.
    pub(super) fn acknowledge(&mut self) -> std::io::Result<()> {
        self.shared.acknowledge(self.next)?;
        self.shared.trim()
    }

    /// Damaged stretches met since this was last asked.
    pub(super) fn take_damaged(&mut self) -> u64 {
        std::mem::take(&mut self.damaged)
    }
}
