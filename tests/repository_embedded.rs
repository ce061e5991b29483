//! The embedded store: the contract, and what a hand does to the file.

#![cfg(feature = "embedded")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "clippy.toml allows them in tests, but does not know a test's own helpers for such"
)]

mod repository_contract;

use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::key::ApiKey;
use cypheron_edge::repository::embedded::EmbeddedApiKeyRepository;
use cypheron_edge::repository::{
    ApiKeyReader, ApiKeyRepository, Change, Filter, Found, RepositoryError,
};
use cypheron_edge::sqlite::OpenError;
use repository_contract::{NOW, Store, change, connected, contract, hash, id, key, next};
use rusqlite::Connection;
use tempfile::TempDir;

struct Embedded {
    directory: TempDir,
    clock: Clock,
}

impl Embedded {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            clock: Clock::manual(NOW),
        }
    }

    fn path(&self) -> PathBuf {
        self.directory.path().join("keys.db")
    }

    /// Edits the file as the `sqlite3` shell does.
    fn by_hand(&self, sql: &str) {
        let connection = Connection::open(self.path()).unwrap();
        connection.execute_batch(sql).unwrap();
    }
}

impl Store for Embedded {
    type Repository = EmbeddedApiKeyRepository;

    fn new() -> Option<Self> {
        Some(Self::new())
    }

    fn open(&self) -> EmbeddedApiKeyRepository {
        EmbeddedApiKeyRepository::open(&self.path(), self.clock.clone()).unwrap()
    }

    fn now(&self) -> RangeInclusive<Timestamp> {
        self.clock.wall()..=self.clock.wall()
    }

    fn pass_a_second(&self) {
        self.clock.advance(Duration::from_secs(1));
    }
}

contract!(Embedded);

fn record(number: u8, revision: u64, live: bool) -> Change {
    Change::Record {
        hash: hash(number),
        revision,
        live,
    }
}

#[tokio::test]
async fn an_edit_by_hand_reaches_the_feed() {
    let store = Embedded::new();
    let repository = store.open();
    for number in [1, 2] {
        repository.create(&key(number), b"").await.unwrap();
    }
    let mut feed = connected(&repository).await;
    let moved = format!("UPDATE api_keys SET key_hash = '{}'", hash(9));
    let first = format!(" WHERE key_hash = '{}';", hash(1));
    for (sql, expected) in [
        ("UPDATE api_keys SET rate_limit = 999", record(1, 1, true)),
        ("UPDATE api_keys SET is_active = 0", record(1, 1, false)),
        ("UPDATE api_keys SET is_active = 1", record(1, 1, true)),
        ("UPDATE api_keys SET sealed = x'00'", record(1, 1, true)),
        ("DELETE FROM api_keys", record(1, 2, false)),
    ] {
        store.by_hand(&format!("{sql}{first}"));
        assert_eq!(change(&mut feed).await, expected, "{sql}");
    }
    let tombstone = Ok(Found::Tombstone { revision: 2 });
    assert_eq!(repository.find(&hash(1)).await, tombstone);

    store.by_hand(&moved);
    assert_eq!(change(&mut feed).await, record(9, 1, true));
    assert_eq!(change(&mut feed).await, record(2, 0, false), "its old hash");
    assert_eq!(repository.find(&hash(2)).await, Ok(Found::Absent));
}

#[tokio::test]
async fn bookkeeping_is_no_change() {
    let store = Embedded::new();
    let repository = store.open();
    repository.create(&key(1), b"").await.unwrap();
    let mut feed = connected(&repository).await;
    store.by_hand("UPDATE api_keys SET usage_count = 5, last_used = 6");
    repository.create(&key(2), b"").await.unwrap();
    assert_eq!(change(&mut feed).await, record(2, 1, true));
}

#[tokio::test]
async fn a_deleted_record_cannot_be_put_back_by_hand() {
    let store = Embedded::new();
    let repository = store.open();
    repository.create(&key(1), b"").await.unwrap();
    store.by_hand("CREATE TABLE kept AS SELECT * FROM api_keys; DELETE FROM api_keys");
    let connection = Connection::open(store.path()).unwrap();
    let error = connection
        .execute("INSERT INTO api_keys SELECT * FROM kept", [])
        .unwrap_err();
    assert!(
        error.to_string().contains("this key was deleted"),
        "{error}"
    );
}

#[tokio::test]
async fn a_damaged_record_is_named_and_does_not_hide_the_others() {
    let store = Embedded::new();
    let repository = store.open();
    for number in 1..=3 {
        repository.create(&key(number), b"").await.unwrap();
    }
    for (field, value) in [
        ("permissions", "'orders:read'"),
        ("permissions", r#"'["Orders"]'"#),
        ("name", "''"),
        ("rate_limit", "0"),
        ("allowed_ips", r#"'["300.0.0.1/8"]'"#),
        ("revision", "-1"),
        ("usage_count", "-1"),
    ] {
        let second = format!("WHERE key_hash = '{}'", hash(2));
        store.by_hand(&format!(
            "CREATE TABLE kept AS SELECT {field} FROM api_keys {second}"
        ));
        store.by_hand(&format!("UPDATE api_keys SET {field} = {value} {second}"));
        let error = repository.find(&hash(2)).await.unwrap_err();
        let RepositoryError::Damaged(damage) = error else {
            panic!("{field} = {value}: {error}");
        };
        assert!(damage.contains(&id(2).to_string()), "{damage}");
        assert!(damage.contains(&format!("`{field}`")), "{damage}");

        let filter = Filter::default();
        let page = repository.list(&filter, None, 10).await.unwrap();
        let ids: Vec<_> = page.keys.iter().map(|s| s.key.id).collect();
        assert_eq!(ids, [id(1), id(3)]);
        assert_eq!(page.damaged, [damage]);
        store.by_hand(&format!(
            "UPDATE api_keys SET {field} = (SELECT {field} FROM kept) {second}; DROP TABLE kept"
        ));
        assert!(repository.find(&hash(2)).await.is_ok(), "{field}");
    }
}

#[tokio::test]
async fn a_removed_file_is_an_outage_and_never_an_empty_store() {
    let store = Embedded::new();
    let repository = store.open();
    repository.create(&key(1), b"").await.unwrap();
    let mut feed = connected(&repository).await;
    let away = store.directory.path().join("away.db");
    std::fs::rename(store.path(), &away).unwrap();
    assert_eq!(change(&mut feed).await, Change::Cut);
    for result in [
        repository.find(&hash(1)).await.map(drop),
        repository.create(&key(2), b"").await,
    ] {
        assert!(
            matches!(result, Err(RepositoryError::Unavailable(_))),
            "{result:?}"
        );
    }
    assert!(!store.path().exists());

    std::fs::rename(&away, store.path()).unwrap();
    assert_eq!(change(&mut feed).await, Change::Connected);
    assert!(matches!(repository.find(&hash(1)).await, Ok(Found::Key(_))));
}

#[tokio::test]
async fn a_replaced_file_is_an_outage_and_is_not_mixed_with_the_old_one() {
    let store = Embedded::new();
    let repository = store.open();
    repository.create(&key(1), b"").await.unwrap();
    let mut feed = connected(&repository).await;
    let other = Embedded::new();
    drop(other.open());
    std::fs::rename(other.path(), store.path()).unwrap();
    assert_eq!(change(&mut feed).await, Change::Cut);
    let error = repository.find(&hash(1)).await.unwrap_err();
    assert!(error.to_string().contains("was replaced"), "{error}");
}

#[tokio::test]
async fn a_store_put_back_to_an_older_state_is_told_whole() {
    let store = Embedded::new();
    let repository = store.open();
    repository.create(&key(1), b"").await.unwrap();
    repository
        .update(&next(&key(1)), b"", &key(1))
        .await
        .unwrap();
    let mut feed = connected(&repository).await;
    // What a restore into the file leaves, as the shell's `.restore` does.
    store.by_hand(
        "BEGIN; DROP TRIGGER api_keys_updated; UPDATE api_keys SET revision = 1; \
         UPDATE changes SET sequence = 1; \
         UPDATE sqlite_sequence SET seq = 1 WHERE name = 'changes'; COMMIT",
    );
    for expected in [Change::Cut, Change::Connected, record(1, 1, true)] {
        assert_eq!(change(&mut feed).await, expected);
    }
}

#[tokio::test]
async fn a_revocation_reaches_a_feed_within_100_ms() {
    let store = Embedded::new();
    let mut feed = connected(&store.open()).await;
    let writer = store.open();
    writer.create(&key(1), b"").await.unwrap();
    assert_eq!(change(&mut feed).await, record(1, 1, true));
    let mut delays = Vec::new();
    let mut before = key(1);
    for revision in 2..=21 {
        let revoked = ApiKey {
            is_active: false,
            ..next(&before)
        };
        writer.update(&revoked, b"", &before).await.unwrap();
        before = revoked;
        let acknowledged = now();
        assert_eq!(change(&mut feed).await, record(1, revision, false));
        delays.push(acknowledged.elapsed());
    }
    delays.sort_unstable();
    println!("p50 {:?}, max {:?}", delays[10], delays[19]);
    // The median: one slow moment of a busy machine is not the feed's. Each
    // waits for nearly a whole interval, since the one before ended with a look.
    assert!(delays[10] < Duration::from_millis(80), "{delays:?}");
}

#[expect(
    clippy::disallowed_methods,
    reason = "a real thread's delay is measured"
)]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn old_deletions_are_forgotten_at_opening() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let store = Embedded::new();
    runtime.block_on(async {
        let repository = store.open();
        repository.create(&key(1), b"").await.unwrap();
        repository.delete(&hash(1), 1).await.unwrap();
        store.clock.advance(Duration::from_hours(29 * 24));
        let kept = store.open().find(&hash(1)).await;
        assert_eq!(kept, Ok(Found::Tombstone { revision: 2 }));
        store.clock.advance(Duration::from_hours(2 * 24));
        assert_eq!(store.open().find(&hash(1)).await, Ok(Found::Absent));
    });
}

#[test]
fn a_store_of_a_newer_version_is_refused_untouched() {
    let store = Embedded::new();
    drop(store.open());
    store.by_hand("PRAGMA user_version = 2");
    let before = std::fs::read(store.path()).unwrap();
    let error = EmbeddedApiKeyRepository::open(&store.path(), store.clock.clone()).unwrap_err();
    assert!(
        matches!(error, OpenError::Newer { found: 2, .. }),
        "{error}"
    );
    assert_eq!(std::fs::read(store.path()).unwrap(), before);
}
