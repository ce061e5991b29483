//! What is asked of the collection.

use firestore::errors::FirestoreError;
use firestore::gcloud_sdk::google::firestore::v1::Document;
use firestore::select_builder::FirestoreSelectDocBuilder;
use firestore::{FirestoreDb, FirestoreQueryCursor, FirestoreResult, FirestoreValue};
use futures_util::{StreamExt, TryStreamExt};
use uuid::Uuid;

use super::connection::Connection;
use super::document;
use super::error::unavailable;
use crate::repository::{ActivePage, Filter, Found, Page, RepositoryError, Result, StoredKey};
use crate::token::KeyHash;

/// Documents read at once, and so the most that are in memory beside the page
/// itself. Few would make a listing that finds little take many round trips.
const AT_ONCE: u32 = 300;

/// One document. In a batch of one: there it is no error that a document is not
/// there, and `NotFound` means the database alone.
pub(super) async fn get(
    client: &FirestoreDb,
    collection: &str,
    name: &str,
) -> FirestoreResult<Option<Document>> {
    let batch = client.fluent().select().by_id_in(collection);
    let mut answers = batch.batch_with_errors([name]).await?;
    match answers.next().await {
        Some(answer) => answer.map(|(_, document)| document),
        None => Err(FirestoreError::from(std::io::Error::other(
            "it answered without a word on the document",
        ))),
    }
}

/// Those of several documents that are there: whether they are tombstones, and
/// no other field.
pub(super) async fn several(
    client: &FirestoreDb,
    collection: &str,
    names: Vec<String>,
) -> FirestoreResult<Vec<Document>> {
    let select = client.fluent().select().fields([document::DELETED_AT]);
    let answers = select.by_id_in(collection).batch_with_errors(names).await?;
    let found: Vec<_> = answers.try_collect().await?;
    Ok(found.into_iter().filter_map(|(_, found)| found).collect())
}

pub(super) async fn find(connection: &Connection, hash: &KeyHash) -> Result<Found> {
    let client = connection.current().await?;
    let document = get(&client, connection.collection(), &hash.to_string())
        .await
        .map_err(|error| unavailable(connection, &error))?;
    document.map_or(Ok(Found::Absent), |document| {
        document::found(&document).map_err(RepositoryError::Damaged)
    })
}

pub(super) async fn find_by_id(connection: &Connection, id: Uuid) -> Result<Option<StoredKey>> {
    let client = connection.current().await?;
    let documents = with_id(&client, connection, id)
        .await
        .map_err(|error| unavailable(connection, &error))?;
    let record = documents
        .iter()
        .find(|document| !document::is_tombstone(document));
    record
        .map(|record| document::stored_key(record).map_err(RepositoryError::Damaged))
        .transpose()
}

/// Whatever has this id: one document, unless somebody copied one by hand.
pub(super) async fn with_id(
    client: &FirestoreDb,
    connection: &Connection,
    id: Uuid,
) -> FirestoreResult<Vec<Document>> {
    let id = id.to_string();
    all(client, connection)
        .filter(|of| of.field(document::ID).eq(&id))
        .limit(2)
        .query()
        .await
}

pub(super) async fn list(
    connection: &Connection,
    filter: &Filter,
    after: Option<Uuid>,
    limit: usize,
) -> Result<Page> {
    let client = connection.current().await?;
    let name = filter.name.as_deref().map(str::to_lowercase);
    let wanted = u32::try_from(limit).map_or(AT_ONCE, |limit| limit.saturating_add(1));
    // Names are looked at here, and few may be the wanted ones.
    let at_once = if name.is_some() {
        AT_ONCE
    } else {
        wanted.min(AT_ONCE)
    };
    let mut page = Page {
        keys: Vec::new(),
        damaged: Vec::new(),
        next: None,
    };
    let mut after: Option<FirestoreValue> = after.map(|id| id.to_string().into());
    loop {
        let query = by_id(&client, connection, filter.active, after.take());
        let documents = query
            .limit(at_once)
            .query()
            .await
            .map_err(|error| unavailable(connection, &error))?;
        let read = documents.len();
        after = documents
            .last()
            .and_then(|last| last.fields.get(document::ID).cloned())
            .map(FirestoreValue::from);
        for found in documents
            .iter()
            .filter(|found| !document::is_tombstone(found))
        {
            match document::stored_key(found) {
                Err(damage) => page.damaged.push(damage),
                Ok(stored) if !has_name(&stored, name.as_deref()) => {}
                Ok(_) if page.keys.len() == limit => {
                    page.next = page.keys.last().map(|stored| stored.key.id);
                    return Ok(page);
                }
                Ok(stored) => page.keys.push(stored),
            }
        }
        if read < at_once as usize {
            return Ok(page);
        }
    }
}

pub(super) async fn active(
    connection: &Connection,
    after: Option<KeyHash>,
    limit: usize,
) -> Result<ActivePage> {
    let client = connection.current().await?;
    let wanted = u32::try_from(limit).unwrap_or(u32::MAX).saturating_add(1);
    // By their names, which are the hashes: that takes no index of its own.
    let query = all(&client, connection)
        .filter(|of| of.field(document::IS_ACTIVE).eq(true))
        .order(|by| by.fields([by.field("__name__").asc()]))
        .limit(wanted);
    let query = match after {
        Some(hash) => {
            let path = path(&client, connection.collection(), &hash.to_string());
            let name = FirestoreValue::from(document::reference(path));
            query.start_at(FirestoreQueryCursor::AfterValue(vec![name]))
        }
        None => query,
    };
    let mut documents = query
        .query()
        .await
        .map_err(|error| unavailable(connection, &error))?;
    let more = documents.len() > limit;
    documents.truncate(limit);
    let last = documents.last().filter(|_| more);
    let next = last.and_then(|last| document::name(last).parse().ok());
    let readable = documents.iter().map(document::stored_key);
    Ok(ActivePage {
        keys: readable.filter_map(std::result::Result::ok).collect(),
        next,
    })
}

fn has_name(stored: &StoredKey, part: Option<&str>) -> bool {
    part.is_none_or(|part| stored.key.name.as_str().to_lowercase().contains(part))
}

/// In the order of the ids. With `active`, tombstones stay out: they have no
/// such field.
fn by_id<'a>(
    client: &'a FirestoreDb,
    connection: &Connection,
    active: Option<bool>,
    after: Option<FirestoreValue>,
) -> FirestoreSelectDocBuilder<'a, FirestoreDb> {
    let query = all(client, connection)
        .filter(|of| of.field(document::IS_ACTIVE).eq(active?))
        .order(|by| by.fields([by.field(document::ID).asc()]));
    match after {
        Some(id) => query.start_at(FirestoreQueryCursor::AfterValue(vec![id])),
        None => query,
    }
}

pub(super) fn all<'a>(
    client: &'a FirestoreDb,
    connection: &Connection,
) -> FirestoreSelectDocBuilder<'a, FirestoreDb> {
    client.fluent().select().from(connection.collection())
}

pub(super) fn path(client: &FirestoreDb, collection: &str, name: &str) -> String {
    format!("{}/{collection}/{name}", client.get_documents_path())
}
