//! The layout of the documents.
//!
//! A record, `{collection}/{key_hash}`:
//!
//! | field | type |
//! | --- | --- |
//! | `id`, `name`, `key_hash` | string |
//! | `permissions`, `allowed_ips` | array of strings |
//! | `rate_limit`, `revision`, `usage_count` | integer |
//! | `created_at`, `updated_at` | timestamp |
//! | `expires_at`, `last_used` | timestamp or null |
//! | `is_active` | boolean |
//! | `sealed` | bytes |
//!
//! A tombstone, in the place of a record that was deleted: `id`, `key_hash`,
//! `revision`, `deleted_at`, `updated_at`. It is told by `deleted_at`.
//!
//! `updated_at` and `deleted_at` are set by the server at every policy write.
//! Times are whole microseconds, as Firestore keeps them.

use std::collections::HashMap;
use std::fmt::Display;
use std::num::NonZeroU32;
use std::str::FromStr;

use firestore::gcloud_sdk::google::firestore::v1::value::ValueType;
use firestore::gcloud_sdk::google::firestore::v1::{ArrayValue, Document, Value};
use firestore::gcloud_sdk::prost_types;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::key::ApiKey;
use crate::repository::{Found, KeyUsage, Located, StoredKey};
use crate::token::KeyHash;

pub(super) const ID: &str = "id";
pub(super) const KEY_HASH: &str = "key_hash";
pub(super) const IS_ACTIVE: &str = "is_active";
pub(super) const REVISION: &str = "revision";
pub(super) const UPDATED_AT: &str = "updated_at";
pub(super) const DELETED_AT: &str = "deleted_at";
pub(super) const LAST_USED: &str = "last_used";
pub(super) const USAGE_COUNT: &str = "usage_count";

/// Longer than any id; in characters.
const MAX_ID: usize = 64;

pub(super) type Fields = HashMap<String, Value>;

/// What a policy write sets, apart from `updated_at`.
pub(super) fn policy(key: &ApiKey, sealed: &[u8]) -> Fields {
    fields([
        (ID, text(&key.id)),
        ("name", text(&key.name)),
        (KEY_HASH, text(&key.key_hash)),
        ("permissions", list(&key.permissions)),
        ("rate_limit", integer(key.rate_limit.get().into())),
        ("created_at", time(key.created_at)),
        ("expires_at", optional_time(key.expires_at)),
        (IS_ACTIVE, value(ValueType::BooleanValue(key.is_active))),
        ("allowed_ips", list(&key.allowed_ips)),
        (REVISION, integer(key.revision)),
        ("sealed", bytes(sealed)),
    ])
}

/// What a new record has besides its policy.
pub(super) fn bookkeeping(key: &ApiKey) -> Fields {
    fields([
        (LAST_USED, optional_time(key.last_used)),
        (USAGE_COUNT, integer(key.usage_count)),
    ])
}

/// What a record is told of its use.
pub(super) fn usage(usage: &KeyUsage) -> Fields {
    fields([
        (LAST_USED, time(usage.last_used)),
        (USAGE_COUNT, integer(usage.usage_count)),
    ])
}

/// What makes a record inactive. A revision that cannot be read stays: the record
/// is refused for as long as it does.
pub(super) fn inactive(record: &Document, next: u64) -> Fields {
    let mut fields = fields([(IS_ACTIVE, value(ValueType::BooleanValue(false)))]);
    if revision(record).is_ok() {
        fields.insert(REVISION.to_owned(), integer(next));
    }
    fields
}

/// What is left of a record, apart from the times of its deletion.
pub(super) fn tombstone(record: &Document, hash: &KeyHash, revision: u64) -> Fields {
    let id = record.fields.get(ID).cloned();
    fields([
        (ID, id.unwrap_or_else(null)),
        (KEY_HASH, text(hash)),
        (REVISION, integer(revision)),
    ])
}

pub(super) fn fields<const N: usize>(fields: [(&str, Value); N]) -> Fields {
    HashMap::from(fields.map(|(name, value)| (name.to_owned(), value)))
}

pub(super) fn text(text: &impl Display) -> Value {
    value(ValueType::StringValue(text.to_string()))
}

pub(super) fn bytes(bytes: &[u8]) -> Value {
    value(ValueType::BytesValue(bytes.to_vec()))
}

/// Firestore has signed integers only; no count of ours comes near the top.
pub(super) fn integer(number: u64) -> Value {
    let number = i64::try_from(number).unwrap_or(i64::MAX);
    value(ValueType::IntegerValue(number))
}

pub(super) fn time(time: Timestamp) -> Value {
    let micros = time.as_micros();
    value(ValueType::TimestampValue(prost_types::Timestamp {
        seconds: micros.div_euclid(1_000_000),
        // Below a billion.
        nanos: i32::try_from(micros.rem_euclid(1_000_000) * 1000).unwrap_or(0),
    }))
}

/// To another document.
pub(super) const fn reference(path: String) -> Value {
    value(ValueType::ReferenceValue(path))
}

fn optional_time(at: Option<Timestamp>) -> Value {
    at.map_or_else(null, time)
}

pub(super) fn null() -> Value {
    value(ValueType::NullValue(0))
}

fn list<T: Display>(items: &[T]) -> Value {
    let values = items.iter().map(|item| text(item)).collect();
    value(ValueType::ArrayValue(ArrayValue { values }))
}

const fn value(value: ValueType) -> Value {
    Value {
        value_type: Some(value),
    }
}

/// What the document at `{collection}/{key_hash}` is; the error names it and its
/// damaged field.
pub(super) fn found(document: &Document) -> Result<Found, String> {
    let reader = Reader::of(document);
    if is_tombstone(document) {
        let revision = reader.number(REVISION)?;
        return Ok(Found::Tombstone { revision });
    }
    stored_key(document).map(|stored| Found::Key(Box::new(stored)))
}

pub(super) fn is_tombstone(document: &Document) -> bool {
    document.fields.contains_key(DELETED_AT)
}

pub(super) fn has_id(document: &Document, id: &str) -> bool {
    let found = document
        .fields
        .get(ID)
        .and_then(|id| id.value_type.as_ref());
    matches!(found, Some(ValueType::StringValue(found)) if found == id)
}

/// The revision of a record, whatever else is damaged of it.
pub(super) fn revision(document: &Document) -> Result<u64, String> {
    Reader::of(document).number(REVISION)
}

/// What is known of a record, whatever is damaged of it; nothing of one that no
/// hash names, for no token leads there.
pub(super) fn located(document: &Document) -> Option<Located> {
    Some(Located {
        hash: name(document).parse().ok()?,
        revision: revision(document).unwrap_or(0),
        record: stored_key(document),
    })
}

/// Reads one record; the error names it and its damaged field.
pub(super) fn stored_key(document: &Document) -> Result<StoredKey, String> {
    let reader = Reader::of(document);
    let key_hash: KeyHash = reader.parsed(KEY_HASH)?;
    if key_hash.to_string() != name(document) {
        // Moved by hand: no token finds it here by its own hash.
        return Err(reader.damaged(KEY_HASH, "is not the name of its document"));
    }
    Ok(StoredKey {
        key: ApiKey {
            id: reader.id()?,
            name: reader.parsed("name")?,
            key_hash,
            permissions: reader.list("permissions")?,
            rate_limit: reader.at_least_one("rate_limit")?,
            created_at: reader.time("created_at")?,
            expires_at: reader.optional_time("expires_at")?,
            is_active: reader.boolean(IS_ACTIVE)?,
            allowed_ips: reader.list("allowed_ips")?,
            revision: reader.number(REVISION)?,
            last_used: reader.optional_time(LAST_USED)?,
            usage_count: reader.number(USAGE_COUNT)?,
        },
        updated_at: reader.time(UPDATED_AT)?,
        sealed: reader.bytes("sealed")?,
    })
}

/// The last part of a document's path.
pub(super) fn name(document: &Document) -> &str {
    document.name.rsplit('/').next().unwrap_or_default()
}

pub(super) struct Reader<'a> {
    document: &'a Document,
}

impl<'a> Reader<'a> {
    pub(super) const fn of(document: &'a Document) -> Self {
        Self { document }
    }

    fn damaged(&self, field: &str, why: impl Display) -> String {
        let id = self.document.fields.get(ID);
        if let Some(ValueType::StringValue(id)) = id.and_then(|id| id.value_type.as_ref()) {
            // Somebody may have written a megabyte there, or a line of a log.
            let id: String = id.chars().take(MAX_ID).collect();
            return format!("record {}, field `{field}`: {why}", id.escape_debug());
        }
        // As much of its name as tells it apart.
        let name: String = name(self.document).chars().take(8).collect();
        let name = name.escape_debug();
        format!("record without id at {name}..., field `{field}`: {why}")
    }

    fn get(&self, field: &str) -> Result<&'a ValueType, String> {
        let value = self.document.fields.get(field);
        value
            .and_then(|value| value.value_type.as_ref())
            .ok_or_else(|| self.damaged(field, "is missing"))
    }

    fn mistaken(&self, field: &str, found: &ValueType, expected: &str) -> String {
        self.damaged(field, format_args!("is {}, not {expected}", kind(found)))
    }

    fn parsed<T: FromStr<Err: Display>>(&self, field: &str) -> Result<T, String> {
        match self.get(field)? {
            ValueType::StringValue(text) => {
                text.parse().map_err(|error| self.damaged(field, error))
            }
            other => Err(self.mistaken(field, other, "a string")),
        }
    }

    /// Records are looked for by it as it is written here.
    fn id(&self) -> Result<Uuid, String> {
        let id: Uuid = self.parsed(ID)?;
        if *self.get(ID)? == ValueType::StringValue(id.to_string()) {
            Ok(id)
        } else {
            Err(self.damaged(ID, "is not written in lower case with hyphens"))
        }
    }

    fn number<T: TryFrom<u64, Error: Display>>(&self, field: &str) -> Result<T, String> {
        match self.get(field)? {
            ValueType::IntegerValue(number) => {
                let number = u64::try_from(*number).map_err(|error| self.damaged(field, error))?;
                T::try_from(number).map_err(|error| self.damaged(field, error))
            }
            other => Err(self.mistaken(field, other, "an integer")),
        }
    }

    fn at_least_one(&self, field: &str) -> Result<NonZeroU32, String> {
        let number: u32 = self.number(field)?;
        NonZeroU32::new(number).ok_or_else(|| self.damaged(field, "is not at least 1"))
    }

    fn boolean(&self, field: &str) -> Result<bool, String> {
        match self.get(field)? {
            ValueType::BooleanValue(value) => Ok(*value),
            other => Err(self.mistaken(field, other, "a boolean")),
        }
    }

    pub(super) fn bytes(&self, field: &str) -> Result<Vec<u8>, String> {
        match self.get(field)? {
            ValueType::BytesValue(bytes) => Ok(bytes.clone()),
            other => Err(self.mistaken(field, other, "bytes")),
        }
    }

    fn time(&self, field: &str) -> Result<Timestamp, String> {
        match self.get(field)? {
            ValueType::TimestampValue(time) => Ok(timestamp(time)),
            other => Err(self.mistaken(field, other, "a timestamp")),
        }
    }

    fn optional_time(&self, field: &str) -> Result<Option<Timestamp>, String> {
        match self.get(field)? {
            ValueType::NullValue(_) => Ok(None),
            ValueType::TimestampValue(time) => Ok(Some(timestamp(time))),
            other => Err(self.mistaken(field, other, "a timestamp or null")),
        }
    }

    fn list<T: FromStr<Err: Display>>(&self, field: &str) -> Result<Vec<T>, String> {
        let ValueType::ArrayValue(array) = self.get(field)? else {
            return Err(self.mistaken(field, self.get(field)?, "an array of strings"));
        };
        let item = |value: &Value| match &value.value_type {
            Some(ValueType::StringValue(text)) => {
                text.parse().map_err(|error| self.damaged(field, error))
            }
            _ => Err(self.damaged(field, "holds something that is not a string")),
        };
        array.values.iter().map(item).collect()
    }
}

pub(super) fn timestamp(time: &prost_types::Timestamp) -> Timestamp {
    let seconds = time.seconds.saturating_mul(1_000_000);
    Timestamp::from_micros(seconds.saturating_add(i64::from(time.nanos) / 1000))
}

const fn kind(value: &ValueType) -> &'static str {
    match value {
        ValueType::NullValue(_) => "null",
        ValueType::BooleanValue(_) => "a boolean",
        ValueType::IntegerValue(_) => "an integer",
        ValueType::DoubleValue(_) => "a floating-point number",
        ValueType::TimestampValue(_) => "a timestamp",
        ValueType::StringValue(_) => "a string",
        ValueType::BytesValue(_) => "bytes",
        ValueType::ArrayValue(_) => "an array",
        ValueType::MapValue(_) => "a map",
        _ => "of another type",
    }
}
