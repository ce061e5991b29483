//! What a writer, the keeper and the reader of its segments share.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::Thread;

use uuid::Uuid;

use super::budget::Budget;
use super::config::WhenFull;
use super::frame::{Draft, Salt};
use super::ids::EventIds;
use super::slots::Slots;
use super::storage::{Memory, Storage, View};
use super::{MAGIC, Position, record};
use crate::usage::client::ClientIp;

/// How many segments are kept ready for a writer: while the disk is slow to
/// give another, one more can be filled.
const SPARES: usize = 2;

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) boot: Uuid,
    pub(super) writer: u32,
    pub(super) segment_bytes: usize,
    pub(super) client_ip: ClientIp,
    pub(super) when_full: WhenFull,
}

pub(super) struct Shared<S: Storage> {
    pub(super) settings: Settings,
    pub(super) storage: S,
    budget: Arc<Budget>,
    state: Mutex<State<S>>,
    /// Those in use, oldest first; the last one is written to.
    segments: Mutex<VecDeque<Arc<Segment<ViewOf<S>>>>>,
    /// The number of the next segment; locked while one is made.
    next: Mutex<u64>,
    acknowledged: Mutex<Position>,
    /// Whether what is written may not reach the disk.
    pub(super) failing: AtomicBool,
    keeper: OnceLock<Thread>,
}

type ViewOf<S> = <<S as Storage>::Memory as Memory>::View;

pub(super) struct State<S: Storage> {
    pub(super) current: Current<S::Memory>,
    pub(super) spare: VecDeque<Current<S::Memory>>,
    pub(super) open: Slots,
    /// Bytes that the closing records of the open requests will take.
    pub(super) owed: usize,
    /// Bytes that the opening records of the open requests take.
    pub(super) open_bytes: usize,
    /// Decisions recorded so far.
    pub(super) decisions: u64,
    pub(super) ids: EventIds,
    pub(super) draft: Draft,
    /// Whether the last request found no room.
    pub(super) full: bool,
}

/// A segment that is written to, or will be.
#[derive(Debug)]
pub(super) struct Current<M> {
    sequence: u64,
    salt: Salt,
    pub(super) memory: M,
    pub(super) end: usize,
}

/// A segment as its readers see it.
#[derive(Debug)]
pub(super) struct Segment<V> {
    pub(super) sequence: u64,
    pub(super) salt: Salt,
    pub(super) view: V,
    /// Where the records end that it was begun with.
    begun: usize,
    synced: AtomicUsize,
}

impl<V: View> Segment<V> {
    pub(super) fn end(&self) -> usize {
        self.view.with(<[u8]>::len)
    }
}

impl<M: Memory> Current<M> {
    fn create<S: Storage<Memory = M>>(
        storage: &S,
        settings: &Settings,
        sequence: u64,
    ) -> io::Result<Self> {
        Ok(Self {
            sequence,
            salt: Salt::of(settings.boot, settings.writer, sequence),
            memory: storage.create(sequence, settings.segment_bytes)?,
            end: MAGIC.len(),
        })
    }

    pub(super) fn append(&mut self, draft: &mut Draft) -> Option<usize> {
        let frame = draft.seal(self.salt);
        let start = self.memory.append(frame)?;
        self.end = start + frame.len();
        Some(start)
    }
}

impl<S: Storage> State<S> {
    pub(super) fn begin_segment(&mut self) {
        record::began(self.draft.begin(), self.decisions);
        self.current.append(&mut self.draft);
    }
}

impl<S: Storage> Shared<S> {
    pub(super) fn open(
        storage: S,
        settings: Settings,
        ids: EventIds,
        budget: Arc<Budget>,
    ) -> io::Result<Self> {
        budget.count(settings.segment_bytes as u64);
        let mut state = State {
            current: Current::create(&storage, &settings, 1)?,
            spare: VecDeque::new(),
            open: Slots::default(),
            owed: 0,
            open_bytes: 0,
            decisions: 0,
            ids,
            draft: Draft::default(),
            full: false,
        };
        state.begin_segment();
        let shared = Self {
            settings,
            storage,
            budget,
            segments: Mutex::default(),
            next: Mutex::new(2),
            acknowledged: Mutex::new(Position::new(1, MAGIC.len() as u64)),
            failing: AtomicBool::new(false),
            keeper: OnceLock::new(),
            state: Mutex::new(state),
        };
        shared.publish(&shared.lock().current);
        Ok(shared)
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State<S>> {
        // The state is whole wherever a thread could have panicked.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The segments in use, oldest first; all but the last are final.
    pub(super) fn segments(&self) -> Vec<Arc<Segment<ViewOf<S>>>> {
        lock(&self.segments).iter().cloned().collect()
    }

    /// Shows a segment to the readers once it is begun.
    pub(super) fn publish(&self, current: &Current<S::Memory>) {
        lock(&self.segments).push_back(Arc::new(Segment {
            sequence: current.sequence,
            salt: current.salt,
            view: current.memory.view(),
            begun: current.end,
            synced: AtomicUsize::new(0),
        }));
    }

    /// Decisions recorded, and decisions that found no room.
    pub(super) fn decisions(&self) -> (u64, u64) {
        let recorded = self.lock().decisions;
        (recorded, self.storage.dropped().load(Ordering::Relaxed))
    }

    /// Bytes that the sink does not have yet.
    pub(super) fn backlog(&self) -> u64 {
        let acknowledged = *lock(&self.acknowledged);
        let pending = |segment: &Arc<Segment<_>>| {
            let end = segment.end() as u64;
            match segment.sequence.cmp(&acknowledged.sequence) {
                std::cmp::Ordering::Less => 0,
                std::cmp::Ordering::Equal => end.saturating_sub(acknowledged.offset),
                std::cmp::Ordering::Greater => end,
            }
        };
        self.segments().iter().map(pending).sum()
    }

    pub(super) fn set_keeper(&self, keeper: Thread) {
        let _ = self.keeper.set(keeper);
    }

    /// Asks for another segment.
    pub(super) fn wake(&self) {
        if let Some(keeper) = self.keeper.get() {
            keeper.unpark();
        }
    }

    /// Makes one segment ready, unless there are enough. Whether it did.
    pub(super) fn prepare(&self) -> io::Result<bool> {
        let mut next = lock(&self.next);
        let bytes = self.settings.segment_bytes as u64;
        if self.lock().spare.len() >= SPARES || !self.budget.take(bytes) {
            return Ok(false);
        }
        match Current::create(&self.storage, &self.settings, *next) {
            Ok(segment) => {
                *next += 1;
                self.lock().spare.push_back(segment);
                Ok(true)
            }
            Err(error) => {
                self.budget.release(bytes);
                Err(error)
            }
        }
    }

    /// Waits until everything that was recorded before is on the disk. While
    /// that fails, nothing is admitted.
    pub(super) fn sync(&self) -> io::Result<()> {
        let result = self.segments().iter().try_for_each(|segment| {
            let end = segment.end();
            let synced = segment.synced.load(Ordering::Relaxed);
            if end > synced {
                segment.view.sync(synced..end)?;
                segment.synced.store(end, Ordering::Relaxed);
            }
            Ok(())
        });
        self.failing.store(result.is_err(), Ordering::Relaxed);
        result
    }

    /// The sink has everything before `position`.
    pub(super) fn acknowledge(&self, position: Position) -> io::Result<()> {
        self.storage.acknowledge(position)?;
        *lock(&self.acknowledged) = position;
        Ok(())
    }

    /// Deletes the segments that are not needed any more: the sink has what
    /// ended in them, and the disk has, in the next, what is still open.
    pub(super) fn trim(&self) -> io::Result<()> {
        let acknowledged = *lock(&self.acknowledged);
        loop {
            let mut segments = lock(&self.segments);
            let (Some(oldest), Some(next)) = (segments.front(), segments.get(1)) else {
                return Ok(());
            };
            let kept = next.synced.load(Ordering::Relaxed) >= next.begun;
            if oldest.sequence >= acknowledged.sequence || !kept {
                return Ok(());
            }
            let sequence = oldest.sequence;
            segments.pop_front();
            drop(segments);
            self.storage.remove(sequence)?;
            self.budget.release(self.settings.segment_bytes as u64);
            self.wake();
        }
    }
}

impl<S: Storage> fmt::Debug for Shared<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is locked here is changed in one step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
