//! The store, and an opener to whom a record's sealed part is the bare digest.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use cypheron_edge::clock::Timestamp;
use cypheron_edge::directory::{OpenFailure, RecordOpener, Reload};
use cypheron_edge::key::ApiKey;
use cypheron_edge::repository::{
    ActivePage, ApiKeyReader, Change, Found, RepositoryError, Result, StoredKey,
};
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
    running: AtomicU64,
    most_at_once: AtomicU64,
    fault: Mutex<Option<RepositoryError>>,
    silent_about: Mutex<Option<KeyHash>>,
    /// A read has taken its look, and waits for this before it answers.
    open: Mutex<Arc<watch::Sender<bool>>>,
    changes: mpsc::UnboundedSender<Change>,
    feed: Mutex<Option<mpsc::UnboundedReceiver<Change>>>,
}

impl Store {
    pub(crate) fn new() -> Self {
        let (changes, feed) = mpsc::unbounded_channel();
        Self(Arc::new(Inner {
            records: Mutex::default(),
            reads: AtomicU64::new(0),
            running: AtomicU64::new(0),
            most_at_once: AtomicU64::new(0),
            fault: Mutex::default(),
            silent_about: Mutex::default(),
            open: Mutex::new(Arc::new(watch::Sender::new(true))),
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

    /// The most reads that ever ran at once.
    pub(crate) fn most_at_once(&self) -> u64 {
        self.0.most_at_once.load(Ordering::SeqCst)
    }

    pub(crate) fn fails(&self, broken: bool) {
        let fault = RepositoryError::Unavailable("broken by the test".into());
        self.fails_with(broken.then_some(fault));
    }

    pub(crate) fn fails_with(&self, fault: Option<RepositoryError>) {
        *self.0.fault.lock().unwrap() = fault;
    }

    pub(crate) fn never_answers_for(&self, hash: KeyHash) {
        *self.0.silent_about.lock().unwrap() = Some(hash);
    }

    /// From now on reads look, but do not answer.
    pub(crate) fn hold(&self) {
        self.0.open.lock().unwrap().send_replace(false);
    }

    pub(crate) fn release(&self) {
        self.0.open.lock().unwrap().send_replace(true);
    }

    /// Those that are held stay so.
    pub(crate) fn release_later_reads(&self) {
        *self.0.open.lock().unwrap() = Arc::new(watch::Sender::new(true));
    }
}

impl Inner {
    /// A read takes its look, and answers when it may.
    async fn read<T>(&self, look: impl FnOnce(&HashMap<KeyHash, Found>) -> T) -> Result<T> {
        let found = look(&self.records.lock().unwrap());
        self.reads.fetch_add(1, Ordering::SeqCst);
        let running = self.running.fetch_add(1, Ordering::SeqCst) + 1;
        self.most_at_once.fetch_max(running, Ordering::SeqCst);
        let _running = Running(&self.running);
        let open = Arc::clone(&self.open.lock().unwrap());
        let _ = open.subscribe().wait_for(|open| *open).await;
        let fault = self.fault.lock().unwrap().clone();
        fault.map_or(Ok(found), Err)
    }
}

/// Until it ends, or is given up.
struct Running<'a>(&'a AtomicU64);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl ApiKeyReader for Store {
    fn find<'a>(&'a self, hash: &'a KeyHash) -> BoxFuture<'a, Result<Found>> {
        async move {
            if *self.0.silent_about.lock().unwrap() == Some(*hash) {
                std::future::pending::<()>().await;
            }
            let look = |records: &HashMap<_, _>| records.get(hash).cloned();
            Ok(self.0.read(look).await?.unwrap_or(Found::Absent))
        }
        .boxed()
    }

    fn active(&self, after: Option<KeyHash>, limit: usize) -> BoxFuture<'_, Result<ActivePage>> {
        let page = move |records: &HashMap<KeyHash, Found>| {
            let mut keys: Vec<_> = records
                .values()
                .filter_map(|found| match found {
                    Found::Key(record) if record.key.is_active => Some((**record).clone()),
                    _ => None,
                })
                .filter(|record| after.is_none_or(|after| record.key.key_hash > after))
                .collect();
            keys.sort_unstable_by_key(|record| record.key.key_hash);
            let more = keys.len() > limit;
            keys.truncate(limit);
            let next = keys.last().map(|record| record.key.key_hash);
            ActivePage {
                keys,
                next: next.filter(|_| more),
            }
        };
        self.0.read(page).boxed()
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        let feed = self.0.feed.lock().unwrap().take().unwrap();
        futures_util::stream::unfold(feed, |mut feed| async {
            feed.recv().await.map(|change| (change, feed))
        })
        .boxed()
    }

    /// The opener has its own: only a probe reads this one.
    fn keyring(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>>> {
        self.0.read(|_| None).boxed()
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
