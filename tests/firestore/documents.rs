//! What lies in the database, as whoever looks at it there sees it.

use std::collections::BTreeMap;

use cypheron_edge::repository::{
    ApiKeyReader, ApiKeyRepository, Filter, FirestoreConfig, Found, RepositoryError,
};
use firestore::gcloud_sdk::google::firestore::v1::value::ValueType;
use firestore::gcloud_sdk::google::firestore::v1::write::Operation;
use firestore::gcloud_sdk::google::firestore::v1::{
    CommitRequest, Document, DocumentMask, Value, Write,
};

use crate::emulator;
use crate::repository_contract::{hash, id, key};

/// Types by field, of the document that the collection has under this name.
async fn types(config: &FirestoreConfig, collection: &str, name: &str) -> BTreeMap<String, String> {
    let document = document(config, collection, name).await;
    let kind = |value: Value| match value.value_type.unwrap() {
        ValueType::NullValue(_) => "null".to_owned(),
        ValueType::BooleanValue(_) => "boolean".to_owned(),
        ValueType::IntegerValue(_) => "integer".to_owned(),
        ValueType::TimestampValue(_) => "timestamp".to_owned(),
        ValueType::StringValue(_) => "string".to_owned(),
        ValueType::BytesValue(_) => "bytes".to_owned(),
        ValueType::ArrayValue(array) => format!("array of {}", array.values.len()),
        other => format!("{other:?}"),
    };
    let fields = document.fields.into_iter();
    fields.map(|(name, value)| (name, kind(value))).collect()
}

pub(crate) async fn document(config: &FirestoreConfig, collection: &str, name: &str) -> Document {
    let repository = emulator::open(config);
    let client = repository.connection().current().await.unwrap();
    let select = client.fluent().select().by_id_in(collection);
    select.one(name).await.unwrap().unwrap()
}

/// Sets fields as a hand in the console does; `None` removes one.
pub(crate) async fn by_hand(
    config: &FirestoreConfig,
    name: &str,
    fields: &[(&str, Option<ValueType>)],
) {
    let repository = emulator::open(config);
    let client = repository.connection().current().await.unwrap();
    let path = client.get_documents_path();
    let write = Write {
        operation: Some(Operation::Update(Document {
            name: format!("{path}/{}/{name}", config.collection),
            fields: fields
                .iter()
                .filter_map(|(field, value)| {
                    let value_type = Some(value.clone()?);
                    Some(((*field).to_owned(), Value { value_type }))
                })
                .collect(),
            ..Document::default()
        })),
        update_mask: Some(DocumentMask {
            field_paths: fields
                .iter()
                .map(|(field, _)| (*field).to_owned())
                .collect(),
        }),
        ..Write::default()
    };
    let commit = CommitRequest {
        database: client.get_database_path().clone(),
        writes: vec![write],
        ..CommitRequest::default()
    };
    client.client().get().commit(commit).await.unwrap();
}

fn expected(fields: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(name, kind): &(&str, &str)| ((*name).to_owned(), (*kind).to_owned());
    fields.iter().map(owned).collect()
}

#[tokio::test]
async fn a_record_and_its_tombstone_are_of_native_types() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    repository.create(&key(1), b"sealed").await.unwrap();
    let name = hash(1).to_string();
    let record = expected(&[
        ("id", "string"),
        ("name", "string"),
        ("key_hash", "string"),
        ("permissions", "array of 2"),
        ("rate_limit", "integer"),
        ("created_at", "timestamp"),
        ("expires_at", "timestamp"),
        ("is_active", "boolean"),
        ("last_used", "null"),
        ("usage_count", "integer"),
        ("allowed_ips", "array of 2"),
        ("revision", "integer"),
        ("updated_at", "timestamp"),
        ("sealed", "bytes"),
    ]);
    assert_eq!(types(&config, "api_keys", &name).await, record);

    repository.delete(&hash(1), 1).await.unwrap();
    let tombstone = expected(&[
        ("id", "string"),
        ("key_hash", "string"),
        ("revision", "integer"),
        ("deleted_at", "timestamp"),
        ("updated_at", "timestamp"),
    ]);
    assert_eq!(types(&config, "api_keys", &name).await, tombstone);
}

#[tokio::test]
async fn the_keyring_is_one_document_beside_the_collection() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    repository.put_keyring(b"no keyring", None).await.unwrap();
    let fields = expected(&[
        ("document", "bytes"),
        ("version", "null"),
        ("updated_at", "timestamp"),
    ]);
    assert_eq!(types(&config, "api_keys_keyring", "current").await, fields);
}

#[tokio::test]
async fn another_collection_or_database_is_another_store() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    repository.create(&key(1), b"sealed").await.unwrap();
    repository.put_keyring(b"keyring", None).await.unwrap();
    for other in [
        FirestoreConfig {
            collection: "other".into(),
            ..config.clone()
        },
        FirestoreConfig {
            database: "other".into(),
            ..config.clone()
        },
    ] {
        let other = emulator::open(&other);
        assert_eq!(other.find(&hash(1)).await, Ok(Found::Absent));
        assert_eq!(other.keyring().await, Ok(None));
    }
}

#[tokio::test]
async fn a_damaged_record_is_named_and_does_not_hide_the_others() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    for number in 1..=3 {
        repository.create(&key(number), b"").await.unwrap();
    }
    let text = |text: &str| Some(ValueType::StringValue(text.to_owned()));
    for (field, value, why) in [
        ("name", text(""), "1 to 128 characters"),
        ("name", None, "is missing"),
        (
            "permissions",
            text("orders:read"),
            "is a string, not an array of strings",
        ),
        (
            "rate_limit",
            Some(ValueType::DoubleValue(60.0)),
            "is a floating-point number, not an integer",
        ),
        ("rate_limit", Some(ValueType::IntegerValue(0)), ""),
        (
            "created_at",
            text("2026-01-01T00:00:00Z"),
            "is a string, not a timestamp",
        ),
        (
            "expires_at",
            text("never"),
            "is a string, not a timestamp or null",
        ),
        ("expires_at", None, "is missing"),
        ("is_active", text("true"), "is a string, not a boolean"),
        ("revision", Some(ValueType::IntegerValue(-1)), ""),
        (
            "key_hash",
            text(&hash(1).to_string()),
            "is not the name of its document",
        ),
        ("sealed", text(""), "is a string, not bytes"),
        ("usage_count", Some(ValueType::IntegerValue(-1)), ""),
        ("updated_at", None, "is missing"),
    ] {
        let name = hash(2).to_string();
        let before = document(&config, "api_keys", &name)
            .await
            .fields
            .remove(field);
        by_hand(&config, &name, &[(field, value)]).await;
        let error = repository.find(&hash(2)).await.unwrap_err();
        let RepositoryError::Damaged(damage) = error else {
            panic!("{field}: {error}");
        };
        let named = format!("record {}, field `{field}`: ", id(2));
        assert!(
            damage.starts_with(&named) && damage.contains(why),
            "{damage}"
        );
        let page = repository.list(&Filter::default(), None, 10).await.unwrap();
        let ids: Vec<_> = page.keys.iter().map(|stored| stored.key.id).collect();
        assert_eq!(ids, [id(1), id(3)], "{field}");
        assert_eq!(page.damaged, [damage]);
        by_hand(&config, &name, &[(field, before.unwrap().value_type)]).await;
    }
    assert!(matches!(repository.find(&hash(2)).await, Ok(Found::Key(_))));
}

#[tokio::test]
async fn a_record_whose_id_is_damaged_is_told_by_its_document() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    repository.create(&key(2), b"").await.unwrap();
    let number = Some(ValueType::IntegerValue(7));
    by_hand(&config, &hash(2).to_string(), &[("id", number)]).await;
    let page = repository.list(&Filter::default(), None, 10).await.unwrap();
    assert_eq!(page.keys, []);
    let damage = page.damaged[0].as_str();
    assert!(
        damage.starts_with("record without id at 02020202..., field `id`: is an integer"),
        "{damage}"
    );
    // Not even that keeps it from being deleted.
    repository.delete(&hash(2), 1).await.unwrap();
}

#[tokio::test]
async fn times_are_cut_to_whole_microseconds() {
    let Some(config) = emulator::project() else {
        return;
    };
    let repository = emulator::open(&config);
    repository.create(&key(1), b"").await.unwrap();
    let Ok(Found::Key(stored)) = repository.find(&hash(1)).await else {
        panic!()
    };
    assert_eq!(stored.key, key(1));
    let document = document(&config, "api_keys", &hash(1).to_string()).await;
    for (field, value) in document.fields {
        if let Some(ValueType::TimestampValue(time)) = value.value_type {
            assert_eq!(time.nanos % 1000, 0, "{field}");
        }
    }
}
