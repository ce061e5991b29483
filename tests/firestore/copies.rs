//! What somebody who can write to the collection puts there, so that a key goes
//! on after it was revoked.

use std::sync::Arc;

use cypheron_edge::admin::{
    AuditEntry, AuditLog, AuditUnavailable, KeyRef, OperationError, Operations,
};
use cypheron_edge::clock::Clock;
use cypheron_edge::key::Scope;
use cypheron_edge::repository::firestore::FirestoreApiKeyRepository;
use cypheron_edge::repository::{
    ApiKeyReader, ApiKeyRepository, Filter, FirestoreConfig, Found, RepositoryError,
};
use cypheron_edge::token::{Environment, KeyHash, TokenFormat};
use cypheron_edge::usage::report::AuditedKey;
use firestore::gcloud_sdk::google::firestore::v1::value::ValueType;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use uuid::Uuid;

use crate::documents::{by_hand, document};
use crate::emulator;
use crate::repository_contract::{hash, id, key, next};

/// Sorts before every other hash.
const LOWEST: KeyHash = KeyHash::from_bytes([0; 32]);

struct NoAudit;

impl AuditLog for NoAudit {
    fn record(&self, _: AuditEntry) -> BoxFuture<'_, Result<(), AuditUnavailable>> {
        std::future::ready(Ok(())).boxed()
    }

    fn known(&self, _: Uuid) -> BoxFuture<'_, Result<Option<AuditedKey>, AuditUnavailable>> {
        std::future::ready(Ok(None)).boxed()
    }
}

/// Without the keyring, as in an emergency.
fn operations(config: &FirestoreConfig) -> Operations {
    Operations {
        repository: Arc::new(emulator::open(config)),
        audit: Arc::new(NoAudit),
        unlocked: None,
        scope: Scope {
            project: config.project.clone(),
            database: config.database.clone(),
            collection: config.collection.clone(),
        },
        format: TokenFormat::new("cyk", Environment::Live).unwrap(),
        actor: "tester".to_owned(),
        clock: Clock::system(),
    }
}

/// Puts a copy of the record of `key(1)` at another name, as of that name.
async fn copy(config: &FirestoreConfig, to: KeyHash, changed: &[(&str, Option<ValueType>)]) {
    let original = document(config, "api_keys", &hash(1).to_string()).await;
    let mut fields: Vec<_> = original
        .fields
        .iter()
        .filter(|(name, _)| changed.iter().all(|(changed, _)| changed != name))
        .map(|(name, value)| (name.as_str(), value.value_type.clone()))
        .collect();
    fields.retain(|(name, _)| *name != "key_hash");
    let name = to.to_string();
    fields.push(("key_hash", Some(ValueType::StringValue(name.clone()))));
    fields.extend_from_slice(changed);
    by_hand(config, &name, &fields).await;
}

async fn state(repository: &FirestoreApiKeyRepository, hash: KeyHash) -> &'static str {
    match repository.find(&hash).await.unwrap() {
        Found::Key(stored) if stored.key.is_active => "active",
        Found::Key(_) => "revoked",
        Found::Tombstone { .. } => "deleted",
        Found::Absent => "absent",
    }
}

#[tokio::test]
async fn a_key_is_revoked_and_deleted_together_with_its_copies() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    let operations = operations(&config);
    repository.create(&key(1), b"").await.unwrap();
    copy(&config, LOWEST, &[]).await;

    // Nothing tells which one is meant.
    let shown = operations.show(&KeyRef::Id(id(1))).await.unwrap_err();
    let text = shown.to_string();
    for place in ["00000000...", "01010101..."] {
        assert!(text.contains(place), "{text}");
    }
    assert_eq!(
        repository.find_by_id(id(1)).await.unwrap_err().to_string(),
        text
    );
    let by_hash = KeyRef::Hash(hash(1));
    let shown = operations.show(&by_hash).await.unwrap();
    assert_eq!(shown.stored.key, key(1));

    let revoked = operations.revoke(&"Key 1".into()).await.unwrap();
    assert_eq!(revoked.len(), 2);
    assert_eq!(state(&repository, hash(1)).await, "revoked");
    assert_eq!(state(&repository, LOWEST).await, "revoked");
    let deleted = operations.delete(&KeyRef::Id(id(1))).await.unwrap();
    assert_eq!(deleted.len(), 2);
    assert_eq!(state(&repository, hash(1)).await, "deleted");
    assert_eq!(state(&repository, LOWEST).await, "deleted");
    assert_eq!(
        operations.revoke(&KeyRef::Id(id(1))).await,
        Err(OperationError::Unknown(id(1).to_string()))
    );
}

#[tokio::test]
async fn neither_tombstones_nor_damaged_copies_hide_a_key() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    let operations = operations(&config);
    repository.create(&key(1), b"").await.unwrap();
    let [mut second, mut third] = [[0; 32]; 2];
    (second[31], third[31]) = (1, 2);
    let deleted = || {
        Some(ValueType::TimestampValue(
            firestore::gcloud_sdk::prost_types::Timestamp::default(),
        ))
    };
    copy(&config, LOWEST, &[("deleted_at", deleted())]).await;
    copy(
        &config,
        KeyHash::from_bytes(second),
        &[("deleted_at", deleted())],
    )
    .await;
    copy(&config, KeyHash::from_bytes(third), &[("name", None)]).await;
    // A name that no token leads to.
    let nowhere = Some(ValueType::StringValue(id(1).to_string()));
    by_hand(&config, "!", &[("id", nowhere)]).await;

    let found = repository.find_by_id(id(1)).await.unwrap().unwrap();
    assert_eq!(found.key, key(1));
    let revoked = operations.revoke(&KeyRef::Id(id(1))).await.unwrap();
    let mut readable: Vec<_> = revoked.iter().map(|done| done.record.is_ok()).collect();
    readable.sort_unstable();
    assert_eq!(readable, [false, true]);
    assert_eq!(state(&repository, hash(1)).await, "revoked");
    let name = KeyHash::from_bytes(third).to_string();
    let left = document(&config, "api_keys", &name).await;
    let active = left.fields["is_active"].value_type.clone();
    assert_eq!(active, Some(ValueType::BooleanValue(false)));
}

#[tokio::test]
async fn more_copies_than_can_be_looked_at_are_told_of_and_the_hash_is_a_way_round() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    let operations = operations(&config);
    repository.create(&key(1), b"").await.unwrap();
    for number in 0..101 {
        let mut name = [0; 32];
        name[31] = number;
        let id = Some(ValueType::StringValue(id(1).to_string()));
        by_hand(
            &config,
            &KeyHash::from_bytes(name).to_string(),
            &[("id", id)],
        )
        .await;
    }
    let refused = operations.revoke(&KeyRef::Id(id(1))).await.unwrap_err();
    assert!(refused.to_string().contains("more than 100"), "{refused}");
    operations.revoke(&KeyRef::Hash(hash(1))).await.unwrap();
    assert_eq!(state(&repository, hash(1)).await, "revoked");
}

#[tokio::test]
async fn a_record_that_cannot_be_read_is_revoked_and_deleted() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    let operations = operations(&config);
    let name = hash(1).to_string();
    repository.create(&key(1), b"").await.unwrap();
    let number = |number| Some(ValueType::IntegerValue(number));
    for (field, damage, repair) in [
        (
            "name",
            number(1),
            Some(ValueType::StringValue("Key 1".to_owned())),
        ),
        ("rate_limit", number(0), number(60)),
        ("revision", number(-1), number(5)),
        ("sealed", None, Some(ValueType::BytesValue(Vec::new()))),
    ] {
        let active = Some(ValueType::BooleanValue(true));
        by_hand(&config, &name, &[("is_active", active), (field, damage)]).await;
        let revoked = operations.revoke(&KeyRef::Id(id(1))).await.unwrap();
        let what = revoked[0].record.clone().unwrap_err();
        assert!(what.contains(&format!("`{field}`")), "{what}");
        // Whoever puts the field back has an inactive key.
        by_hand(&config, &name, &[(field, repair)]).await;
        assert_eq!(state(&repository, hash(1)).await, "revoked", "{field}");
    }
    by_hand(&config, &name, &[("id", number(7)), ("revision", None)]).await;
    operations.delete(&KeyRef::Hash(hash(1))).await.unwrap();
    assert_eq!(
        repository.find(&hash(1)).await,
        Ok(Found::Tombstone { revision: 1 })
    );
}

#[tokio::test]
async fn an_id_in_another_spelling_is_refused_for_it_would_not_be_found() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    repository.create(&key(1), b"").await.unwrap();
    let spelled = Some(ValueType::StringValue(id(1).simple().to_string()));
    by_hand(&config, &hash(1).to_string(), &[("id", spelled)]).await;
    let found = repository.find(&hash(1)).await;
    assert!(
        matches!(found, Err(RepositoryError::Damaged(_))),
        "{found:?}"
    );
}

#[tokio::test]
async fn a_record_is_named_in_one_short_line_whatever_is_written_for_its_id() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    repository.create(&key(1), b"").await.unwrap();
    let long = Some(ValueType::StringValue("ERROR\n".repeat(1000)));
    by_hand(&config, &hash(1).to_string(), &[("id", long)]).await;
    let Err(RepositoryError::Damaged(text)) = repository.find(&hash(1)).await else {
        panic!("it is read");
    };
    assert!(text.len() < 300 && !text.contains('\n'), "{text}");
}

#[tokio::test]
async fn a_key_switched_off_by_hand_is_not_switched_on_by_a_write_that_was_under_way() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    repository.create(&key(1), b"").await.unwrap();
    let read = repository.find_by_id(id(1)).await.unwrap().unwrap().key;
    let off = Some(ValueType::BooleanValue(false));
    by_hand(&config, &hash(1).to_string(), &[("is_active", off)]).await;
    let conflict = Err(RepositoryError::Conflict {
        expected: 1,
        found: 1,
    });
    // An update, and one that only seals again.
    for written in [next(&read), read.clone()] {
        assert_eq!(repository.update(&written, b"new", &read).await, conflict);
        assert_eq!(state(&repository, hash(1)).await, "revoked");
    }
}

#[tokio::test]
async fn copies_and_damaged_records_are_listed_once_whatever_the_pages() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    for number in 1..=6 {
        repository.create(&key(number), b"").await.unwrap();
    }
    copy(&config, LOWEST, &[]).await;
    copy(
        &config,
        KeyHash::from_bytes([9; 32]),
        &[("rate_limit", None)],
    )
    .await;
    for number in [3, 4] {
        let limit = Some(ValueType::IntegerValue(0));
        by_hand(&config, &hash(number).to_string(), &[("rate_limit", limit)]).await;
    }
    for limit in 1..=4 {
        let (mut ids, mut damaged, mut after) = (Vec::new(), Vec::new(), None);
        loop {
            let page = repository.list(&Filter::default(), after, limit).await;
            let page = page.unwrap();
            ids.extend(page.keys.iter().map(|stored| stored.key.id));
            damaged.extend(page.damaged);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(ids, [1, 1, 2, 5, 6].map(id), "{limit}");
        assert_eq!(damaged.len(), 3, "{limit}: {damaged:?}");
    }
}

#[tokio::test]
async fn documents_that_no_hash_names_do_not_end_the_warming_up() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    for number in 1..=3 {
        repository.create(&key(number), b"").await.unwrap();
    }
    for number in 0..7 {
        let active = Some(ValueType::BooleanValue(true));
        by_hand(&config, &format!("!{number}"), &[("is_active", active)]).await;
    }
    let (mut keys, mut after) = (Vec::new(), None);
    loop {
        let page = repository.active(after, 2).await.unwrap();
        keys.extend(page.keys.into_iter().map(|stored| stored.key));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(keys, [1, 2, 3].map(key));
}
