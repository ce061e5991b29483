//! What a writer left behind whose process is gone.
//!
//! All its segments are read, oldest first. A closing record is an event,
//! unless the sink acknowledged it. An opening record that no closing record
//! follows is one too: the process died before the request ended. A record
//! that is open when a segment is begun is written into it again, so the
//! segments that were deleted before held nothing that is still open.

use std::collections::HashMap;
use std::io;
use std::sync::atomic::Ordering;

use foldhash::fast::RandomState;
use uuid::Uuid;

use super::batch::{Decided, Filling};
use super::frame::{Frames, Salt};
use super::record::{self, Record};
use super::storage::Storage;
use super::{MAGIC, Position};
use crate::usage::event::UsageEvent;

/// A writer's segments, read once.
#[derive(Debug)]
pub(super) struct Recovery<S: Storage> {
    storage: S,
    instance: Uuid,
    writer: u32,
    sequences: Vec<u64>,
    /// Index of the segment that `bytes` is of.
    at: usize,
    bytes: Option<Vec<u8>>,
    offset: usize,
    acknowledged: Position,
    open: HashMap<Uuid, UsageEvent, RandomState>,
    interrupted: Option<std::vec::IntoIter<UsageEvent>>,
    recorded: u64,
    damaged: u64,
}

impl<S: Storage> Recovery<S> {
    pub(super) fn new(storage: S, instance: Uuid, writer: u32) -> io::Result<Self> {
        Ok(Self {
            sequences: storage.list()?,
            acknowledged: storage.acknowledged()?.unwrap_or_default(),
            storage,
            instance,
            writer,
            at: 0,
            bytes: None,
            offset: MAGIC.len(),
            open: HashMap::default(),
            interrupted: None,
            recorded: 0,
            damaged: 0,
        })
    }

    /// Reads events. Whether there may be more.
    pub(super) fn read(&mut self, filling: &mut Filling) -> io::Result<bool> {
        while let Some(&sequence) = self.sequences.get(self.at) {
            let bytes = match self.bytes.take() {
                Some(bytes) => bytes,
                None => self.storage.read(sequence)?,
            };
            if !self.read_segment(&bytes, sequence, filling) {
                self.bytes = Some(bytes);
                return Ok(true);
            }
            self.at += 1;
            self.offset = MAGIC.len();
        }
        let open = &mut self.open;
        let interrupted = self.interrupted.get_or_insert_with(|| {
            let mut events: Vec<_> = std::mem::take(open).into_values().collect();
            events.sort_unstable_by_key(|event| event.event_id);
            events.into_iter()
        });
        while !filling.is_full() {
            let Some(event) = interrupted.next() else {
                return Ok(false);
            };
            filling.push(event);
        }
        Ok(!interrupted.as_slice().is_empty())
    }

    /// Whether it came to the segment's end.
    fn read_segment(&mut self, bytes: &[u8], sequence: u64, filling: &mut Filling) -> bool {
        let salt = Salt::of(self.instance, self.writer, sequence);
        let mut frames = Frames::new(bytes, salt, self.offset);
        while !filling.is_full() {
            let Some(frame) = frames.next() else {
                self.damaged += frames.damaged();
                return true;
            };
            self.offset = frame.end;
            let Some(record) = record::decode(frame.payload) else {
                self.damaged += 1;
                continue;
            };
            match record {
                Record::Began { decisions } => self.recorded = self.recorded.max(decisions),
                Record::Opened { number, event } => {
                    self.recorded = self.recorded.max(number);
                    self.open.insert(event.event_id, event);
                }
                Record::Closed { number, event } => {
                    self.recorded = self.recorded.max(number);
                    self.open.remove(&event.event_id);
                    if Position::new(sequence, frame.end as u64) > self.acknowledged {
                        filling.push(event);
                    }
                }
            }
        }
        self.damaged += frames.damaged();
        false
    }

    /// What is known of it so far; all of it once everything was read.
    pub(super) fn decided(&self) -> Decided {
        let dropped = self.storage.dropped().load(Ordering::Relaxed);
        Decided {
            writer: self.writer,
            decided: self.recorded + dropped,
            dropped,
        }
    }

    /// The sink has all that was read.
    pub(super) fn acknowledge(&mut self) -> io::Result<()> {
        let read = match self.sequences.get(self.at) {
            Some(&sequence) => Position::new(sequence, self.offset as u64),
            None => Position::new(u64::MAX, 0),
        };
        if read > self.acknowledged {
            self.storage.acknowledge(read)?;
            self.acknowledged = read;
        }
        Ok(())
    }

    /// Deletes the segments, oldest first, so that what is left after a crash
    /// reads the same.
    pub(super) fn remove_segments(&self) -> io::Result<()> {
        self.sequences
            .iter()
            .try_for_each(|sequence| self.storage.remove(*sequence))
    }

    pub(super) const fn damaged(&self) -> u64 {
        self.damaged
    }
}
