//! The store, and an opener to whom a record's sealed part is the bare digest.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cypheron_edge::clock::Timestamp;
use cypheron_edge::directory::{OpenFailure, RecordOpener, Reload};
use cypheron_edge::key::ApiKey;
use cypheron_edge::repository::{ApiKeyReader, Change, Found, RepositoryError, Result, StoredKey};
use cypheron_edge::token::{KeyHash, TokenDigest};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{mpsc, watch};

/// Sealed with a key that is held only after a reload.
pub(crate) const LATER: &[u8] = b"sealed with a later key";
/// Sealed with a key that is never held.
pub(crate) const ELSEWHERE: &[u8] = b"sealed elsewhere";

#[derive(Clone)]
pub(crate) struct Store(Arc<Inner>);

struct Inner {
    records: Mutex<HashMap<KeyHash, Found>>,
    reads: AtomicU64,
    broken: AtomicBool,
    /// A read has taken its look, and waits for this before it answers.
    open: watch::Sender<bool>,
    changes: mpsc::UnboundedSender<Change>,
    feed: Mutex<Option<mpsc::UnboundedReceiver<Change>>>,
}

impl Store {
    pub(crate) fn new() -> Self {
        let (changes, feed) = mpsc::unbounded_channel();
        Self(Arc::new(Inner {
            records: Mutex::default(),
            reads: AtomicU64::new(0),
            broken: AtomicBool::new(false),
            open: watch::Sender::new(true),
            changes,
            feed: Mutex::new(Some(feed)),
        }))
    }

    /// Without telling the feed.
    pub(crate) fn put(&self, key: ApiKey, token: &str) {
        self.put_sealed(key, TokenDigest::of(token).expose());
    }

    pub(crate) fn put_sealed(&self, key: ApiKey, sealed: &[u8]) {
        let hash = key.key_hash;
        let record = StoredKey {
            key,
            sealed: sealed.to_vec(),
            updated_at: Timestamp::EPOCH,
        };
        self.set(hash, Found::Key(Box::new(record)));
    }

    pub(crate) fn set(&self, hash: KeyHash, found: Found) {
        self.0.records.lock().unwrap().insert(hash, found);
    }

    pub(crate) fn tell(&self, change: Change) {
        self.0.changes.send(change).unwrap();
    }

    pub(crate) fn reads(&self) -> u64 {
        self.0.reads.load(Ordering::SeqCst)
    }

    pub(crate) fn fails(&self, broken: bool) {
        self.0.broken.store(broken, Ordering::SeqCst);
    }

    /// From now on reads look, but do not answer.
    pub(crate) fn hold(&self) {
        self.0.open.send_replace(false);
    }

    pub(crate) fn release(&self) {
        self.0.open.send_replace(true);
    }
}

impl ApiKeyReader for Store {
    fn find<'a>(&'a self, hash: &'a KeyHash) -> BoxFuture<'a, Result<Found>> {
        async move {
            let found = self.0.records.lock().unwrap().get(hash).cloned();
            self.0.reads.fetch_add(1, Ordering::SeqCst);
            let _ = self.0.open.subscribe().wait_for(|open| *open).await;
            if self.0.broken.load(Ordering::SeqCst) {
                return Err(RepositoryError::Unavailable("broken by the test".into()));
            }
            Ok(found.unwrap_or(Found::Absent))
        }
        .boxed()
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        let feed = self.0.feed.lock().unwrap().take().unwrap();
        futures_util::stream::unfold(feed, |mut feed| async {
            feed.recv().await.map(|change| (change, feed))
        })
        .boxed()
    }

    fn keyring(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>>> {
        unreachable!("the keyring is the opener's")
    }
}

#[derive(Default)]
pub(crate) struct Opener {
    pub(crate) reloads: AtomicU64,
    /// A reload does not end.
    pub(crate) stuck: AtomicBool,
}

impl RecordOpener for Opener {
    fn open(&self, record: &StoredKey) -> std::result::Result<TokenDigest, OpenFailure> {
        let sealed = match record.sealed.as_slice() {
            ELSEWHERE => return Err(OpenFailure::NotHeld),
            LATER if self.reloads.load(Ordering::SeqCst) == 0 => return Err(OpenFailure::NotHeld),
            LATER => return Ok(TokenDigest::of("later")),
            sealed => sealed,
        };
        let digest = sealed.try_into().map_err(|_| OpenFailure::Tampered)?;
        Ok(TokenDigest::from_bytes(digest))
    }

    fn reload(&self, _: Reload) -> BoxFuture<'_, ()> {
        self.reloads.fetch_add(1, Ordering::SeqCst);
        if self.stuck.load(Ordering::SeqCst) {
            return std::future::pending().boxed();
        }
        async {}.boxed()
    }
}
