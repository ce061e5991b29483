//! The writing side: what a worker calls for each request.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::config::WhenFull;
use super::frame::{self, HEAD};
use super::record;
use super::shared::{Shared, State};
use super::slots::Opening;
use super::storage::{Files, Memory, Storage, View};
use crate::refusal::Refusal;
use crate::usage::event::Ended;
use crate::usage::recorder::{self, Completion, Decision, Full, Recorder};

/// One worker's way into the journal.
pub struct Writer<S: Storage = Files>(pub(super) Arc<Shared<S>>);

/// The journal record of one admitted request, until it has ended.
pub struct Reservation<S: Storage = Files> {
    /// `None` when it was dropped for want of room, or has been completed.
    open: Option<(Arc<Shared<S>>, usize)>,
}

impl<S: Storage> Recorder for Writer<S> {
    type Reservation = Reservation<S>;

    fn admit(&self, decision: &Decision<'_>) -> Result<Reservation<S>, Full> {
        let mut state = self.0.lock();
        if let Some(slot) = self.0.open_record(&mut state, decision) {
            let open = Some((Arc::clone(&self.0), slot));
            return Ok(Reservation { open });
        }
        self.0.note_full(&mut state);
        match self.0.settings.when_full {
            WhenFull::Refuse => Err(Full),
            WhenFull::Drop => {
                self.0.drop_one();
                Ok(Reservation { open: None })
            }
        }
    }

    fn refuse(&self, decision: &Decision<'_>, refusal: Refusal, completion: &Completion) {
        let mut state = self.0.lock();
        if !self
            .0
            .refused_record(&mut state, decision, refusal, completion)
        {
            self.0.note_full(&mut state);
            self.0.drop_one();
        }
    }
}

impl<S: Storage> recorder::Reservation for Reservation<S> {
    fn complete(mut self, completion: &Completion) {
        if let Some((shared, slot)) = self.open.take() {
            shared.close_record(slot, completion);
        }
    }
}

impl<S: Storage> Reservation<S> {
    /// Leaves the record as a process does that dies.
    #[cfg(test)]
    pub(super) fn abandon(mut self) {
        self.open = None;
    }
}

impl<S: Storage> Drop for Reservation<S> {
    fn drop(&mut self) {
        if let Some((shared, slot)) = self.open.take() {
            shared.close_record(slot, &NEVER_ENDED);
        }
    }
}

const NEVER_ENDED: Completion = Completion {
    status: 0,
    ended: Ended::Interrupted,
    request_bytes: 0,
    response_bytes: 0,
    duration_us: 0,
    upstream_us: 0,
};

impl<S: Storage> Clone for Writer<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Storage> fmt::Debug for Writer<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let writer = self.0.settings.writer;
        f.debug_struct("Writer").field("writer", &writer).finish()
    }
}

impl<S: Storage> fmt::Debug for Reservation<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let slot = self.open.as_ref().map(|(_, slot)| slot);
        f.debug_struct("Reservation").field("slot", &slot).finish()
    }
}

/// A closing record always fits: room for it is kept from the moment at which
/// its request is admitted, in the current segment and, before a roll, in the
/// next.
impl<S: Storage> Shared<S> {
    fn open_record(&self, state: &mut State<S>, decision: &Decision<'_>) -> Option<usize> {
        let size = self.draft_decision(state, decision);
        let payload = state.draft.payload_len();
        let closing = frame::size_of(payload + record::CLOSING);
        if !self.make_room(state, size + closing) {
            return None;
        }
        let start = state.append()?;
        state.decisions += 1;
        state.owed += closing;
        state.open_bytes += size;
        Some(state.open.insert(Opening { start, payload }))
    }

    fn refused_record(
        &self,
        state: &mut State<S>,
        decision: &Decision<'_>,
        refusal: Refusal,
        completion: &Completion,
    ) -> bool {
        self.draft_decision(state, decision);
        record::close(state.draft.buffer(), HEAD, Some(refusal), completion);
        let size = state.draft.size();
        let written = self.make_room(state, size) && state.append().is_some();
        state.decisions += u64::from(written);
        written
    }

    fn close_record(&self, slot: usize, completion: &Completion) {
        let mut state = self.lock();
        let state = &mut *state;
        let Some(opening) = state.open.remove(slot) else {
            return;
        };
        state.draft_copy(opening);
        record::close(state.draft.buffer(), HEAD, None, completion);
        state.owed -= state.draft.size();
        state.open_bytes -= frame::size_of(opening.payload);
        state.append();
    }

    /// Drafts an opening record; the size of its frame.
    fn draft_decision(&self, state: &mut State<S>, decision: &Decision<'_>) -> usize {
        let client: Option<IpAddr> = self.settings.client_ip.keep(decision.client);
        let id = state.ids.next(decision.occurred_at);
        let payload = state.draft.begin();
        record::opened(payload, state.decisions + 1, id, decision, client);
        state.draft.size()
    }

    /// Whether there is room for so many bytes more, beside the closing
    /// records of all open requests.
    fn make_room(&self, state: &mut State<S>, bytes: usize) -> bool {
        if self.failing.load(Ordering::Relaxed) {
            return false;
        }
        let room = state.fits(bytes) || self.roll(state, bytes);
        if room {
            state.full = false;
        }
        room
    }

    /// Goes on in the next segment, taking the open requests along, so that
    /// older ones can be deleted however long a request stays open.
    pub(super) fn roll(&self, state: &mut State<S>, bytes: usize) -> bool {
        let Some(next) = state.spare.pop_front() else {
            if !state.full {
                self.wake();
            }
            return false;
        };
        let taken = frame::size_of(record::BEGINNING) + state.open_bytes + state.owed;
        if next.end + taken + bytes > next.memory.capacity() {
            state.spare.push_front(next);
            return false;
        }
        let draft = std::mem::take(&mut state.draft);
        let before = std::mem::replace(&mut state.current, next);
        state.begin_segment();
        let carried = before.memory.view();
        for opening in state.open.iter_mut() {
            let payload = state.draft.begin();
            carried.with(|bytes| payload.extend_from_slice(opening.bytes_in(bytes)));
            if let Some(start) = state.current.append(&mut state.draft) {
                opening.start = start;
            }
        }
        state.draft = draft;
        self.publish(&state.current);
        self.wake();
        true
    }

    /// Says once for each time it happens that there is no room.
    fn note_full(&self, state: &mut State<S>) {
        if !std::mem::replace(&mut state.full, true) {
            tracing::warn!(
                writer = self.settings.writer,
                failing = self.failing.load(Ordering::Relaxed),
                open = state.open.len(),
                "the usage journal is full"
            );
        }
    }

    fn drop_one(&self) {
        self.storage.dropped().fetch_add(1, Ordering::Relaxed);
    }
}

impl<S: Storage> State<S> {
    fn fits(&self, bytes: usize) -> bool {
        self.current.end + self.owed + bytes <= self.current.memory.capacity()
    }

    fn append(&mut self) -> Option<usize> {
        self.current.append(&mut self.draft)
    }

    fn draft_copy(&mut self, opening: Opening) {
        let payload = self.draft.begin();
        self.current
            .memory
            .view()
            .with(|bytes| payload.extend_from_slice(opening.bytes_in(bytes)));
    }
}

impl Opening {
    fn bytes_in(self, segment: &[u8]) -> &[u8] {
        let start = self.start + HEAD;
        &segment[start..start + self.payload]
    }
}
