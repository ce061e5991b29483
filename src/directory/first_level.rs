//! What a worker keeps of the cache that all workers share.
//!
//! A few thousand entries, two for each place, found without a lock or a note
//! for moka. One that moka evicted or the directory replaced is detached, and
//! is asked for again.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Entry;
use crate::clock::Tick;
use crate::token::KeyHash;

/// Half a MiB for each worker that asks.
const SLOTS: usize = 8192;

/// So often moka is told that an entry is in use, lest it evicts the hottest.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// Tells directories of one process apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner(u64);

impl Owner {
    pub(super) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self(NEXT.fetch_add(1, Ordering::Relaxed))
    }
}

struct Slot {
    owner: Owner,
    told_at: Tick,
    entry: Arc<Entry>,
}

thread_local! {
    static SLOTS_OF_THREAD: RefCell<Vec<Option<Slot>>> = const { RefCell::new(Vec::new()) };
}

/// The entry, when this thread has it, it is current, and moka need not hear of it.
pub(super) fn get(owner: Owner, hash: &KeyHash, now: Tick) -> Option<Arc<Entry>> {
    SLOTS_OF_THREAD.with_borrow(|slots| {
        let (first, second) = places(hash);
        [first, second].into_iter().find_map(|place| {
            let slot = slots.get(place)?.as_ref()?;
            let serves = slot.entry.key.key_hash == *hash
                && slot.owner == owner
                && slot.entry.is_current()
                && now.since(slot.told_at) < TOLD_EVERY;
            serves.then(|| Arc::clone(&slot.entry))
        })
    })
}

/// Keeps what moka has just been asked for.
pub(super) fn put(owner: Owner, entry: &Arc<Entry>, now: Tick) {
    SLOTS_OF_THREAD.with_borrow_mut(|slots| {
        if slots.is_empty() {
            slots.resize_with(SLOTS, || None);
        }
        let hash = &entry.key.key_hash;
        let (first, second) = places(hash);
        let same = |slot: &Slot| slot.owner == owner && slot.entry.key.key_hash == *hash;
        if !slots[first].as_ref().is_some_and(same) {
            // The older of the two makes room.
            slots.swap(first, second);
        }
        slots[first] = Some(Slot {
            owner,
            told_at: now,
            entry: Arc::clone(entry),
        });
    });
}

/// A hash is random in every byte.
fn places(hash: &KeyHash) -> (usize, usize) {
    let [low, high, ..] = *hash.as_bytes();
    let first = usize::from(u16::from_le_bytes([low, high])) % SLOTS;
    (first, first ^ 1)
}
