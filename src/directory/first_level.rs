//! What a worker keeps of the cache that all workers share.
//!
//! A few thousand entries, two for each place, found without a lock or a note
//! for moka: with 1,000 keys in use a hit then takes a quarter of the time, with
//! 100,000 it takes the same. One that moka evicted or the directory replaced is detached, and
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
    /// A part of the hash, so that an entry of another key need not be looked at.
    part: u64,
    owner: Owner,
    told_at: Tick,
    entry: Arc<Entry>,
}

impl Slot {
    fn holds(&self, owner: Owner, hash: &KeyHash) -> bool {
        self.part == part(hash) && self.owner == owner && self.entry.key.key_hash == *hash
    }

    /// Moka has heard lately that the entry is in use.
    fn is_told(&self, now: Tick) -> bool {
        now.since(self.told_at) < TOLD_EVERY
    }
}

thread_local! {
    static SLOTS_OF_THREAD: RefCell<Vec<Option<Slot>>> = const { RefCell::new(Vec::new()) };
}

/// The entry, when this thread has it, it is current, and moka need not hear of it.
pub(super) fn get(owner: Owner, hash: &KeyHash, now: Tick) -> Option<Arc<Entry>> {
    SLOTS_OF_THREAD.with_borrow(|slots| {
        places(hash).into_iter().find_map(|place| {
            let slot = slots.get(place)?.as_ref()?;
            let serves = slot.holds(owner, hash) && slot.is_told(now) && slot.entry.is_current();
            serves.then(|| Arc::clone(&slot.entry))
        })
    })
}

/// Keeps what moka has just been asked for, unless both its places hold what
/// was asked for lately: where more keys are in use than there are slots,
/// turning them over with every request would cost more than it saves.
pub(super) fn put(owner: Owner, entry: &Arc<Entry>, now: Tick) {
    SLOTS_OF_THREAD.with_borrow_mut(|slots| {
        if slots.is_empty() {
            slots.resize_with(SLOTS, || None);
        }
        let hash = &entry.key.key_hash;
        let free =
            |slot: &Slot| slot.holds(owner, hash) || !slot.is_told(now) || !slot.entry.is_current();
        let place = places(hash)
            .into_iter()
            .find(|place| slots[*place].as_ref().is_none_or(free));
        if let Some(place) = place {
            slots[place] = Some(Slot {
                part: part(hash),
                owner,
                told_at: now,
                entry: Arc::clone(entry),
            });
        }
    });
}

/// A hash is random in every byte. The two lie beside each other.
fn places(hash: &KeyHash) -> [usize; 2] {
    let [low, high, ..] = *hash.as_bytes();
    let first = usize::from(u16::from_le_bytes([low, high])) % SLOTS;
    [first, first ^ 1]
}

fn part(hash: &KeyHash) -> u64 {
    let last = hash.as_bytes().last_chunk();
    last.map_or(0, |bytes| u64::from_le_bytes(*bytes))
}
