//! What is written to the collection.
//!
//! An update reads the document, sees that its policy is the one that was to be
//! replaced, and commits on the condition that the document was not written since
//! (`update_time`); what takes access away looks at the revision alone.
//! That is as strict as a transaction, in two round trips instead of four, and
//! takes no lock that somebody who died could hold; when the condition fails,
//! it is read and judged again. A creation has to see that nobody has its id,
//! which no condition on one document says, and is a transaction.

use std::collections::HashMap;
use std::time::Duration;

use firestore::errors::FirestoreError;
use firestore::gcloud_sdk::google::firestore::v1::document_transform::FieldTransform;
use firestore::gcloud_sdk::google::firestore::v1::document_transform::field_transform::{
    ServerValue, TransformType,
};
use firestore::gcloud_sdk::google::firestore::v1::precondition::ConditionType;
use firestore::gcloud_sdk::google::firestore::v1::write::Operation;
use firestore::gcloud_sdk::google::firestore::v1::{Document, DocumentMask, Precondition, Write};
use firestore::{
    FirestoreConsistencySelector, FirestoreDb, FirestoreResult, FirestoreTransaction,
    FirestoreTransactionData, FirestoreTransactionOps, FirestoreValue,
};

use super::connection::Connection;
use super::document::{self, Fields};
use super::error::{code, is_overtaken, unavailable};
use super::read;
use crate::clock::Timestamp;
use crate::key::ApiKey;
use crate::repository::{KeyUsage, RepositoryError, Result};
use crate::token::KeyHash;

/// How long a deletion is remembered: far longer than any edge can be cut off
/// and still serve from its cache.
const TOMBSTONES_KEPT: Duration = Duration::from_hours(30 * 24);

/// Below the 500 writes that one commit may hold.
const WRITTEN_AT_ONCE: u32 = 300;

/// How often somebody else may be faster before it is given up.
const ATTEMPTS: u32 = 12;

/// Whoever writes at the same time may hold locks: who lost lets the others pass,
/// each for another while.
const STEP_BACK: Duration = Duration::from_millis(25);

pub(super) async fn create(connection: &Connection, key: &ApiKey, sealed: &[u8]) -> Result<()> {
    let mut fields = document::policy(key, sealed);
    fields.extend(document::bookkeeping(key));
    let client = connection.current().await?;
    let mut attempt = 1;
    loop {
        let outcome = try_create(connection, &client, key, fields.clone()).await;
        let lost = |error: &_| match code(error) {
            // Whatever is created was not there: it is the database that is not.
            "NotFound" => unavailable(connection, error),
            _ => kept_changing(error),
        };
        if let Some(answer) = judged(connection, outcome, attempt, lost) {
            return answer;
        }
        tokio::time::sleep(step_back(attempt)).await;
        attempt += 1;
    }
}

fn step_back(attempt: u32) -> Duration {
    // Without randomness they meet again, and one of them gives up sooner.
    let random = getrandom::u32().unwrap_or(u32::MAX);
    (STEP_BACK * attempt).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

async fn try_create(
    connection: &Connection,
    client: &FirestoreDb,
    key: &ApiKey,
    fields: Fields,
) -> FirestoreResult<Result<()>> {
    let hash = key.key_hash.to_string();
    let mut transaction = client.begin_transaction().await?;
    let reading = client.clone_with_consistency_selector(
        FirestoreConsistencySelector::Transaction(transaction.transaction_id().clone()),
    );
    let taken = async {
        let here = read::get(&reading, connection.collection(), &hash).await?;
        let elsewhere = read::with_id(&reading, connection, key.id, 1).await?;
        Ok(here.is_some() || !elsewhere.is_empty())
    };
    let taken: FirestoreResult<bool> = taken.await;
    if !matches!(taken, Ok(false)) {
        // Its locks end with it; if that fails, with its time.
        transaction.rollback().await.ok();
        return taken.map(|_| Err(RepositoryError::Exists));
    }
    transaction.add(Commit(Write {
        current_document: Some(condition(ConditionType::Exists(false))),
        ..set(&read::path(client, connection.collection(), &hash), fields)
    }))?;
    transaction.commit().await.map(|_| Ok(()))
}

pub(super) async fn update(
    connection: &Connection,
    key: &ApiKey,
    sealed: &[u8],
    replaces: &ApiKey,
) -> Result<()> {
    let fields = document::policy(key, sealed);
    replace(connection, &key.key_hash, replaces.revision, |record| {
        let found = document::stored_key(record).map_err(RepositoryError::Damaged)?;
        if !found.key.has_policy_of(replaces) {
            return Err(RepositoryError::Conflict {
                expected: replaces.revision,
                found: found.key.revision,
            });
        }
        // Bookkeeping is left alone.
        Ok(masked(set(&record.name, fields.clone())))
    })
    .await
}

pub(super) async fn deactivate(
    connection: &Connection,
    hash: &KeyHash,
    expected: u64,
    revision: u64,
) -> Result<()> {
    replace(connection, hash, expected, |record| {
        require_revision(record, expected)?;
        let fields = document::inactive(record, revision);
        Ok(masked(set(&record.name, fields)))
    })
    .await
}

pub(super) async fn delete(connection: &Connection, hash: &KeyHash, expected: u64) -> Result<()> {
    replace(connection, hash, expected, |record| {
        require_revision(record, expected)?;
        let left = document::tombstone(record, hash, expected.saturating_add(1));
        let mut write = set(&record.name, left);
        write.update_transforms.push(now(document::DELETED_AT));
        Ok(write)
    })
    .await
}

fn require_revision(record: &Document, expected: u64) -> Result<()> {
    match document::revision(record).unwrap_or(0) {
        found if found == expected => Ok(()),
        found => Err(RepositoryError::Conflict { expected, found }),
    }
}

/// Sets bookkeeping, and with it neither `updated_at` nor anything that is
/// sealed. Says how many of the records there are.
pub(super) async fn record_usage(connection: &Connection, usages: &[KeyUsage]) -> Result<usize> {
    let client = connection.current().await?;
    let mut there = 0;
    for usages in usages.chunks(WRITTEN_AT_ONCE as usize) {
        there += record_some(connection, &client, usages).await?;
    }
    Ok(there)
}

async fn record_some(
    connection: &Connection,
    client: &FirestoreDb,
    usages: &[KeyUsage],
) -> Result<usize> {
    let by_name: HashMap<_, _> = usages
        .iter()
        .map(|usage| (usage.key_hash.to_string(), usage))
        .collect();
    let mut attempt = 1;
    loop {
        let names = by_name.keys().cloned().collect();
        let found = read::several(client, connection.collection(), names).await;
        let found = found.map_err(|error| unavailable(connection, &error))?;
        let writes: Vec<_> = found
            .iter()
            .filter(|found| !document::is_tombstone(found))
            .filter_map(|record| {
                let usage = by_name.get(document::name(record))?;
                Some(bookkeeping(record, usage))
            })
            .collect();
        if writes.is_empty() {
            return Ok(0);
        }
        let count = writes.len();
        let outcome = commit(client, writes).await.map(|()| Ok(count));
        if let Some(answer) = judged(connection, outcome, attempt, kept_changing) {
            return answer;
        }
        attempt += 1;
    }
}

fn bookkeeping(record: &Document, usage: &KeyUsage) -> Write {
    masked(Write {
        operation: Some(Operation::Update(Document {
            name: record.name.clone(),
            fields: document::usage(usage),
            ..Document::default()
        })),
        // A tombstone is not written to, and no record is made.
        current_document: unchanged(record),
        ..Write::default()
    })
}

/// Writes what `write` makes of the record at `hash`, unless it finds that the
/// record is not the expected one.
async fn replace(
    connection: &Connection,
    hash: &KeyHash,
    expected: u64,
    write: impl Fn(&Document) -> Result<Write>,
) -> Result<()> {
    let hash = hash.to_string();
    let client = connection.current().await?;
    let mut attempt = 1;
    loop {
        let found = read::get(&client, connection.collection(), &hash).await;
        let found = found.map_err(|error| unavailable(connection, &error))?;
        let record = found.filter(|found| !document::is_tombstone(found));
        let record = record.ok_or(RepositoryError::NotFound)?;
        let write = Write {
            current_document: unchanged(&record),
            ..write(&record)?
        };
        let outcome = commit(&client, vec![write]).await.map(Ok);
        let lost = |_: &_| RepositoryError::Conflict {
            expected,
            found: expected,
        };
        if let Some(answer) = judged(connection, outcome, attempt, lost) {
            return answer;
        }
        tokio::time::sleep(step_back(attempt)).await;
        attempt += 1;
    }
}

/// The answer of an attempt; `None` when somebody else was faster, and it is to
/// be tried again. After the last one, what `lost` makes of that.
fn judged<T>(
    connection: &Connection,
    outcome: FirestoreResult<Result<T>>,
    attempt: u32,
    lost: impl FnOnce(&FirestoreError) -> RepositoryError,
) -> Option<Result<T>> {
    match outcome {
        Ok(answer) => Some(answer),
        Err(error) if is_overtaken(&error) && attempt < ATTEMPTS => None,
        Err(error) if is_overtaken(&error) => Some(Err(lost(&error))),
        Err(error) => Some(Err(unavailable(connection, &error))),
    }
}

fn kept_changing(error: &FirestoreError) -> RepositoryError {
    let code = code(error);
    RepositoryError::Unavailable(format!(
        "Firestore: {code}: what was to be written kept changing, {ATTEMPTS} times"
    ))
}

/// Writes all or nothing.
pub(super) async fn commit(client: &FirestoreDb, writes: Vec<Write>) -> FirestoreResult<()> {
    // A commit without a transaction's id is a transaction of its own.
    let data = FirestoreTransactionData::new(
        Vec::new(),
        client.get_documents_path().clone(),
        tracing::Span::none(),
        writes,
    );
    let committed = FirestoreTransaction::from_data(client, data).commit().await;
    committed.map(drop)
}

/// Sets a document, and `updated_at` to the server's time.
pub(super) fn set(path: &str, fields: Fields) -> Write {
    Write {
        operation: Some(Operation::Update(Document {
            name: path.to_owned(),
            fields,
            ..Document::default()
        })),
        update_transforms: vec![now(document::UPDATED_AT)],
        ..Write::default()
    }
}

/// Leaves all other fields of the document alone.
fn masked(write: Write) -> Write {
    let field_paths = match &write.operation {
        Some(Operation::Update(document)) => document.fields.keys().cloned().collect(),
        _ => Vec::new(),
    };
    Write {
        update_mask: Some(DocumentMask { field_paths }),
        ..write
    }
}

fn now(field: &str) -> FieldTransform {
    FieldTransform {
        field_path: field.to_owned(),
        transform_type: Some(TransformType::SetToServerValue(
            ServerValue::RequestTime.into(),
        )),
    }
}

/// Only while the document is the one that was read.
pub(super) fn unchanged(read: &Document) -> Option<Precondition> {
    Some(condition(ConditionType::UpdateTime(read.update_time?)))
}

pub(super) const fn condition(condition: ConditionType) -> Precondition {
    Precondition {
        condition_type: Some(condition),
    }
}

/// A write that needs no conversion.
struct Commit(Write);

impl TryFrom<Commit> for Write {
    type Error = FirestoreError;

    fn try_from(Commit(write): Commit) -> FirestoreResult<Self> {
        Ok(write)
    }
}

/// Forgets the oldest of the deletions that no edge can have missed any more.
pub(super) async fn purge_tombstones(connection: &Connection, now: Timestamp) -> Result<usize> {
    let before = document::time(now.saturating_sub(TOMBSTONES_KEPT));
    let before = FirestoreValue::from(before);
    let client = connection.current().await?;
    let query = read::all(&client, connection)
        .filter(|of| of.field(document::DELETED_AT).less_than(before.clone()))
        .limit(WRITTEN_AT_ONCE);
    let purge = async {
        let old = query.query().await?;
        if old.is_empty() {
            return Ok(0);
        }
        let writes = old.iter().map(|tombstone| Write {
            operation: Some(Operation::Delete(tombstone.name.clone())),
            current_document: unchanged(tombstone),
            ..Write::default()
        });
        commit(&client, writes.collect()).await?;
        Ok(old.len())
    };
    purge.await.map_err(|error| unavailable(connection, &error))
}
