//! The two caches, and the order in which anything is written to them.
//!
//! A reader takes no lock. Writers of one hash take turns, so that a fill and a
//! revocation cannot pass each other between looking and writing.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use moka::policy::EvictionPolicy;
use moka::sync::Cache as Moka;

use super::Entry;
use super::place::{Hashed, Place};
use super::watch::Watched;
use crate::clock::Tick;
use crate::refusal::Refusal;
use crate::token::KeyHash;

/// More than the writers that ever run at once.
const TURNS: usize = 64;

/// What is known of a hash that has no usable key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Absent {
    /// `None` when only a revision is known, and the record is to be read.
    pub(super) refusal: Option<Refusal>,
    /// The highest that was seen: nothing older is believed.
    pub(super) revision: u64,
    /// The highest that the feed told of, of a record that still has to show
    /// that it opens. Nothing older is believed before.
    pub(super) announced: u64,
    pub(super) read_at: Tick,
}

pub(super) struct Cache {
    known: Moka<Place, Arc<Entry>, Hashed>,
    absent: Moka<KeyHash, Absent, Hashed>,
    /// Counts what is no longer current, so that threads let go of it.
    gone: Arc<AtomicU64>,
    turns: [Mutex<()>; TURNS],
    /// Who is told of what is written here.
    pub(super) watched: Watched,
}

/// A writer's turn at one hash.
pub(super) struct Turn<'a> {
    cache: &'a Cache,
    hash: KeyHash,
    _guard: MutexGuard<'a, ()>,
}

impl Cache {
    pub(super) fn new(max_keys: u64, max_absent: u64) -> Self {
        let gone = Arc::new(AtomicU64::new(0));
        let counted = Arc::clone(&gone);
        // Least recently used, so that what was just read is not turned away.
        let known = Moka::builder()
            .max_capacity(max_keys)
            .eviction_policy(EvictionPolicy::lru())
            .eviction_listener(move |_, entry: Arc<Entry>, _| {
                entry.detach();
                counted.fetch_add(1, Ordering::Relaxed);
            })
            .build_with_hasher(Hashed);
        let absent = Moka::builder()
            .max_capacity(max_absent)
            .eviction_policy(EvictionPolicy::lru())
            .build_with_hasher(Hashed);
        Self {
            known,
            absent,
            gone,
            turns: std::array::from_fn(|_| Mutex::new(())),
            watched: Watched::default(),
        }
    }

    pub(super) fn known(&self, hash: &KeyHash) -> Option<Arc<Entry>> {
        self.known
            .get(&Place::of(hash))
            .filter(|entry| entry.key.key_hash == *hash)
    }

    /// How many entries were evicted or replaced so far.
    pub(super) fn gone(&self) -> u64 {
        self.gone.load(Ordering::Relaxed)
    }

    /// Hardly anything is absent: moka, which notes every miss of `get`, is only
    /// asked for what it has.
    pub(super) fn absent(&self, hash: &KeyHash) -> Option<Absent> {
        if !self.absent.contains_key(hash) {
            return None;
        }
        self.absent.get(hash)
    }

    pub(super) fn turn(&self, hash: KeyHash) -> Turn<'_> {
        let [first, ..] = *hash.as_bytes();
        let turn = &self.turns[usize::from(first) % TURNS];
        Turn {
            cache: self,
            hash,
            _guard: turn.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// How many keys are cached. Not to be called on a worker.
    pub(super) fn keys(&self) -> u64 {
        // Until it has done its chores, moka does not count what is new.
        self.known.run_pending_tasks();
        self.known.entry_count()
    }
}

impl Turn<'_> {
    pub(super) fn known(&self) -> Option<Arc<Entry>> {
        self.cache.known(&self.hash)
    }

    pub(super) fn absent(&self) -> Option<Absent> {
        self.cache.absent(&self.hash)
    }

    /// The highest revision that was seen of the record: nothing older is
    /// believed.
    pub(super) fn revision(&self) -> u64 {
        self.settled_revision().max(self.announced_revision())
    }

    /// The highest of a record that opened, or that only refuses. A record that
    /// does not open may claim any.
    pub(super) fn settled_revision(&self) -> u64 {
        let known = self.known().map_or(0, |entry| entry.key.revision);
        let absent = self.absent().map_or(0, |absent| absent.revision);
        known.max(absent)
    }

    /// The highest that the feed told of.
    pub(super) fn announced_revision(&self) -> u64 {
        let known = self.known().map_or(0, |entry| entry.announced_revision());
        let absent = self.absent().map_or(0, |absent| absent.announced);
        known.max(absent)
    }

    /// Whoever holds the old entry is told first, so that nobody takes it for
    /// current after this returned.
    pub(super) fn put(&self, entry: Arc<Entry>) {
        self.detach();
        self.cache.known.insert(Place::of(&self.hash), entry);
        self.cache.absent.invalidate(&self.hash);
        self.cache.watched.tell(&self.hash);
    }

    pub(super) fn put_absent(&self, absent: Absent) {
        self.cache.absent.insert(self.hash, absent);
        self.detach();
        self.cache.known.invalidate(&Place::of(&self.hash));
        self.cache.watched.tell(&self.hash);
    }

    fn detach(&self) {
        if let Some(entry) = self.known() {
            entry.detach();
        }
    }
}
