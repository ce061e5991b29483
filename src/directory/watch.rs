//! How a stream learns that its key lost the right to it.
//!
//! A request is judged once, when it arrives. What flows on after that is
//! judged again whenever its key's record may have changed, when the key
//! expires, and each time that a cached record would be read again. Only what
//! waits is noted here: a key without streams costs nothing.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use foldhash::fast::FixedState;
use tokio::sync::Notify;
use tokio::time::sleep;

use super::{Directory, Entry, Lookup};
use crate::clock::{Now, Timestamp};
use crate::key::{KnownKey, Verdict};
use crate::refusal::Refusal;
use crate::token::KeyHash;

/// So that streams which begin together seldom meet.
const SHARDS: usize = 64;

/// Between two looks while the store cannot be asked, or is being asked.
const PAUSE: Duration = Duration::from_secs(1);

type Shard = HashMap<KeyHash, Streams, FixedState>;

/// The streams of one key.
#[derive(Default)]
struct Streams {
    told: Arc<Notify>,
    count: usize,
}

/// The keys that have streams, and how those are told of a change.
pub(super) struct Watched([Mutex<Shard>; SHARDS]);

impl Default for Watched {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

impl Watched {
    fn shard(&self, hash: &KeyHash) -> MutexGuard<'_, Shard> {
        let [first, ..] = *hash.as_bytes();
        let shard = &self.0[usize::from(first) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The record of `hash` changed, or may have.
    pub(super) fn tell(&self, hash: &KeyHash) {
        if let Some(streams) = self.shard(hash).get(hash) {
            streams.told.notify_waiters();
        }
    }

    fn enter(&self, hash: &KeyHash) -> Arc<Notify> {
        let mut shard = self.shard(hash);
        let streams = shard.entry(*hash).or_default();
        streams.count += 1;
        Arc::clone(&streams.told)
    }

    fn leave(&self, hash: &KeyHash) {
        let mut shard = self.shard(hash);
        if let Some(streams) = shard.get_mut(hash) {
            streams.count -= 1;
            if streams.count == 0 {
                shard.remove(hash);
            }
        }
    }

    #[cfg(test)]
    fn keys(&self) -> usize {
        let count =
            |shard: &Mutex<Shard>| shard.lock().unwrap_or_else(PoisonError::into_inner).len();
        self.0.iter().map(count).sum()
    }
}

/// One stream that waits for a change of its key.
struct Watch {
    directory: Directory,
    hash: KeyHash,
    told: Arc<Notify>,
}

impl Watch {
    fn of(directory: Directory, hash: KeyHash) -> Self {
        let told = directory.0.cache.watched.enter(&hash);
        Self {
            directory,
            hash,
            told,
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.directory.0.cache.watched.leave(&self.hash);
    }
}

impl Directory {
    /// Ends when `judge` does not admit the key of `entry` any more, with the
    /// reason. While the store cannot be asked it goes on for as long as a
    /// request would be admitted.
    pub fn lost<J>(
        &self,
        entry: Arc<Entry>,
        judge: J,
    ) -> impl Future<Output = Refusal> + Send + use<J>
    where
        J: Fn(&KnownKey, Timestamp) -> Verdict + Send + 'static,
    {
        let watch = Watch::of(self.clone(), entry.key.key_hash);
        async move { watch.lost(entry, judge).await }
    }

    /// How long the record needs no look when nobody tells of a change.
    fn rest(&self, entry: &Entry, now: Now) -> Duration {
        let at_most = self.0.config.ttl;
        let fresh = self.fresh_for(entry, now.tick).max(PAUSE);
        let expires = entry.key.expires_at().map_or(at_most, |at| {
            let micros = at.as_micros().saturating_sub(now.wall.as_micros());
            Duration::from_micros(u64::try_from(micros).unwrap_or(0))
        });
        // A timer may run out a moment before the clock says so.
        at_most
            .min(fresh)
            .min(expires.max(Duration::from_millis(1)))
    }
}

impl Watch {
    async fn lost<J>(self, mut entry: Arc<Entry>, judge: J) -> Refusal
    where
        J: Fn(&KnownKey, Timestamp) -> Verdict + Send,
    {
        loop {
            let mut told = pin!(self.told.notified());
            // Before the look: what is told from here on is not missed.
            told.as_mut().enable();
            entry = match self.newest(entry).await {
                Ok(newest) => newest,
                Err(refusal) => return refusal,
            };
            let now = self.directory.0.clock.now();
            if let Verdict::Refuse(refusal) = judge(&entry.key, now.wall) {
                return refusal;
            }
            let rest = self.directory.rest(&entry, now);
            tokio::select! {
                () = told => {}
                () = sleep(rest) => {}
            }
        }
    }

    /// What stands for the key now, read again where a request would have it read.
    async fn newest(&self, held: Arc<Entry>) -> Result<Arc<Entry>, Refusal> {
        let now = self.directory.0.clock.now();
        let known = if held.is_current() {
            Some(Arc::clone(&held))
        } else {
            self.successor()?
        };
        if let Some(known) = known
            && let Lookup::Hit(entry) = self.directory.judge(known, now)
        {
            return Ok(entry);
        }
        let fetched = self
            .directory
            .fetch(self.hash, held.digest.clone(), None)
            .await;
        match fetched {
            // Evicted while the store cannot be asked: it was confirmed all the same.
            Err(Refusal::StoreUnavailable) if self.directory.serves_unread(&held) => Ok(held),
            fetched => fetched,
        }
    }

    /// What took the place of an entry that was replaced: `None` when it was
    /// only evicted. Whoever replaces it has the turn until that is done.
    fn successor(&self) -> Result<Option<Arc<Entry>>, Refusal> {
        let turn = self.directory.0.cache.turn(self.hash);
        match (turn.known(), turn.absent()) {
            (Some(known), _) => Ok(Some(known)),
            (None, Some(absent)) => absent.refusal.map_or(Ok(None), Err),
            (None, None) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_noted_for_as_long_as_anybody_waits() {
        let (watched, hash) = (Watched::default(), KeyHash::from_bytes([7; 32]));
        watched.enter(&hash);
        watched.enter(&hash);
        assert_eq!(watched.keys(), 1);
        watched.leave(&hash);
        assert_eq!(watched.keys(), 1);
        watched.leave(&hash);
        assert_eq!(watched.keys(), 0);
    }
}
