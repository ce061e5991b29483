//! What the directory knows of one key.

use std::mem::offset_of;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::Tick;
use crate::key::KnownKey;
use crate::token::TokenDigest;

/// A verified record, as a request sees it.
///
/// It is never changed, only replaced: a worker that holds one asks
/// [`is_current`](Self::is_current) whether it still stands for the key.
#[derive(Debug)]
// In this order, three cache lines with the two counts of its `Arc`: the first
// two are what a request asks for (of a name, the first 14 bytes), the third what
// a read of the store does.
#[repr(C)]
pub struct Entry {
    /// When the read began that last brought exactly this record.
    read_at: AtomicU64,
    /// The feed told of a write that has not been read yet.
    outdated: AtomicBool,
    detached: AtomicBool,
    /// When a background read was last begun, in [`STEP`]s; zero is never.
    attempted_at: AtomicU32,
    pub key: KnownKey,
    /// The highest revision that the feed told of.
    announced: AtomicU64,
    /// Of the token that the record was verified with.
    pub(super) digest: TokenDigest,
}

/// A byte more takes thirty-two of each key: the allocator has no size between.
#[cfg(target_pointer_width = "64")]
const _: () = {
    const COUNTS: usize = 2 * size_of::<usize>();
    assert!(COUNTS + size_of::<Entry>() == 3 * 64);
    let name = COUNTS + offset_of!(Entry, key) + offset_of!(KnownKey, name);
    assert!(name + 16 == 2 * 64);
};

/// 2^26 nanoseconds, so that nine years fit into 32 bits.
const STEP: u32 = 26;

impl Entry {
    /// A record that was read at `read_at` and whose sealed part holds `digest`.
    pub fn new(key: impl Into<KnownKey>, digest: TokenDigest, read_at: Tick) -> Self {
        Self {
            read_at: AtomicU64::new(read_at.as_nanos()),
            outdated: AtomicBool::new(false),
            detached: AtomicBool::new(false),
            attempted_at: AtomicU32::new(0),
            key: key.into(),
            announced: AtomicU64::new(0),
            digest,
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
    /// `pause`, or hardly less, is told so.
    pub(super) fn begins_attempt(&self, now: Tick, pause: Duration) -> bool {
        let last = self.attempted_at.load(Ordering::Relaxed);
        let begun_step = Duration::from_nanos((1 << STEP) - 1);
        let since = steps(now.saturating_add(begun_step)).saturating_sub(last);
        let since = u64::from(since) << STEP;
        let due = last == 0 || Duration::from_nanos(since) >= pause;
        due && self
            .attempted_at
            .compare_exchange(
                last,
                steps(now).max(1),
                Ordering::Relaxed,
                Ordering::Relaxed,
            )
            .is_ok()
    }
}

fn steps(at: Tick) -> u32 {
    u32::try_from(at.as_nanos() >> STEP).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(super) mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::clock::Timestamp;
    use crate::key::ApiKey;
    use crate::token::KeyHash;

    const PAUSE: Duration = Duration::from_secs(1);

    /// Of an active key without permissions, read when time began.
    pub(in crate::directory) fn entry(key_hash: KeyHash) -> Entry {
        let key = ApiKey {
            id: Uuid::from_u128(1),
            name: "test".parse().unwrap(),
            key_hash,
            permissions: Vec::new(),
            rate_limit: std::num::NonZeroU32::MIN,
            created_at: Timestamp::EPOCH,
            expires_at: None,
            is_active: true,
            allowed_ips: Vec::new(),
            revision: 1,
            last_used: None,
            usage_count: 0,
        };
        Entry::new(key, TokenDigest::from_bytes([0; 32]), Tick::default())
    }

    #[test]
    fn one_caller_in_a_pause_begins_an_attempt() {
        for start in [100_000_000, 999_999_999, 86_400_000_000_000 * 365] {
            let entry = entry(KeyHash::from_bytes([0; 32]));
            let at = |millis: u64| Tick::from_nanos(start + millis * 1_000_000);
            let begun: Vec<_> = [0, 0, 500, 800, 1000, 1001, 1800, 2000, 9000]
                .into_iter()
                .filter(|millis| entry.begins_attempt(at(*millis), PAUSE))
                .collect();
            assert_eq!(begun, [0, 1000, 2000, 9000], "from {start}");
        }
    }
}
