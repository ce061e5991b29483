//! What a worker keeps of the cache that all workers share.
//!
//! A look-up in moka touches some ten cache lines that only that key has: its
//! bucket, its book-keeping, its place in a queue and both neighbours there.
//! What is kept here is found by one, without a lock. It is as large as the
//! number of keys that this thread is asked for, up to a share of what the
//! cache may hold. An entry that moka evicted or the directory replaced is
//! detached, and is asked for again.

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Weak};
use std::thread::available_parallelism;

use super::Entry;
use crate::clock::Tick;
use crate::token::KeyHash;

/// At least. So few that where they are and what they count stays in a cache near
/// the processor.
const SHELVES: usize = 64;

/// Each shelf grows by itself, so that no request waits for more than the moving of
/// one: for so many keys that the cache may hold there is one more, and it is at most
/// a megabyte.
const KEYS_PER_SHELF: u64 = 1 << 14;

/// For a hundred million keys and more.
const MOST_SHELVES: usize = 1 << 13;

/// Slots in which an entry may lie: a cache line of them.
const WAYS: usize = 4;

/// With as many on each shelf some thousand keys find a place at once.
const FEWEST: usize = 16 * WAYS;

/// For each key that the cache may hold, by all threads together.
const SLOTS_PER_KEY: u64 = 4;

/// So many entries of a second's reads at most: opening their envelopes takes
/// the background runtime as long.
const READS_A_SECOND: u64 = 10_000;

/// The times in a slot are counted in 2^30 nanoseconds.
const STEP: u32 = 30;

/// A shelf grows when one of so many that it is asked for finds no slot.
const CROWDED: usize = 8;

/// Of so many, at least.
const SAMPLE: usize = 256;

/// For each entry that is gone a thread looks at so many of its slots.
const LOOKS: u64 = 16;

/// The first level of one directory, on every thread that asks it.
pub(super) struct FirstLevel {
    owner: Arc<()>,
    /// A power of two.
    shelves: usize,
    /// Slots of a shelf.
    most: usize,
    /// Moka is told that an entry is in use this often, lest it evicts the
    /// hottest. What is read meanwhile cannot turn over more than half of the
    /// cache.
    told_every: u32,
}

thread_local! {
    /// One for each directory.
    static TABLES: RefCell<Vec<Table>> = const { RefCell::new(Vec::new()) };
}

struct Table {
    owner: Weak<()>,
    shelves: Box<[Shelf]>,
    /// So many of those that are gone were looked for.
    gone: u64,
    /// Where they are looked for next: a shelf, and a slot in it.
    hand: (usize, usize),
}

#[derive(Default)]
struct Shelf {
    /// A power of two, or none yet.
    slots: Vec<Option<Slot>>,
    /// Since last counted; so many of these found no slot.
    asked: Cell<u32>,
    crowded: u32,
}

struct Slot {
    /// Of the hash, so that an entry of another key need not be looked at.
    part: u32,
    told_at: u32,
    entry: Arc<Entry>,
}

impl FirstLevel {
    pub(super) fn new(max_keys: u64) -> Self {
        let threads = available_parallelism().map_or(1, usize::from);
        Self::among(threads, max_keys)
    }

    fn among(threads: usize, max_keys: u64) -> Self {
        let shelves = usize::try_from(max_keys / KEYS_PER_SHELF).unwrap_or(usize::MAX);
        let shelves = shelves.clamp(SHELVES, MOST_SHELVES).next_power_of_two();
        let slots = max_keys.saturating_mul(SLOTS_PER_KEY);
        let slots = usize::try_from(slots).unwrap_or(usize::MAX) / threads / shelves;
        let told_every = max_keys / 2 / READS_A_SECOND;
        Self {
            owner: Arc::new(()),
            shelves,
            most: slots.clamp(FEWEST, 1 << 20).next_power_of_two(),
            told_every: u32::try_from(told_every.clamp(1, 300)).unwrap_or(1),
        }
    }

    /// The entry, when this thread has it, it is current, and moka need not
    /// hear of it.
    pub(super) fn get(&self, hash: &KeyHash, now: Tick) -> Option<Arc<Entry>> {
        let (part, now) = (part(hash), steps(now));
        TABLES.with_borrow(|tables| {
            let table = tables.iter().find(|table| table.is_of(self))?;
            let Shelf { slots, asked, .. } = &table.shelves[table.shelf_of(part)];
            asked.set(asked.get().wrapping_add(1));
            let set = slots.get(set_of(part, slots.len())..)?;
            set.iter().take(WAYS).flatten().find_map(|slot| {
                let serves = slot.part == part
                    && slot.is_told(now, self.told_every)
                    && slot.entry.is_current()
                    && slot.entry.key.key_hash == *hash;
                serves.then(|| Arc::clone(&slot.entry))
            })
        })
    }

    /// Keeps what moka has just been asked for, unless all its places hold what
    /// was asked for lately: where more keys are in use than there are slots,
    /// turning them over with every request would cost more than it saves.
    ///
    /// `gone` counts the entries that are no longer current.
    pub(super) fn put(&self, entry: &Arc<Entry>, now: Tick, gone: u64) {
        let part = part(&entry.key.key_hash);
        TABLES.with_borrow_mut(|tables| {
            let table = self.table(tables, gone);
            table.let_go(gone);
            let place = table.shelf_of(part);
            table.shelves[place].put(self, part, entry, steps(now));
        });
    }

    fn table<'a>(&self, tables: &'a mut Vec<Table>, gone: u64) -> &'a mut Table {
        let found = tables.iter().position(|table| table.is_of(self));
        let place = found.unwrap_or_else(|| {
            tables.retain(|table| table.owner.strong_count() > 0);
            tables.push(Table {
                owner: Arc::downgrade(&self.owner),
                shelves: (0..self.shelves).map(|_| Shelf::default()).collect(),
                gone,
                hand: (0, 0),
            });
            tables.len() - 1
        });
        &mut tables[place]
    }
}

impl Table {
    fn is_of(&self, level: &FirstLevel) -> bool {
        std::ptr::eq(self.owner.as_ptr(), Arc::as_ptr(&level.owner))
    }

    /// By the first bits of the part: a set goes by its last.
    const fn shelf_of(&self, part: u32) -> usize {
        ((part as u64 * self.shelves.len() as u64) >> u32::BITS) as usize
    }

    /// Drops entries that are no longer current, some for each that is gone: a
    /// slot that nobody asks for would hold its entry for good.
    fn let_go(&mut self, gone: u64) {
        // The others are for the next to ask.
        let news = gone.saturating_sub(self.gone).min(LOOKS);
        self.gone += news;
        for _ in 0..news * LOOKS {
            let (at, place) = self.hand;
            match self.shelves[at].slots.get_mut(place) {
                Some(slot) => {
                    slot.take_if(|slot| !slot.entry.is_current());
                    self.hand = (at, place + 1);
                }
                None => self.hand = ((at + 1) % self.shelves.len(), 0),
            }
        }
    }
}

impl Shelf {
    fn put(&mut self, level: &FirstLevel, part: u32, entry: &Arc<Entry>, now: u32) {
        if self.slots.is_empty() {
            self.slots.resize_with(FEWEST, || None);
        }
        let begin = set_of(part, self.slots.len());
        let set = &mut self.slots[begin..][..WAYS];
        let same = |slot: &Option<Slot>| slot.as_ref().is_some_and(|slot| slot.part == part);
        let free = |slot: &Option<Slot>| {
            slot.as_ref()
                .is_none_or(|slot| !slot.is_told(now, level.told_every))
        };
        let place = set.iter().position(same);
        match place.or_else(|| set.iter().position(free)) {
            Some(place) => {
                set[place] = Some(Slot {
                    part,
                    told_at: now,
                    entry: Arc::clone(entry),
                });
            }
            None => self.crowded += 1,
        }
        self.grow_if_crowded(level.most);
    }

    fn grow_if_crowded(&mut self, most: usize) {
        let slots = self.slots.len();
        let sample = SAMPLE.max(4 * slots);
        let crowded = self.crowded as usize >= sample / CROWDED;
        if !crowded && (self.asked.get() as usize) < sample {
            return;
        }
        self.asked.set(0);
        self.crowded = 0;
        if !crowded || slots >= most {
            return;
        }
        let old = std::mem::take(&mut self.slots);
        self.slots.resize_with(slots * 2, || None);
        for slot in old.into_iter().flatten() {
            let begin = set_of(slot.part, self.slots.len());
            let mut set = self.slots[begin..].iter_mut().take(WAYS);
            if let Some(place) = set.find(|place| place.is_none()) {
                *place = Some(slot);
            }
        }
    }
}

impl Slot {
    /// Moka has heard lately that the entry is in use.
    const fn is_told(&self, now: u32, every: u32) -> bool {
        now.saturating_sub(self.told_at) < every
    }
}

/// A hash is random in every byte. What the caches go by are others.
fn part(hash: &KeyHash) -> u32 {
    let last = hash.as_bytes().last_chunk();
    last.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// Where the slots begin, of so many, in which an entry of `part` may lie.
const fn set_of(part: u32, slots: usize) -> usize {
    (part as usize * WAYS) & slots.wrapping_sub(1)
}

fn steps(at: Tick) -> u32 {
    u32::try_from(at.as_nanos() >> STEP).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
