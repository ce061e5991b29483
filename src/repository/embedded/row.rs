//! A row and the record it stands for.

use std::fmt::Display;
use std::str::FromStr;

use rusqlite::Row;
use rusqlite::types::FromSql;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::key::ApiKey;
use crate::repository::StoredKey;

/// What [`stored_key`] reads.
pub(super) const COLUMNS: &str = "id, name, key_hash, permissions, rate_limit, created_at, \
    expires_at, is_active, allowed_ips, revision, last_used, usage_count, updated_at, sealed";

/// Reads one record; the error names it and its damaged field.
pub(super) fn stored_key(row: &Row<'_>) -> Result<StoredKey, String> {
    let fields = Fields {
        row,
        id: row.get("id").unwrap_or_else(|_| "without id".to_owned()),
    };
    Ok(StoredKey {
        key: ApiKey {
            id: fields.id()?,
            name: fields.parsed("name")?,
            key_hash: fields.parsed("key_hash")?,
            permissions: fields.list("permissions")?,
            rate_limit: fields.get("rate_limit")?,
            created_at: fields.time("created_at")?,
            expires_at: fields.optional_time("expires_at")?,
            is_active: fields.get("is_active")?,
            allowed_ips: fields.list("allowed_ips")?,
            revision: fields.number("revision")?,
            last_used: fields.optional_time("last_used")?,
            usage_count: fields.number("usage_count")?,
        },
        updated_at: fields.time("updated_at")?,
        sealed: fields.get("sealed")?,
    })
}

/// The JSON of a list field.
pub(super) fn list<T: Display>(items: &[T]) -> String {
    let texts: Vec<_> = items.iter().map(ToString::to_string).collect();
    serde_json::Value::from(texts).to_string()
}

struct Fields<'a> {
    row: &'a Row<'a>,
    id: String,
}

impl Fields<'_> {
    fn damaged(&self, field: &str, why: impl Display) -> String {
        format!("record {}, field `{field}`: {why}", self.id)
    }

    fn get<T: FromSql>(&self, field: &str) -> Result<T, String> {
        self.row
            .get(field)
            .map_err(|error| self.damaged(field, error))
    }

    fn parsed<T: FromStr<Err: Display>>(&self, field: &str) -> Result<T, String> {
        let text: String = self.get(field)?;
        text.parse().map_err(|error| self.damaged(field, error))
    }

    /// Records are looked for by it as it is written here.
    fn id(&self) -> Result<Uuid, String> {
        let id: Uuid = self.parsed("id")?;
        if id.to_string() == self.id {
            Ok(id)
        } else {
            Err(self.damaged("id", "is not written in lower case with hyphens"))
        }
    }

    fn number<T: TryFrom<i64, Error: Display>>(&self, field: &str) -> Result<T, String> {
        let number: i64 = self.get(field)?;
        T::try_from(number).map_err(|error| self.damaged(field, error))
    }

    fn time(&self, field: &str) -> Result<Timestamp, String> {
        self.get(field).map(Timestamp::from_micros)
    }

    fn optional_time(&self, field: &str) -> Result<Option<Timestamp>, String> {
        let micros: Option<i64> = self.get(field)?;
        Ok(micros.map(Timestamp::from_micros))
    }

    fn list<T: FromStr<Err: Display>>(&self, field: &str) -> Result<Vec<T>, String> {
        let json: String = self.get(field)?;
        let texts: Vec<String> =
            serde_json::from_str(&json).map_err(|error| self.damaged(field, error))?;
        texts
            .iter()
            .map(|text| text.parse().map_err(|error| self.damaged(field, error)))
            .collect()
    }
}
