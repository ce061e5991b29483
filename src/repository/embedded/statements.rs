//! What is asked of the file, in SQL.

use std::time::Duration;

use rusqlite::types::Value;
use rusqlite::{
    Connection, ErrorCode, OptionalExtension, Transaction, TransactionBehavior, params,
    params_from_iter,
};
use uuid::Uuid;

use super::row::{self, COLUMNS, stored_key};
use crate::clock::Timestamp;
use crate::key::ApiKey;
use crate::repository::{
    ActivePage, At, Filter, Found, KeyUsage, Located, Page, RepositoryError, Result, StoredKey,
};
use crate::token::KeyHash;

/// How long a deletion is remembered: far longer than any edge can be cut off
/// and still serve from its cache.
const TOMBSTONES_KEPT: Duration = Duration::from_hours(30 * 24);

impl From<rusqlite::Error> for RepositoryError {
    fn from(error: rusqlite::Error) -> Self {
        match error.sqlite_error_code() {
            Some(ErrorCode::ConstraintViolation) => Self::Exists,
            _ => Self::Unavailable(error.to_string()),
        }
    }
}

pub(super) fn find(connection: &Connection, hash: &KeyHash) -> Result<Found> {
    let hash = hash.to_string();
    if let Some(stored) = one(connection, &hash)? {
        return Ok(Found::Key(Box::new(stored)));
    }
    let revision: Option<i64> = connection
        .prepare_cached("SELECT revision FROM tombstones WHERE key_hash = ?1")?
        .query_row([&hash], |row| row.get(0))
        .optional()?;
    Ok(revision.map_or(Found::Absent, |revision| Found::Tombstone {
        revision: unsigned(revision),
    }))
}

pub(super) fn locate(connection: &Connection, at: At) -> Result<Vec<Located>> {
    let (column, value) = match at {
        At::Id(id) => ("id", id.to_string()),
        At::Hash(hash) => ("key_hash", hash.to_string()),
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM api_keys WHERE {column} = ?1"
    ))?;
    let mut rows = statement.query([value])?;
    let mut located = Vec::new();
    while let Some(row) = rows.next()? {
        let hash: String = row.get("key_hash")?;
        // What no hash names, no token leads to.
        if let Ok(hash) = hash.parse() {
            located.push(Located {
                hash,
                revision: unsigned(row.get("revision")?),
                record: stored_key(row),
            });
        }
    }
    Ok(located)
}

fn one(connection: &Connection, hash: &str) -> Result<Option<StoredKey>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM api_keys WHERE key_hash = ?1"
    ))?;
    let mut rows = statement.query([hash])?;
    let Some(row) = rows.next()? else {
        return Ok(None);
    };
    stored_key(row).map(Some).map_err(RepositoryError::Damaged)
}

pub(super) fn list(
    connection: &Connection,
    filter: &Filter,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Page> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM api_keys WHERE id > ?1 ORDER BY id"
    ))?;
    let after = after.map(|id| id.to_string()).unwrap_or_default();
    let mut rows = statement.query([after])?;
    let mut page = Page {
        keys: Vec::new(),
        damaged: Vec::new(),
        next: None,
    };
    // Filtered here: SQLite folds the case of ASCII letters only.
    let name = filter.name.as_deref().map(str::to_lowercase);
    while let Some(row) = rows.next()? {
        match stored_key(row) {
            Err(damage) => page.damaged.push(damage),
            Ok(stored) if !matches(&stored, name.as_deref(), filter.active) => {}
            Ok(_) if page.keys.len() == limit => {
                page.next = page.keys.last().map(|stored| stored.key.id);
                break;
            }
            Ok(stored) => page.keys.push(stored),
        }
    }
    Ok(page)
}

fn matches(stored: &StoredKey, name: Option<&str>, active: Option<bool>) -> bool {
    let key = &stored.key;
    active.is_none_or(|active| key.is_active == active)
        && name.is_none_or(|part| key.name.as_str().to_lowercase().contains(part))
}

pub(super) fn active(
    connection: &Connection,
    after: Option<KeyHash>,
    limit: usize,
) -> Result<ActivePage> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM api_keys WHERE key_hash > ?1 AND is_active = 1 ORDER BY key_hash"
    ))?;
    let after = after.map(|hash| hash.to_string()).unwrap_or_default();
    let mut rows = statement.query([after])?;
    let mut page = ActivePage::default();
    while let Some(row) = rows.next()? {
        match stored_key(row) {
            Err(_) => {}
            Ok(_) if page.keys.len() == limit => {
                page.next = page.keys.last().map(|stored| stored.key.key_hash);
                break;
            }
            Ok(stored) => page.keys.push(stored),
        }
    }
    Ok(page)
}

pub(super) fn create(
    connection: &mut Connection,
    key: &ApiKey,
    sealed: &[u8],
    now: Timestamp,
) -> Result<()> {
    connection
        .prepare_cached(
            "INSERT INTO api_keys (key_hash, id, name, permissions, rate_limit, created_at, \
             expires_at, is_active, allowed_ips, revision, updated_at, sealed, last_used, \
             usage_count) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?
        .execute(params_from_iter(
            written(key, sealed, now).into_iter().chain([
                key.last_used.map(Timestamp::as_micros).into(),
                signed(key.usage_count).into(),
            ]),
        ))?;
    Ok(())
}

pub(super) fn update(
    connection: &mut Connection,
    key: &ApiKey,
    sealed: &[u8],
    replaces: &ApiKey,
    now: Timestamp,
) -> Result<()> {
    let transaction = writing(connection)?;
    let found = one(&transaction, &key.key_hash.to_string())?;
    let found = found.ok_or(RepositoryError::NotFound)?.key;
    if !found.has_policy_of(replaces) {
        return Err(RepositoryError::Conflict {
            expected: replaces.revision,
            found: found.revision,
        });
    }
    transaction
        .prepare_cached(
            "UPDATE api_keys SET id = ?2, name = ?3, permissions = ?4, rate_limit = ?5, \
             created_at = ?6, expires_at = ?7, is_active = ?8, allowed_ips = ?9, revision = ?10, \
             updated_at = ?11, sealed = ?12 WHERE key_hash = ?1",
        )?
        .execute(params_from_iter(written(key, sealed, now)))?;
    Ok(transaction.commit()?)
}

/// The columns of a policy write, in the order of the statements above.
fn written(key: &ApiKey, sealed: &[u8], now: Timestamp) -> [Value; 12] {
    [
        key.key_hash.to_string().into(),
        key.id.to_string().into(),
        key.name.as_str().to_owned().into(),
        row::list(&key.permissions).into(),
        key.rate_limit.get().into(),
        key.created_at.as_micros().into(),
        key.expires_at.map(Timestamp::as_micros).into(),
        key.is_active.into(),
        row::list(&key.allowed_ips).into(),
        signed(key.revision).into(),
        now.as_micros().into(),
        sealed.to_owned().into(),
    ]
}

pub(super) fn deactivate(
    connection: &mut Connection,
    hash: &KeyHash,
    expected: u64,
    revision: u64,
    now: Timestamp,
) -> Result<()> {
    let transaction = writing(connection)?;
    let hash = hash.to_string();
    require_revision(&transaction, &hash, expected)?;
    transaction.execute(
        "UPDATE api_keys SET is_active = 0, revision = iif(revision < 0, revision, ?2), \
         updated_at = ?3 WHERE key_hash = ?1",
        params![hash, signed(revision), now.as_micros()],
    )?;
    Ok(transaction.commit()?)
}

pub(super) fn delete(
    connection: &mut Connection,
    hash: &KeyHash,
    expected: u64,
    now: Timestamp,
) -> Result<()> {
    let transaction = writing(connection)?;
    let hash = hash.to_string();
    require_revision(&transaction, &hash, expected)?;
    // A trigger leaves the tombstone, as it does for a deletion by hand.
    transaction.execute("DELETE FROM api_keys WHERE key_hash = ?1", [&hash])?;
    transaction.execute(
        "UPDATE tombstones SET deleted_at = ?2 WHERE key_hash = ?1",
        params![hash, now.as_micros()],
    )?;
    Ok(transaction.commit()?)
}

fn require_revision(transaction: &Transaction<'_>, hash: &str, expected: u64) -> Result<()> {
    let found: Option<i64> = transaction
        .prepare_cached("SELECT revision FROM api_keys WHERE key_hash = ?1")?
        .query_row([hash], |row| row.get(0))
        .optional()?;
    match found.map(unsigned) {
        None => Err(RepositoryError::NotFound),
        Some(found) if found != expected => Err(RepositoryError::Conflict { expected, found }),
        Some(_) => Ok(()),
    }
}

pub(super) fn record_usage(connection: &mut Connection, usages: &[KeyUsage]) -> Result<usize> {
    let transaction = writing(connection)?;
    let mut there = 0;
    for usage in usages {
        there += transaction
            .prepare_cached(
                "UPDATE api_keys SET usage_count = ?2, last_used = ?3 WHERE key_hash = ?1",
            )?
            .execute(params![
                usage.key_hash.to_string(),
                signed(usage.usage_count),
                usage.last_used.as_micros(),
            ])?;
    }
    transaction.commit()?;
    Ok(there)
}

pub(super) fn keyring(connection: &Connection) -> Result<Option<Vec<u8>>> {
    Ok(connection
        .query_row("SELECT document FROM keyring", [], |row| row.get(0))
        .optional()?)
}

pub(super) fn put_keyring(
    connection: &mut Connection,
    document: &[u8],
    replaces: Option<&[u8]>,
) -> Result<()> {
    let transaction = writing(connection)?;
    let stored = keyring(&transaction)?;
    match (&stored, replaces) {
        (None, None) => transaction.execute(
            "INSERT INTO keyring (only, document) VALUES (1, ?1)",
            [document],
        )?,
        (Some(_), None) => return Err(RepositoryError::Exists),
        (None, Some(_)) => return Err(RepositoryError::NotFound),
        (Some(stored), Some(replaces)) if stored == replaces => {
            transaction.execute("UPDATE keyring SET document = ?1", [document])?
        }
        (Some(_), Some(_)) => return Err(RepositoryError::KeyringChanged),
    };
    Ok(transaction.commit()?)
}

/// Forgets deletions that no edge can have missed any more.
pub(super) fn purge_tombstones(connection: &mut Connection, now: Timestamp) -> Result<usize> {
    let before = now.saturating_sub(TOMBSTONES_KEPT).as_micros();
    let any: bool = connection.query_row(
        "SELECT EXISTS (SELECT 1 FROM tombstones WHERE deleted_at < ?1)",
        [before],
        |row| row.get(0),
    )?;
    if !any {
        return Ok(0);
    }
    Ok(connection.execute("DELETE FROM tombstones WHERE deleted_at < ?1", [before])?)
}

fn writing(connection: &mut Connection) -> Result<Transaction<'_>> {
    Ok(connection.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

/// SQLite has signed integers only; no count of ours comes near the top.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn unsigned(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
