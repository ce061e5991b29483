//! What the feed tells, applied.

use std::sync::Arc;

use futures_util::StreamExt;
use tokio::sync::Notify;

use super::cache::Absent;
use super::{Directory, Entry, Reload};
use crate::refusal::Refusal;
use crate::repository::{ApiKeyReader, Change};
use crate::token::KeyHash;

impl Directory {
    /// Applies the repository's changes as they come, for ever. To be run once,
    /// on the background runtime.
    pub async fn follow(&self) {
        // Loading a keyring takes a store and a password's worth of work: no
        // revocation waits behind it. Told several times meanwhile, it is
        // loaded once more.
        let replaced = Notify::new();
        let reload = async {
            loop {
                replaced.notified().await;
                self.0.opener.reload(Reload::Changed).await;
            }
        };
        tokio::select! {
            () = self.apply_all(&replaced) => {}
            () = reload => {}
        }
        // A feed that ended tells of nothing more.
        self.0.feed.cut(self.0.clock.tick());
        tracing::error!("the key store's change feed ended");
    }

    async fn apply_all(&self, replaced: &Notify) {
        let mut changes = self.0.store.changes();
        while let Some(change) = changes.next().await {
            self.apply(&change, replaced);
        }
    }

    fn apply(&self, change: &Change, replaced: &Notify) {
        match *change {
            Change::Connected => {
                self.0.feed.connected(self.0.clock.tick());
                // It may have been replaced after it was loaded and before this.
                replaced.notify_one();
                self.begin_warm_up();
            }
            Change::Cut => self.0.feed.cut(self.0.clock.tick()),
            Change::Keyring => replaced.notify_one(),
            Change::Record {
                hash,
                revision,
                live: false,
            } => self.revoke(hash, revision),
            Change::Record {
                hash,
                revision,
                live: true,
            } => self.outdate(hash, revision),
        }
    }

    /// From here on nobody is admitted by `hash`, without any read.
    fn revoke(&self, hash: KeyHash, revision: u64) {
        let turn = self.0.cache.turn(hash);
        self.0.flights.overtake(&hash);
        let revision = turn.revision().max(revision);
        let read_at = self.0.clock.tick();
        // A known key's refusals go on to be recorded as its own.
        if let Some(known) = turn.known() {
            let key = known.key.revoked(revision);
            turn.put(Arc::new(Entry::new(key, known.digest.clone(), read_at)));
        } else {
            turn.put_absent(Absent {
                refusal: Some(Refusal::KeyInactive),
                revision,
                announced: 0,
                read_at,
            });
        }
    }

    /// What is cached of `hash` is not judged again before it was read again.
    fn outdate(&self, hash: KeyHash, revision: u64) {
        let turn = self.0.cache.turn(hash);
        self.0.flights.overtake(&hash);
        if let Some(known) = turn.known() {
            known.outdate(revision);
            drop(turn);
            self.refresh(&known, self.0.clock.tick());
        } else if let Some(absent) = turn.absent() {
            turn.put_absent(Absent {
                refusal: None,
                announced: absent.announced.max(revision),
                read_at: self.0.clock.tick(),
                ..absent
            });
        }
        // Streams read what was evicted, too.
        self.0.cache.watched.tell(&hash);
    }
}
