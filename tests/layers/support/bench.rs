//! A directory over the store, whose feed and time the test moves.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::directory::{Config, Directory, Entry, Lookup};
use cypheron_edge::refusal::Refusal;
use cypheron_edge::repository::Change;
use cypheron_edge::token::{KeyHash, TokenDigest};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::store::{Opener, Store};
use super::{key, mint};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) struct Bench {
    pub(crate) store: Store,
    pub(crate) opener: Arc<Opener>,
    pub(crate) clock: Clock,
    pub(crate) directory: Directory,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    pub(crate) fn with(config: Config) -> Self {
        let (store, opener) = (Store::new(), Arc::new(Opener::default()));
        let clock = Clock::manual(Timestamp::EPOCH);
        // Read times of zero would hide a comparison that is off.
        clock.advance(SECOND);
        let directory = Directory::new(
            config,
            clock.clone(),
            Arc::new(store.clone()),
            Arc::clone(&opener) as _,
            Handle::current(),
        );
        Self {
            store,
            opener,
            clock,
            directory,
        }
    }

    /// Follows the feed, which is healthy from here on.
    pub(crate) async fn follow(&self) {
        let directory = self.directory.clone();
        tokio::spawn(async move { directory.follow().await });
        self.tell(Change::Connected).await;
        assert_ne!(self.opener.reloads.swap(0, Ordering::SeqCst), 0);
    }

    pub(crate) async fn tell(&self, change: Change) {
        self.store.tell(change);
        settle().await;
    }

    pub(crate) fn lookup(&self, hash: &KeyHash) -> Lookup {
        self.directory.lookup(hash, self.clock.now())
    }

    pub(crate) fn start(
        &self,
        token: &str,
        hash: KeyHash,
    ) -> JoinHandle<Result<Arc<Entry>, Refusal>> {
        let digest = TokenDigest::of(token);
        tokio::spawn(self.directory.fetch(hash, digest, None))
    }

    pub(crate) async fn fetch(&self, token: &str, hash: KeyHash) -> Result<Arc<Entry>, Refusal> {
        self.start(token, hash).await.unwrap()
    }

    /// Waits until the store is asked again.
    pub(crate) async fn recovered(&self) {
        for _ in 0..1000 {
            if !self.directory.is_store_failing() {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("the store is still left alone");
    }

    /// A key in the store, read once.
    pub(crate) async fn known(&self) -> (String, KeyHash, Arc<Entry>) {
        let (token, hash) = mint();
        self.store.put(key(hash), &token);
        let entry = self.fetch(&token, hash).await.unwrap();
        (token, hash, entry)
    }
}

/// Lets every task that can go on do so.
pub(crate) async fn settle() {
    for _ in 0..32 {
        tokio::task::yield_now().await;
    }
}

pub(crate) fn revoked(hash: KeyHash, revision: u64) -> Change {
    Change::Record {
        hash,
        revision,
        live: false,
    }
}

pub(crate) fn written(hash: KeyHash, revision: u64) -> Change {
    Change::Record {
        hash,
        revision,
        live: true,
    }
}

pub(crate) fn hit(lookup: &Lookup) -> Option<&Arc<Entry>> {
    match lookup {
        Lookup::Hit(entry) => Some(entry),
        _ => None,
    }
}

pub(crate) fn refused(lookup: &Lookup) -> Option<Refusal> {
    match lookup {
        Lookup::Refused(refusal) => Some(*refusal),
        _ => None,
    }
}

pub(crate) fn is_miss(lookup: &Lookup) -> bool {
    matches!(lookup, Lookup::Miss)
}
