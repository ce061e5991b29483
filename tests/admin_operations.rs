//! What operators do with keys.

#![cfg(all(feature = "edge", feature = "embedded"))]
#![expect(
    clippy::unwrap_used,
    reason = "clippy.toml allows it in tests, but does not know a test's own helpers for such"
)]

mod desk;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cypheron_edge::admin::keyring::{KeyringUnavailable, describe, init, load};
use cypheron_edge::admin::{
    Action, Changes, Envelope, KeyRef, NewKey, OperationError, Operations, SinkAuditLog,
};
use cypheron_edge::crypto::Password;
use cypheron_edge::crypto::Suite;
use cypheron_edge::crypto::keyring::KeyringError;
use cypheron_edge::database::Database;
use cypheron_edge::key::{ApiKey, Sealed};
use cypheron_edge::repository::{
    ApiKeyReader, ApiKeyRepository, Filter, Found, RepositoryError, StoredKey,
};
use cypheron_edge::secret::Secret;
use cypheron_edge::token::{TokenDigest, Value};
use cypheron_edge::usage::report::SqliteReports;
use cypheron_edge::usage::sink::SqliteSink;
use desk::{COLLECTION, Desk, KEYRING, NOW, new_key, password};
use rusqlite::Connection;

fn id(key: &ApiKey) -> KeyRef {
    KeyRef::Id(key.id)
}

fn limit(rate_limit: u32) -> Changes {
    Changes {
        rate_limit: NonZeroU32::new(rate_limit),
        ..Changes::default()
    }
}

fn reactivate() -> Changes {
    Changes {
        is_active: Some(true),
        ..Changes::default()
    }
}

fn only<T>(mut taken: Vec<T>) -> T {
    assert_eq!(taken.len(), 1);
    taken.remove(0)
}

async fn stored(desk: &Desk, key: &ApiKey) -> StoredKey {
    match desk.repository.find(&key.key_hash).await.unwrap() {
        Found::Key(stored) => *stored,
        other => panic!("{other:?}"),
    }
}

async fn envelope(operations: &Operations, key: &ApiKey) -> Envelope {
    operations.show(&id(key)).await.unwrap().envelope
}

fn audited(desk: &Desk) -> Vec<(Action, Option<u64>)> {
    let entries = desk.audit.entries.lock().unwrap();
    entries.iter().map(|e| (e.action, e.revision)).collect()
}

const OPENS: Envelope = Envelope::Opens { recoverable: false };

#[tokio::test]
async fn a_created_key_is_found_by_its_token_and_seals_only_its_digest() {
    let desk = Desk::new();
    let operations = desk.operations();
    let created = desk.created("checkout").await;
    let Value::Token(token) = operations.format.parse(created.token.expose()) else {
        panic!("no token");
    };
    let unlocked = operations.unlocked.as_ref().unwrap();
    assert!(unlocked.tokens.tag_matches(token));
    assert_eq!(
        unlocked.tokens.hash(token),
        Some(created.key.key_hash),
        "the token leads to the record"
    );
    let stored = stored(&desk, &created.key).await;
    assert_eq!(stored.key, created.key);
    let sealed = Sealed::open(
        &unlocked.encryption,
        &stored.sealed,
        &stored.key,
        &desk.scope,
    );
    assert_eq!(
        sealed,
        Ok(Sealed::Digest(TokenDigest::of(created.token.expose())))
    );
    assert_eq!(created.key.id.get_version_num(), 7);
    assert_eq!(audited(&desk), [(Action::Create, Some(1))]);
}

#[tokio::test]
async fn a_key_is_meant_by_its_id_or_by_a_name_that_only_it_has() {
    let desk = Desk::new();
    let operations = desk.operations();
    let first = desk.created("checkout").await.key;
    desk.created("checkout-2").await;
    let by_name = operations.show(&"checkout".into()).await.unwrap();
    assert_eq!(by_name.stored.key, first);
    let text = first.id.to_string();
    let by_id = operations.show(&text.as_str().into()).await.unwrap();
    assert_eq!(by_id.stored.key, first);
    assert_eq!(
        operations.show(&"check".into()).await,
        Err(OperationError::Unknown("check".to_owned()))
    );
    let second = desk.created("checkout").await.key;
    let error = operations.revoke(&"checkout".into()).await.unwrap_err();
    for id in [first.id, second.id] {
        assert!(error.to_string().contains(&id.to_string()), "{error}");
    }
}

#[tokio::test]
async fn an_update_changes_the_policy_and_keeps_what_is_sealed() {
    let desk = Desk::new();
    let operations = desk.operations();
    let key = desk.created("checkout").await.key;
    let changes = Changes {
        name: Some("renamed".parse().unwrap()),
        permissions: Some(Vec::new()),
        rate_limit: NonZeroU32::new(5),
        expires_at: Some(Some(NOW)),
        allowed_ips: Some(Vec::new()),
        is_active: None,
    };
    let updated = operations.update(&id(&key), &changes).await.unwrap();
    let expected = ApiKey {
        name: "renamed".parse().unwrap(),
        permissions: Vec::new(),
        rate_limit: NonZeroU32::new(5).unwrap(),
        expires_at: Some(NOW),
        allowed_ips: Vec::new(),
        revision: 2,
        ..key
    };
    assert_eq!(updated, expected);
    assert_eq!(stored(&desk, &expected).await.key, expected);
    assert_eq!(envelope(&operations, &expected).await, OPENS);
    let entries = desk.audit.entries.lock().unwrap();
    assert_eq!(
        entries[1].detail,
        "name, permissions, rate_limit, expires_at, allowed_ips"
    );
}

#[tokio::test]
async fn an_update_of_nothing_is_refused() {
    let desk = Desk::new();
    let key = desk.created("checkout").await.key;
    let update = desk.operations();
    let update = update.update(&id(&key), &Changes::default()).await;
    assert_eq!(update, Err(OperationError::NoChange));
}

#[tokio::test]
async fn an_edit_by_hand_is_never_made_good_by_an_update() {
    let desk = Desk::new();
    let operations = desk.operations();
    let key = desk.created("checkout").await.key;
    desk.by_hand("UPDATE api_keys SET rate_limit = 999999");
    assert_eq!(envelope(&operations, &key).await, Envelope::Tampered);
    assert_eq!(
        operations.update(&id(&key), &limit(5)).await,
        Err(OperationError::Tampered(key.id))
    );
    let rotated = operations.rotate(&id(&key), Duration::ZERO).await;
    assert_eq!(rotated.unwrap_err(), OperationError::Tampered(key.id));
}

#[tokio::test]
async fn a_revocation_sealed_with_the_keyring_can_be_taken_back() {
    let desk = Desk::new();
    let operations = desk.operations();
    let key = desk.created("checkout").await.key;
    let revoked = only(operations.revoke(&id(&key)).await.unwrap());
    assert!(revoked.sealed && !revoked.already);
    assert!(!stored(&desk, &key).await.key.is_active);
    assert_eq!(envelope(&operations, &key).await, OPENS);
    let again = only(operations.revoke(&id(&key)).await.unwrap());
    assert!(again.already);
    assert_eq!(again.record.unwrap().revision, 2);
    let back = operations.update(&id(&key), &reactivate()).await.unwrap();
    assert!(back.is_active);
    assert_eq!(back.revision, 3);
}

#[tokio::test]
async fn a_key_is_revoked_without_the_keyring_for_good() {
    let desk = Desk::new();
    let key = desk.created("checkout").await.key;
    let revoked = only(desk.locked().revoke(&id(&key)).await.unwrap());
    assert!(!revoked.sealed && !revoked.already);
    let found = stored(&desk, &key).await.key;
    assert!(!found.is_active);
    assert_eq!(found.revision, 2);
    let back = desk.operations().update(&id(&key), &reactivate()).await;
    assert_eq!(back, Err(OperationError::Tampered(key.id)));
}

#[tokio::test]
async fn a_tampered_record_can_be_revoked_and_deleted() {
    let desk = Desk::new();
    let operations = desk.operations();
    let key = desk.created("checkout").await.key;
    desk.by_hand("UPDATE api_keys SET rate_limit = 999999");
    assert!(!only(operations.revoke(&id(&key)).await.unwrap()).sealed);
    assert!(!stored(&desk, &key).await.key.is_active);
    operations.delete(&id(&key)).await.unwrap();
    assert_eq!(
        desk.repository.find(&key.key_hash).await,
        Ok(Found::Tombstone { revision: 3 })
    );
}

#[tokio::test]
async fn a_record_that_cannot_be_read_can_be_revoked_and_deleted() {
    let desk = Desk::new();
    let key = desk.created("checkout").await.key;
    for (damage, repair) in [
        ("rate_limit = 0", "rate_limit = 60"),
        ("name = ''", "name = 'checkout'"),
        ("revision = -1", "revision = 9"),
    ] {
        desk.by_hand(&format!("UPDATE api_keys SET is_active = 1, {damage}"));
        let shown = desk.operations().show(&id(&key)).await;
        assert!(matches!(
            shown,
            Err(OperationError::Repository(RepositoryError::Damaged(_)))
        ));
        let revoked = only(desk.operations().revoke(&id(&key)).await.unwrap());
        let what = revoked.record.unwrap_err();
        assert!(what.contains(&key.id.to_string()), "{what}");
        assert_eq!((revoked.already, revoked.sealed), (false, false));
        desk.by_hand(&format!("UPDATE api_keys SET {repair}"));
        assert!(!stored(&desk, &key).await.key.is_active, "{damage}");
    }
    desk.by_hand("UPDATE api_keys SET rate_limit = 0");
    let by_hash = KeyRef::from(key.key_hash.to_string().as_str());
    only(desk.locked().delete(&by_hash).await.unwrap()).unwrap_err();
    assert_eq!(
        desk.repository.find(&key.key_hash).await,
        Ok(Found::Tombstone { revision: 10 })
    );
    let entries = desk.audit.entries.lock().unwrap();
    let deleted = entries.last().unwrap();
    assert_eq!(deleted.action, Action::Delete);
    assert!(deleted.detail.contains("`rate_limit`"), "{deleted:?}");
    assert_eq!(entries[1].key_id, Some(key.id));
}

#[tokio::test]
async fn a_key_is_meant_by_the_hash_of_its_record_too() {
    let desk = Desk::new();
    let key = desk.created("checkout").await.key;
    let by_hash = KeyRef::from(key.key_hash.to_string().as_str());
    let shown = desk.operations().show(&by_hash).await.unwrap();
    assert_eq!(shown.stored.key, key);
    desk.operations().delete(&by_hash).await.unwrap();
    let gone = OperationError::Unknown(by_hash.to_string());
    assert_eq!(desk.operations().show(&by_hash).await, Err(gone.clone()));
    assert_eq!(desk.operations().revoke(&by_hash).await, Err(gone));
}

#[tokio::test]
async fn a_key_made_inactive_by_hand_is_revoked_beyond_flipping_it_back() {
    let desk = Desk::new();
    let operations = desk.operations();
    let key = desk.created("checkout").await.key;
    desk.by_hand("UPDATE api_keys SET is_active = 0");
    operations.revoke(&id(&key)).await.unwrap();
    desk.by_hand("UPDATE api_keys SET is_active = 1");
    assert_eq!(envelope(&operations, &key).await, Envelope::Tampered);
}

#[tokio::test]
async fn without_the_keyring_keys_are_listed_and_taken_back_but_nothing_is_issued() {
    let desk = Desk::new();
    let locked = desk.locked();
    let key = desk.created("checkout").await.key;
    let listed = locked.all(&Filter::default()).await.unwrap();
    assert_eq!(listed.keys.len(), 1);
    assert_eq!(envelope(&locked, &key).await, Envelope::Unchecked);
    let locked_out = OperationError::Locked;
    assert_eq!(
        locked.create(new_key("other")).await.unwrap_err(),
        locked_out
    );
    assert_eq!(
        locked.update(&id(&key), &limit(5)).await.unwrap_err(),
        locked_out
    );
    let rotated = locked.rotate(&id(&key), Duration::ZERO).await;
    assert_eq!(rotated.unwrap_err(), locked_out);
    assert_eq!(locked.reveal(&id(&key)).await.unwrap_err(), locked_out);
    assert_eq!(locked.rewrap(|_| ()).await.unwrap_err(), locked_out);
    locked.delete(&id(&key)).await.unwrap();
}

#[tokio::test]
async fn only_a_recoverable_token_is_revealed_and_only_with_the_audit_log() {
    let desk = Desk::new();
    let operations = desk.operations();
    let plain = desk.created("plain").await.key;
    let recoverable = NewKey {
        recoverable: true,
        ..new_key("recoverable")
    };
    let created = operations.create(recoverable).await.unwrap();
    assert_eq!(
        operations.reveal(&id(&plain)).await,
        Err(OperationError::NotRecoverable(plain.id))
    );
    let revealed = operations.reveal(&id(&created.key)).await.unwrap();
    assert_eq!(revealed.expose(), created.token.expose());
    assert_eq!(audited(&desk).last(), Some(&(Action::Reveal, Some(1))));
    desk.audit.is_down.store(true, Ordering::Relaxed);
    let refused = operations.reveal(&id(&created.key)).await;
    assert!(matches!(refused, Err(OperationError::Audit(_))));
}

#[tokio::test]
async fn without_the_audit_log_access_is_only_taken_away() {
    let desk = Desk::new();
    let operations = desk.operations();
    let key = desk.created("checkout").await.key;
    desk.audit.is_down.store(true, Ordering::Relaxed);
    let refused = [
        operations.create(new_key("other")).await.map(drop),
        operations.update(&id(&key), &limit(5)).await.map(drop),
        operations.rotate(&id(&key), Duration::ZERO).await.map(drop),
        operations.rewrap(|_| ()).await.map(drop),
    ];
    for refused in refused {
        assert!(
            matches!(refused, Err(OperationError::Audit(_))),
            "{refused:?}"
        );
    }
    assert_eq!(
        operations.all(&Filter::default()).await.unwrap().keys.len(),
        1
    );
    assert_eq!(stored(&desk, &key).await.key, key);
    operations.revoke(&id(&key)).await.unwrap();
    operations.delete(&id(&key)).await.unwrap();
}

#[tokio::test]
async fn what_came_to_nothing_is_audited_as_such() {
    let desk = Desk::new();
    let key = desk.created("checkout").await.key;
    // A write that the store refuses.
    desk.by_hand(
        "CREATE TRIGGER full BEFORE UPDATE ON api_keys BEGIN SELECT RAISE(ABORT, 'full'); END",
    );
    let refused = desk.operations().update(&id(&key), &limit(5)).await;
    assert!(matches!(refused, Err(OperationError::Repository(_))));
    assert_eq!(
        audited(&desk)[1..],
        [(Action::Update, Some(2)), (Action::Failed, Some(2))]
    );
}

#[tokio::test]
async fn a_rotation_issues_a_successor_and_ends_the_old_key_after_the_overlap() {
    let desk = Desk::new();
    let operations = desk.operations();
    let day = Duration::from_hours(24);
    let old = NewKey {
        expires_at: Some(NOW.saturating_add(day * 30)),
        ..new_key("checkout")
    };
    let old = operations.create(old).await.unwrap().key;
    desk.clock.advance(day * 10);
    let now = desk.clock.wall();
    let rotation = operations.rotate(&id(&old), day).await.unwrap();
    let new = &rotation.successor.key;
    assert_eq!(
        rotation.predecessor.expires_at,
        Some(now.saturating_add(day))
    );
    assert_eq!(new.expires_at, Some(now.saturating_add(day * 30)));
    assert_ne!((new.id, new.key_hash), (old.id, old.key_hash));
    assert_eq!(
        (
            &new.name,
            &new.permissions,
            new.rate_limit,
            &new.allowed_ips
        ),
        (
            &old.name,
            &old.permissions,
            old.rate_limit,
            &old.allowed_ips
        )
    );
    for key in [new, &old] {
        assert_eq!(envelope(&operations, key).await, OPENS);
    }

    desk.clock.advance(day);
    let late = operations.rotate(&id(&old), day).await;
    assert_eq!(late.unwrap_err(), OperationError::Inactive(old.id));
}

#[tokio::test]
async fn a_rotation_never_lengthens_the_life_of_the_old_key() {
    let desk = Desk::new();
    let hour = Duration::from_hours(1);
    let end = NOW.saturating_add(hour);
    let old = NewKey {
        expires_at: Some(end),
        ..new_key("checkout")
    };
    let operations = desk.operations();
    let old = operations.create(old).await.unwrap().key;
    let rotation = operations.rotate(&id(&old), hour * 24).await.unwrap();
    assert_eq!(rotation.predecessor.expires_at, Some(end));
}

#[tokio::test]
async fn a_rotation_that_cannot_end_the_old_key_leaves_no_successor() {
    let desk = Desk::new();
    let key = desk.created("checkout").await.key;
    desk.by_hand(
        "CREATE TRIGGER full BEFORE UPDATE ON api_keys BEGIN SELECT RAISE(ABORT, 'full'); END",
    );
    let operations = desk.operations();
    let rotated = operations.rotate(&id(&key), Duration::ZERO).await;
    assert!(matches!(rotated, Err(OperationError::Repository(_))));
    let left = operations.all(&Filter::default()).await.unwrap().keys;
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].key, key);
}

#[tokio::test]
async fn a_rewrap_moves_every_record_that_opens_to_the_primary_key() {
    let desk = Desk::new();
    let good = desk.created("good").await.key;
    let inactive = desk.created("inactive").await.key;
    desk.operations().revoke(&id(&inactive)).await.unwrap();
    let tampered = desk.created("tampered").await.key;
    desk.by_hand("UPDATE api_keys SET rate_limit = 1 WHERE name = 'tampered'");
    desk.created("damaged").await;
    desk.by_hand("UPDATE api_keys SET rate_limit = 0 WHERE name = 'damaged'");
    let before = stored(&desk, &good).await;

    let (keyring, key_id) = KEYRING.add_key(Suite::default(), NOW).unwrap();
    let operations = desk.with(&keyring.promote(key_id).unwrap());
    let mut told = Vec::new();
    let done = operations.rewrap(|progress| told.push(progress.clone()));
    let done = done.await.unwrap();
    assert_eq!(done.seen, 3);
    assert_eq!(done.rewrapped, 2);
    assert_eq!(done.unopened, [tampered.id]);
    assert_eq!(done.damaged.len(), 1);
    assert_eq!(told.last(), Some(&done));

    let after = stored(&desk, &good).await;
    assert_eq!(after.key, before.key, "no policy and no revision changed");
    assert_ne!(after.sealed, before.sealed);
    assert_eq!(envelope(&operations, &good).await, OPENS);
    assert_eq!(envelope(&operations, &inactive).await, OPENS);
    assert_eq!(
        envelope(&desk.operations(), &good).await,
        Envelope::Unreadable
    );
    let again = operations.rewrap(|_| ()).await.unwrap();
    assert_eq!(again.rewrapped, 0);
}

#[tokio::test]
async fn a_keyring_is_made_once_and_opens_with_its_password() {
    let desk = Desk::new();
    let repository = &*desk.repository;
    let missing = Err(KeyringUnavailable::Missing {
        collection: COLLECTION.to_owned(),
    });
    assert_eq!(describe(repository, COLLECTION).await, missing);
    let made = init(repository, COLLECTION, password(), Suite::default(), NOW).await;
    let made = made.unwrap().describe();
    assert_eq!(describe(repository, COLLECTION).await, Ok(made.clone()));
    let loaded = load(repository, COLLECTION, password()).await.unwrap();
    assert_eq!(loaded.describe(), made);

    let second = init(repository, COLLECTION, password(), Suite::default(), NOW).await;
    assert!(matches!(second, Err(KeyringUnavailable::Exists { .. })));
    let wrong = Password::new(Secret::new("x".repeat(32))).unwrap();
    let wrong = load(repository, COLLECTION, wrong).await;
    assert!(matches!(
        wrong,
        Err(KeyringUnavailable::Unusable {
            cause: KeyringError::WrongPassword { slots: 1 },
            ..
        })
    ));
    let foreign = load(repository, "other", password()).await;
    assert!(matches!(
        foreign,
        Err(KeyringUnavailable::Unusable {
            cause: KeyringError::Foreign { .. },
            ..
        })
    ));
}

#[tokio::test]
async fn a_write_overtaken_by_another_one_is_made_on_top_of_it() {
    let desk = Desk::new();
    let key = desk.created("checkout").await.key;
    let operations = desk.operations();
    let (first, second) = (limit(5), limit(7));
    let meant = id(&key);
    let (one, two) = tokio::join!(
        operations.update(&meant, &first),
        operations.update(&meant, &second)
    );
    let mut revisions = [one.unwrap().revision, two.unwrap().revision];
    revisions.sort_unstable();
    // What the overtaken one set out for came to nothing, and is not used again.
    assert_eq!(revisions, [2, 4]);
    assert_eq!(envelope(&operations, &key).await, OPENS);
    let gone = desk.repository.delete(&key.key_hash, 1).await;
    assert!(matches!(gone, Err(RepositoryError::Conflict { .. })));
}

#[tokio::test]
async fn the_audit_log_lies_beside_the_usage() {
    let desk = Desk::new();
    let directory = tempfile::tempdir().unwrap();
    let database = Database::open_in(directory.path()).unwrap();
    let sink = SqliteSink::new(&database, desk.clock.clone());
    let operations = Operations {
        audit: Arc::new(SinkAuditLog::new(
            Arc::new(sink),
            Arc::new(SqliteReports::new(&database)),
        )),
        ..desk.operations()
    };
    let key = operations.create(new_key("checkout")).await.unwrap().key;
    operations.update(&id(&key), &limit(5)).await.unwrap();

    let file = Connection::open(directory.path().join("usage.db")).unwrap();
    let mut rows = file
        .prepare("SELECT actor, action, key_id, revision, detail FROM audit_log ORDER BY revision")
        .unwrap();
    let rows = rows
        .query_map([], |row| row.try_into())
        .unwrap()
        .collect::<Result<Vec<(String, String, String, i64, String)>, _>>()
        .unwrap();
    let row = |action: &str, revision, detail: &str| {
        let (actor, id) = ("tester".to_owned(), key.id.to_string());
        (actor, action.to_owned(), id, revision, detail.to_owned())
    };
    assert_eq!(rows, [row("create", 1, ""), row("update", 2, "rate_limit")]);
}
