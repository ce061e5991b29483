//! What every implementation of `ApiKeyRepository` does, one sentence per
//! test. A store joins by a [`Store`] and one line of [`contract!`].

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use cypheron_edge::clock::Timestamp;
use cypheron_edge::key::ApiKey;
use cypheron_edge::repository::{
    ApiKeyReader, ApiKeyRepository, At, Change, Filter, Found, KeyUsage, Located, RepositoryError,
    StoredKey,
};
use cypheron_edge::token::KeyHash;
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use uuid::Uuid;

/// An empty store of its own for one test.
pub(crate) trait Store: Sized {
    type Repository: ApiKeyRepository;

    /// `None`, having said so, where what it takes is not installed.
    fn new() -> Option<Self>;

    /// One more handle on it, as another process has.
    fn open(&self) -> Self::Repository;

    /// What a write of this moment may be stamped with.
    fn now(&self) -> RangeInclusive<Timestamp>;

    /// Moves a clock that tests move.
    fn pass_a_second(&self);
}

macro_rules! contract {
    ($store:ty: $($test:ident)*) => {
        $(
            #[tokio::test]
            async fn $test() {
                if let Some(store) = <$store as $crate::repository_contract::Store>::new() {
                    $crate::repository_contract::$test(store).await;
                }
            }
        )*
    };
    ($store:ty) => {
        contract! { $store:
            a_created_record_is_found_whole
            a_hash_or_an_id_is_taken_once
            what_was_never_stored_is_absent
            a_listing_goes_by_pages_in_the_order_of_the_ids
            a_listing_is_filtered_by_name_and_state
            what_is_active_is_listed_by_pages_in_the_order_of_the_hashes
            an_update_replaces_the_policy_and_leaves_the_bookkeeping
            an_update_that_expects_another_policy_is_refused
            a_record_is_made_inactive_whatever_its_envelope
            of_two_writers_one_is_told_of_the_conflict
            a_deleted_record_leaves_a_tombstone
            a_deletion_that_expects_another_revision_is_refused
            a_deleted_hash_does_not_come_back
            usage_is_recorded_of_what_is_there_and_nothing_else_changes
            no_feed_tells_of_recorded_usage
            the_keyring_is_created_once
            the_keyring_is_replaced_only_where_it_is_what_was_read
            a_feed_begins_connected_and_tells_of_each_write_in_order
            a_feed_tells_of_what_another_handle_writes
            a_feed_tells_of_a_new_keyring
            two_feeds_tell_the_same
        }
    };
}
pub(crate) use contract;

pub(crate) const NOW: Timestamp = Timestamp::from_micros(1_700_000_000_123_456);

pub(crate) fn hash(number: u8) -> KeyHash {
    KeyHash::from_bytes([number; 32])
}

pub(crate) fn id(number: u8) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

pub(crate) fn key(number: u8) -> ApiKey {
    ApiKey {
        id: id(number),
        name: format!("Key {number}").parse().unwrap(),
        key_hash: hash(number),
        permissions: vec!["orders:read".parse().unwrap(), "stock:*".parse().unwrap()],
        rate_limit: NonZeroU32::new(60).unwrap(),
        created_at: NOW,
        expires_at: Some(NOW.saturating_add(Duration::from_micros(1))),
        is_active: true,
        allowed_ips: vec!["192.0.2.0/24".parse().unwrap(), "::1/128".parse().unwrap()],
        revision: 1,
        last_used: None,
        usage_count: 0,
    }
}

pub(crate) fn next(key: &ApiKey) -> ApiKey {
    ApiKey {
        revision: key.revision + 1,
        ..key.clone()
    }
}

async fn stored(repository: &impl ApiKeyRepository, hash: KeyHash) -> StoredKey {
    match repository.find(&hash).await.unwrap() {
        Found::Key(stored) => *stored,
        other => panic!("{other:?}"),
    }
}

/// The feed's next change; a store on a busy machine has half a minute for it.
pub(crate) async fn change(feed: &mut BoxStream<'static, Change>) -> Change {
    tokio::time::timeout(Duration::from_secs(30), feed.next())
        .await
        .expect("the feed says nothing")
        .expect("the feed never ends")
}

pub(crate) async fn connected(repository: &impl ApiKeyRepository) -> BoxStream<'static, Change> {
    let mut feed = repository.changes();
    assert_eq!(change(&mut feed).await, Change::Connected);
    feed
}

pub(crate) async fn a_created_record_is_found_whole<S: Store>(store: S) {
    let repository = store.open();
    let key = ApiKey {
        last_used: Some(NOW),
        usage_count: 3,
        ..key(1)
    };
    repository.create(&key, b"sealed").await.unwrap();
    let found = stored(&repository, hash(1)).await;
    assert!(store.now().contains(&found.updated_at), "{found:?}");
    let expected = StoredKey {
        key: key.clone(),
        sealed: b"sealed".to_vec(),
        updated_at: found.updated_at,
    };
    assert_eq!(found, expected);
    assert_eq!(
        repository.find_by_id(key.id).await.unwrap(),
        Some(expected.clone())
    );
    assert_eq!(stored(&store.open(), hash(1)).await, expected);
}

pub(crate) async fn a_hash_or_an_id_is_taken_once<S: Store>(store: S) {
    let repository = store.open();
    repository.create(&key(1), b"first").await.unwrap();
    let same_hash = ApiKey {
        id: id(2),
        ..key(1)
    };
    let same_id = ApiKey {
        key_hash: hash(2),
        ..key(1)
    };
    for taken in [same_hash, same_id] {
        let result = repository.create(&taken, b"second").await;
        assert_eq!(result, Err(RepositoryError::Exists));
    }
    assert_eq!(stored(&repository, hash(1)).await.sealed, b"first");
}

pub(crate) async fn what_was_never_stored_is_absent<S: Store>(store: S) {
    let repository = store.open();
    assert_eq!(repository.find(&hash(1)).await, Ok(Found::Absent));
    assert_eq!(repository.find_by_id(id(1)).await, Ok(None));
    assert_eq!(
        repository.update(&key(1), b"", &key(1)).await,
        Err(RepositoryError::NotFound)
    );
    assert_eq!(
        repository.delete(&hash(1), 1).await,
        Err(RepositoryError::NotFound)
    );
    assert_eq!(repository.locate(At::Id(id(1))).await, Ok(Vec::new()));
}

pub(crate) async fn a_listing_goes_by_pages_in_the_order_of_the_ids<S: Store>(store: S) {
    let repository = store.open();
    for number in [3, 1, 5, 2, 4] {
        repository.create(&key(number), b"").await.unwrap();
    }
    repository.delete(&hash(4), 1).await.unwrap();
    let filter = Filter::default();
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = repository.list(&filter, after, 2).await.unwrap();
        pages.push(page.keys.iter().map(|s| s.key.id).collect::<Vec<_>>());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [vec![id(1), id(2)], vec![id(3), id(5)]]);
}

pub(crate) async fn a_listing_is_filtered_by_name_and_state<S: Store>(store: S) {
    let repository = store.open();
    for (number, name, is_active) in [
        (1, "Öl checkout", true),
        (2, "billing", true),
        (3, "billing", false),
    ] {
        let key = ApiKey {
            name: name.parse().unwrap(),
            is_active,
            ..key(number)
        };
        repository.create(&key, b"").await.unwrap();
    }
    for (name, active, expected) in [
        (None, None, vec![1, 2, 3]),
        (Some("ill"), None, vec![2, 3]),
        (Some("BILL"), Some(true), vec![2]),
        (None, Some(false), vec![3]),
        (Some("öL"), None, vec![1]),
        (Some("%"), None, vec![]),
    ] {
        let filter = Filter {
            name: name.map(str::to_owned),
            active,
        };
        let page = repository.list(&filter, None, 1).await.unwrap();
        assert_eq!(page.next.is_some(), expected.len() > 1, "{filter:?}");
        let page = repository.list(&filter, None, 10).await.unwrap();
        let ids: Vec<_> = page.keys.iter().map(|s| s.key.id).collect();
        let expected: Vec<_> = expected.into_iter().map(id).collect();
        assert_eq!(ids, expected, "{filter:?}");
        assert_eq!(page.next, None);
    }
}

pub(crate) async fn what_is_active_is_listed_by_pages_in_the_order_of_the_hashes<S: Store>(
    store: S,
) {
    let repository = store.open();
    for number in [3, 1, 6, 2, 5, 4] {
        let key = ApiKey {
            // In another order than the hashes.
            id: id(9 - number),
            is_active: number != 2,
            ..key(number)
        };
        repository.create(&key, b"sealed").await.unwrap();
    }
    repository.delete(&hash(4), 1).await.unwrap();
    let mut pages = Vec::new();
    let mut after = None;
    loop {
        let page = repository.active(after, 2).await.unwrap();
        assert!(page.keys.iter().all(|s| s.sealed == b"sealed"));
        pages.push(page.keys.iter().map(|s| s.key.key_hash).collect::<Vec<_>>());
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(pages, [vec![hash(1), hash(3)], vec![hash(5), hash(6)]]);
}

pub(crate) async fn an_update_replaces_the_policy_and_leaves_the_bookkeeping<S: Store>(store: S) {
    let repository = store.open();
    let created = ApiKey {
        last_used: Some(NOW),
        usage_count: 3,
        ..key(1)
    };
    repository.create(&created, b"old").await.unwrap();
    let first = stored(&repository, hash(1)).await.updated_at;
    store.pass_a_second();
    let changed = ApiKey {
        name: "Renamed".parse().unwrap(),
        permissions: Vec::new(),
        rate_limit: NonZeroU32::MAX,
        expires_at: None,
        is_active: false,
        allowed_ips: Vec::new(),
        last_used: None,
        usage_count: 0,
        ..next(&created)
    };
    repository.update(&changed, b"new", &created).await.unwrap();
    let found = stored(&repository, hash(1)).await;
    assert_eq!(found.sealed, b"new");
    assert!(found.updated_at > first);
    assert!(store.now().contains(&found.updated_at), "{found:?}");
    let kept = ApiKey {
        last_used: created.last_used,
        usage_count: created.usage_count,
        ..changed
    };
    assert_eq!(found.key, kept);
}

pub(crate) async fn an_update_that_expects_another_policy_is_refused<S: Store>(store: S) {
    let repository = store.open();
    repository.create(&key(1), b"old").await.unwrap();
    repository
        .update(&next(&key(1)), b"new", &key(1))
        .await
        .unwrap();
    let conflict = RepositoryError::Conflict {
        expected: 1,
        found: 2,
    };
    assert_eq!(
        repository.update(&next(&key(1)), b"late", &key(1)).await,
        Err(conflict)
    );
    // What a hand changes leaves the revision as it was.
    let before_an_edit = ApiKey {
        is_active: false,
        ..next(&key(1))
    };
    let edited = RepositoryError::Conflict {
        expected: 2,
        found: 2,
    };
    assert_eq!(
        repository
            .update(&next(&before_an_edit), b"late", &before_an_edit)
            .await,
        Err(edited)
    );
    assert_eq!(stored(&repository, hash(1)).await.sealed, b"new");
    // Bookkeeping is no policy.
    let used = ApiKey {
        usage_count: 9,
        last_used: Some(NOW),
        ..next(&key(1))
    };
    repository.update(&next(&used), b"", &used).await.unwrap();
}

pub(crate) async fn a_record_is_made_inactive_whatever_its_envelope<S: Store>(store: S) {
    let repository = store.open();
    let created = ApiKey {
        usage_count: 3,
        ..key(1)
    };
    repository.create(&created, b"sealed").await.unwrap();
    let mut feed = connected(&repository).await;
    let before = stored(&repository, hash(1)).await;
    store.pass_a_second();
    assert_eq!(
        repository.deactivate(&hash(1), 2, 3).await,
        Err(RepositoryError::Conflict {
            expected: 2,
            found: 1
        })
    );
    repository.deactivate(&hash(1), 1, 2).await.unwrap();
    let found = stored(&repository, hash(1)).await;
    assert!(found.updated_at > before.updated_at);
    let inactive = StoredKey {
        key: ApiKey {
            is_active: false,
            ..next(&created)
        },
        updated_at: found.updated_at,
        ..before
    };
    assert_eq!(found, inactive);
    let told = Change::Record {
        hash: hash(1),
        revision: 2,
        live: false,
    };
    assert_eq!(change(&mut feed).await, told);

    let located = Located {
        hash: hash(1),
        revision: 2,
        record: Ok(found),
    };
    for at in [At::Id(id(1)), At::Hash(hash(1))] {
        assert_eq!(repository.locate(at).await, Ok(vec![located.clone()]));
    }
    repository.delete(&hash(1), 2).await.unwrap();
    for at in [At::Id(id(1)), At::Hash(hash(1))] {
        assert_eq!(repository.locate(at).await, Ok(Vec::new()));
    }
    assert_eq!(
        repository.deactivate(&hash(1), 3, 4).await,
        Err(RepositoryError::NotFound)
    );
}

pub(crate) async fn of_two_writers_one_is_told_of_the_conflict<S: Store>(store: S) {
    let repository = store.open();
    repository.create(&key(1), b"").await.unwrap();
    let handles = [Arc::new(store.open()), Arc::new(store.open())];
    for revision in 1..=20 {
        let update = |handle: &Arc<S::Repository>| {
            let handle = Arc::clone(handle);
            tokio::spawn(async move {
                let key = ApiKey { revision, ..key(1) };
                handle.update(&next(&key), b"", &key).await
            })
        };
        let (first, second) = (update(&handles[0]), update(&handles[1]));
        let results = [first.await.unwrap(), second.await.unwrap()];
        let lost = RepositoryError::Conflict {
            expected: revision,
            found: revision + 1,
        };
        assert!(results.contains(&Ok(())), "{results:?}");
        assert!(results.contains(&Err(lost)), "{results:?}");
    }
}

pub(crate) async fn a_deleted_record_leaves_a_tombstone<S: Store>(store: S) {
    let repository = store.open();
    repository.create(&key(1), b"").await.unwrap();
    repository
        .update(&next(&key(1)), b"", &key(1))
        .await
        .unwrap();
    repository.delete(&hash(1), 2).await.unwrap();
    let tombstone = Ok(Found::Tombstone { revision: 3 });
    assert_eq!(repository.find(&hash(1)).await, tombstone);
    assert_eq!(store.open().find(&hash(1)).await, tombstone);
    assert_eq!(repository.find_by_id(id(1)).await, Ok(None));
}

pub(crate) async fn a_deletion_that_expects_another_revision_is_refused<S: Store>(store: S) {
    let repository = store.open();
    repository.create(&key(1), b"").await.unwrap();
    let conflict = RepositoryError::Conflict {
        expected: 2,
        found: 1,
    };
    assert_eq!(repository.delete(&hash(1), 2).await, Err(conflict));
    stored(&repository, hash(1)).await;
}

pub(crate) async fn a_deleted_hash_does_not_come_back<S: Store>(store: S) {
    let repository = store.open();
    repository.create(&key(1), b"").await.unwrap();
    repository.delete(&hash(1), 1).await.unwrap();
    assert_eq!(
        repository.create(&key(1), b"").await,
        Err(RepositoryError::Exists)
    );
    assert_eq!(
        repository.delete(&hash(1), 2).await,
        Err(RepositoryError::NotFound)
    );
}

fn usage(number: u8, usage_count: u64) -> KeyUsage {
    KeyUsage {
        key_hash: hash(number),
        usage_count,
        last_used: NOW.saturating_add(Duration::from_micros(usage_count)),
    }
}

pub(crate) async fn usage_is_recorded_of_what_is_there_and_nothing_else_changes<S: Store>(
    store: S,
) {
    let repository = store.open();
    for number in 1..=3 {
        repository.create(&key(number), b"sealed").await.unwrap();
    }
    repository.delete(&hash(2), 1).await.unwrap();
    let before = stored(&repository, hash(1)).await;
    store.pass_a_second();

    let usages = [usage(1, 7), usage(2, 8), usage(3, 9), usage(4, 10)];
    assert_eq!(repository.record_usage(&usages).await, Ok(2));
    let mut expected = before;
    expected.key.usage_count = 7;
    expected.key.last_used = Some(usages[0].last_used);
    assert_eq!(stored(&repository, hash(1)).await, expected);
    assert_eq!(stored(&repository, hash(3)).await.key.usage_count, 9);
    let tombstone = Ok(Found::Tombstone { revision: 2 });
    assert_eq!(repository.find(&hash(2)).await, tombstone);
    assert_eq!(repository.find(&hash(4)).await, Ok(Found::Absent));

    // Again, lower, or nothing: what is told is what is there.
    assert_eq!(repository.record_usage(&usages).await, Ok(2));
    assert_eq!(stored(&repository, hash(1)).await, expected);
    assert_eq!(repository.record_usage(&[usage(1, 2)]).await, Ok(1));
    assert_eq!(stored(&repository, hash(1)).await.key.usage_count, 2);
    assert_eq!(repository.record_usage(&[]).await, Ok(0));
}

pub(crate) async fn no_feed_tells_of_recorded_usage<S: Store>(store: S) {
    let repository = store.open();
    for number in 1..=3 {
        repository.create(&key(number), b"").await.unwrap();
    }
    let mut feed = connected(&store.open()).await;
    let usages = [usage(1, 7), usage(2, 8), usage(3, 9)];
    assert_eq!(repository.record_usage(&usages).await, Ok(3));
    // What comes next is the policy write after it.
    repository
        .update(&next(&key(2)), b"", &key(2))
        .await
        .unwrap();
    let expected = Change::Record {
        hash: hash(2),
        revision: 2,
        live: true,
    };
    assert_eq!(change(&mut feed).await, expected);
}

pub(crate) async fn the_keyring_is_created_once<S: Store>(store: S) {
    let repository = store.open();
    assert_eq!(repository.keyring().await, Ok(None));
    repository.put_keyring(b"first", None).await.unwrap();
    assert_eq!(
        repository.put_keyring(b"second", None).await,
        Err(RepositoryError::Exists)
    );
    assert_eq!(repository.keyring().await, Ok(Some(b"first".to_vec())));
}

pub(crate) async fn the_keyring_is_replaced_only_where_it_is_what_was_read<S: Store>(store: S) {
    let repository = store.open();
    assert_eq!(
        repository.put_keyring(b"second", Some(b"first")).await,
        Err(RepositoryError::NotFound)
    );
    repository.put_keyring(b"first", None).await.unwrap();
    repository
        .put_keyring(b"second", Some(b"first"))
        .await
        .unwrap();
    assert_eq!(
        repository.put_keyring(b"third", Some(b"first")).await,
        Err(RepositoryError::KeyringChanged)
    );
    assert_eq!(repository.keyring().await, Ok(Some(b"second".to_vec())));
}

pub(crate) async fn a_feed_begins_connected_and_tells_of_each_write_in_order<S: Store>(store: S) {
    let repository = store.open();
    repository.create(&key(1), b"").await.unwrap();
    let mut feed = connected(&repository).await;
    let record = |revision, live| Change::Record {
        hash: hash(1),
        revision,
        live,
    };

    repository
        .update(&next(&key(1)), b"", &key(1))
        .await
        .unwrap();
    assert_eq!(change(&mut feed).await, record(2, true));

    let revoked = ApiKey {
        is_active: false,
        revision: 3,
        ..key(1)
    };
    repository
        .update(&revoked, b"", &next(&key(1)))
        .await
        .unwrap();
    assert_eq!(change(&mut feed).await, record(3, false));

    repository.delete(&hash(1), 3).await.unwrap();
    assert_eq!(change(&mut feed).await, record(4, false));
}

pub(crate) async fn a_feed_tells_of_what_another_handle_writes<S: Store>(store: S) {
    let mut feed = connected(&store.open()).await;
    let other = store.open();
    let numbers = 1..=20;
    for number in numbers.clone() {
        other.create(&key(number), b"").await.unwrap();
    }
    for number in numbers {
        let expected = Change::Record {
            hash: hash(number),
            revision: 1,
            live: true,
        };
        assert_eq!(change(&mut feed).await, expected);
    }
}

pub(crate) async fn a_feed_tells_of_a_new_keyring<S: Store>(store: S) {
    let repository = store.open();
    let mut feed = connected(&repository).await;
    repository.put_keyring(b"first", None).await.unwrap();
    assert_eq!(change(&mut feed).await, Change::Keyring);
    repository
        .put_keyring(b"second", Some(b"first"))
        .await
        .unwrap();
    assert_eq!(change(&mut feed).await, Change::Keyring);
}

pub(crate) async fn two_feeds_tell_the_same<S: Store>(store: S) {
    let repository = store.open();
    let mut feeds = [connected(&repository).await, connected(&repository).await];
    repository.create(&key(1), b"").await.unwrap();
    for feed in &mut feeds {
        let expected = Change::Record {
            hash: hash(1),
            revision: 1,
            live: true,
        };
        assert_eq!(change(feed).await, expected);
    }
}
