//! Telling records what their keys were used for: exact, whatever comes between.

#![cfg(feature = "embedded")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[expect(dead_code, reason = "the contract's own tests use the rest")]
mod usage_contract;

use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::database::Database;
use cypheron_edge::key::ApiKey;
use cypheron_edge::repository::embedded::EmbeddedApiKeyRepository;
use cypheron_edge::repository::{
    ApiKeyReader, ApiKeyRepository, At, Change, Filter, Found, KeyUsage, Located, Page,
    RepositoryError, Result,
};
use cypheron_edge::token::KeyHash;
use cypheron_edge::usage::sink::{SqliteSink, UsageSink};
use cypheron_edge::usage::totals::{SqliteTotals, Synced, UsageSync, Which};
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt};
use tempfile::TempDir;
use usage_contract::{EIGHT, batch, event};
use uuid::Uuid;

const KEYS: u8 = 10;

/// A store and a ledger of [`KEYS`] keys, each used as often as its number.
struct Desk {
    directory: TempDir,
    repository: Arc<EmbeddedApiKeyRepository>,
}

impl Desk {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let clock = Clock::manual(Timestamp::from_micros(EIGHT));
        let file = directory.path().join("keys.db");
        let repository = Arc::new(EmbeddedApiKeyRepository::open(&file, clock).unwrap());
        for number in 1..=KEYS {
            repository.create(&key(number), b"sealed").await.unwrap();
        }
        let desk = Self {
            directory,
            repository,
        };
        desk.use_all(0).await;
        desk
    }

    /// Each key, as often as its number.
    async fn use_all(&self, first_event: u128) {
        let keys = (1..=u128::from(KEYS)).flat_map(|key| (0..key).map(move |_| key));
        let events: Vec<_> = (first_event..)
            .zip(keys)
            .map(|(id, key)| event(id, key))
            .collect();
        let decided = events.len() as u64;
        let clock = Clock::manual(Timestamp::from_micros(EIGHT));
        SqliteSink::new(&database(self.directory.path()), clock)
            .store(batch(first_event, events, decided))
            .await
            .unwrap();
    }

    fn sync(&self, repository: Arc<dyn ApiKeyRepository>, writes_per_second: u32) -> UsageSync {
        UsageSync {
            totals: Arc::new(SqliteTotals::new(&database(self.directory.path()))),
            repository,
            writes_per_second: NonZeroU32::new(writes_per_second).unwrap(),
        }
    }

    async fn run(&self) -> Synced {
        let repository = Arc::clone(&self.repository);
        let sync = self.sync(repository, 100_000);
        sync.run(Which::New, |_| {}).await.unwrap().unwrap()
    }

    async fn counts(&self) -> Vec<u64> {
        let page = self.repository.list(&Filter::default(), None, 100).await;
        let keys = page.unwrap().keys;
        keys.iter().map(|stored| stored.key.usage_count).collect()
    }
}

fn database(directory: &Path) -> Database {
    Database::open_in(directory).unwrap()
}

fn key(number: u8) -> ApiKey {
    ApiKey {
        id: Uuid::from_u128(number.into()),
        name: format!("key {number}").parse().unwrap(),
        key_hash: KeyHash::from_bytes([number; 32]),
        permissions: Vec::new(),
        rate_limit: NonZeroU32::MIN,
        created_at: Timestamp::EPOCH,
        expires_at: None,
        is_active: true,
        allowed_ips: Vec::new(),
        revision: 1,
        last_used: None,
        usage_count: 0,
    }
}

fn written(written: u64) -> Synced {
    Synced {
        written,
        ..Synced::default()
    }
}

#[tokio::test]
async fn records_are_told_once_and_again_only_when_they_were_used_again() {
    let desk = Desk::new().await;
    assert_eq!(desk.run().await, written(10));
    assert_eq!(desk.counts().await, (1..=10).collect::<Vec<_>>());
    assert_eq!(desk.run().await, written(0));

    let events = vec![event(1000, 3), event(1001, 3), event(1002, 7)];
    let clock = Clock::manual(Timestamp::from_micros(EIGHT));
    let sink = SqliteSink::new(&database(desk.directory.path()), clock);
    sink.store(batch(2, events, 3)).await.unwrap();
    assert_eq!(desk.run().await, written(2));
    assert_eq!(desk.counts().await, [1, 2, 5, 4, 5, 6, 8, 8, 9, 10]);
}

#[tokio::test]
async fn a_key_that_was_deleted_is_passed_over_and_is_not_asked_for_again() {
    let desk = Desk::new().await;
    let deleted = KeyHash::from_bytes([4; 32]);
    desk.repository.delete(&deleted, 1).await.unwrap();
    let synced = desk.run().await;
    assert_eq!((synced.written, synced.gone), (9, 1));
    assert_eq!(desk.run().await, written(0));
}

#[tokio::test]
async fn a_damaged_record_does_not_stand_in_the_way_and_is_told_once_it_is_mended() {
    let desk = Desk::new().await;
    let file = rusqlite::Connection::open(desk.directory.path().join("keys.db")).unwrap();
    let set = "UPDATE api_keys SET permissions =";
    file.execute_batch(&format!("{set} '7' WHERE name = 'key 4'"))
        .unwrap();
    let synced = desk.run().await;
    assert_eq!((synced.written, synced.damaged.len()), (9, 1));
    file.execute_batch(&format!("{set} '[]' WHERE name = 'key 4'"))
        .unwrap();
    assert_eq!(desk.run().await, written(1));
    assert_eq!(desk.counts().await[3], 4);
}

#[tokio::test]
async fn a_store_put_back_from_a_backup_is_told_everything_when_asked_to() {
    let desk = Desk::new().await;
    desk.run().await;
    let file = rusqlite::Connection::open(desk.directory.path().join("keys.db")).unwrap();
    file.execute_batch("UPDATE api_keys SET usage_count = 0")
        .unwrap();
    assert_eq!(desk.run().await, written(0));
    let sync = desk.sync(Arc::clone(&desk.repository) as _, 100_000);
    let synced = sync.run(Which::All, |_| {}).await.unwrap().unwrap();
    assert_eq!(synced.written, 10);
    assert_eq!(desk.counts().await, (1..=10).collect::<Vec<_>>());
}

#[tokio::test]
async fn whatever_write_fails_or_is_never_acknowledged_the_next_run_makes_it_exact() {
    for (failing, reaches_the_store) in (0..5).flat_map(|at| [(at, false), (at, true)]) {
        let desk = Desk::new().await;
        let shaky = Arc::new(Shaky {
            inner: Arc::clone(&desk.repository),
            writes_left: AtomicU64::new(failing),
            reaches_the_store,
        });
        // Two records at a time.
        let sync = desk.sync(shaky, 2);
        tokio::time::pause();
        let failed = sync.run(Which::New, |_| {}).await;
        tokio::time::resume();
        assert!(failed.is_err());
        desk.use_all(1000).await;
        desk.run().await;
        let twice: Vec<_> = (1..=10).map(|number| 2 * number).collect();
        assert_eq!(desk.counts().await, twice, "{failing} {reaches_the_store}");
        assert_eq!(desk.run().await, written(0));
    }
}

#[tokio::test(start_paused = true)]
async fn no_more_records_are_written_than_the_setting_allows() {
    let desk = Desk::new().await;
    let sync = desk.sync(Arc::clone(&desk.repository) as _, 4);
    let before = tokio::time::Instant::now();
    sync.run(Which::New, |_| {}).await.unwrap().unwrap();
    // Ten records, four a second.
    assert!(before.elapsed().as_millis() >= 2500);
}

/// A store that fails one write, and every one after it.
struct Shaky {
    inner: Arc<EmbeddedApiKeyRepository>,
    writes_left: AtomicU64,
    reaches_the_store: bool,
}

impl ApiKeyReader for Shaky {
    fn find<'a>(&'a self, hash: &'a KeyHash) -> BoxFuture<'a, Result<Found>> {
        self.inner.find(hash)
    }

    fn keyring(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>>> {
        self.inner.keyring()
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        futures_util::stream::empty().boxed()
    }
}

impl ApiKeyRepository for Shaky {
    fn locate(&self, at: At) -> BoxFuture<'_, Result<Vec<Located>>> {
        self.inner.locate(at)
    }

    fn list<'a>(
        &'a self,
        filter: &'a Filter,
        after: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page>> {
        self.inner.list(filter, after, limit)
    }

    fn create<'a>(&'a self, key: &'a ApiKey, sealed: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        self.inner.create(key, sealed)
    }

    fn update<'a>(
        &'a self,
        key: &'a ApiKey,
        sealed: &'a [u8],
        replaces: &'a ApiKey,
    ) -> BoxFuture<'a, Result<()>> {
        self.inner.update(key, sealed, replaces)
    }

    fn deactivate<'a>(
        &'a self,
        hash: &'a KeyHash,
        expected: u64,
        revision: u64,
    ) -> BoxFuture<'a, Result<()>> {
        self.inner.deactivate(hash, expected, revision)
    }

    fn delete<'a>(&'a self, hash: &'a KeyHash, expected: u64) -> BoxFuture<'a, Result<()>> {
        self.inner.delete(hash, expected)
    }

    fn record_usage<'a>(&'a self, usages: &'a [KeyUsage]) -> BoxFuture<'a, Result<usize>> {
        async move {
            let left = self.writes_left.load(Ordering::Relaxed);
            if left > 0 {
                self.writes_left.store(left - 1, Ordering::Relaxed);
                return self.inner.record_usage(usages).await;
            }
            if self.reaches_the_store {
                self.inner.record_usage(usages).await?;
            }
            Err(RepositoryError::Unavailable("for the test".to_owned()))
        }
        .boxed()
    }

    fn put_keyring<'a>(
        &'a self,
        document: &'a [u8],
        replaces: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<()>> {
        self.inner.put_keyring(document, replaces)
    }
}
