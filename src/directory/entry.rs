//! What the directory knows of one key.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Tick;
use crate::key::ApiKey;
use crate::token::TokenDigest;

/// A verified record, as a request sees it.
///
/// It is never changed, only replaced: a worker that holds one asks
/// [`is_current`](Self::is_current) whether it still stands for the key.
#[derive(Debug)]
pub struct Entry {
    pub key: ApiKey,
    /// Of the token that the record was verified with.
    pub(super) digest: TokenDigest,
    /// When the read began that last brought exactly this record.
    read_at: AtomicU64,
    /// When a background read was last begun.
    attempted_at: AtomicU64,
    /// The feed told of a write that has not been read yet.
    outdated: AtomicBool,
    /// The highest revision that the feed told of.
    announced: AtomicU64,
    detached: AtomicBool,
}

impl Entry {
    /// A record that was read at `read_at` and whose sealed part holds `digest`.
    pub const fn new(key: ApiKey, digest: TokenDigest, read_at: Tick) -> Self {
        Self {
            key,
            digest,
            read_at: AtomicU64::new(read_at.as_nanos()),
            attempted_at: AtomicU64::new(0),
            outdated: AtomicBool::new(false),
            announced: AtomicU64::new(0),
            detached: AtomicBool::new(false),
        }
    }

    /// False once the directory has replaced, revoked or evicted it.
    pub fn is_current(&self) -> bool {
        !self.detached.load(Ordering::Acquire)
    }

    pub(super) fn detach(&self) {
        self.detached.store(true, Ordering::Release);
    }

    pub(super) fn read_at(&self) -> Tick {
        Tick::from_nanos(self.read_at.load(Ordering::Acquire))
    }

    /// A read that began at `read_at` brought the same record.
    pub(super) fn confirm(&self, read_at: Tick) {
        self.read_at.fetch_max(read_at.as_nanos(), Ordering::AcqRel);
        self.outdated.store(false, Ordering::Release);
    }

    pub(super) fn is_outdated(&self) -> bool {
        self.outdated.load(Ordering::Acquire)
    }

    pub(super) fn outdate(&self, announced: u64) {
        self.announced.fetch_max(announced, Ordering::AcqRel);
        self.outdated.store(true, Ordering::Release);
    }

    pub(super) fn announced_revision(&self) -> u64 {
        self.announced.load(Ordering::Acquire)
    }

    /// Whether it is time for another background read; at most one caller in
    /// `pause` is told so.
    pub(super) fn begins_attempt(&self, now: Tick, pause: Duration) -> bool {
        let last = self.attempted_at.load(Ordering::Relaxed);
        let due = last == 0 || now.since(Tick::from_nanos(last)) >= pause;
        due && self
            .attempted_at
            .compare_exchange(
                last,
                now.as_nanos().max(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }
}
