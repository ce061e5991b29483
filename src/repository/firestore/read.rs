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
use crate::repository::{
    ActivePage, At, Filter, Found, Located, Page, RepositoryError, Result, StoredKey,
};
use crate::token::KeyHash;

/// Documents read at once, and so the most that are in memory beside the page
/// itself. Few would make a listing that finds little take many round trips.
const AT_ONCE: u32 = 300;

/// More copies of one record than an accident leaves; each may be a megabyte.
const MOST_WITH_ONE_ID: u32 = 100;

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

pub(super) async fn locate(connection: &Connection, at: At) -> Result<Vec<Located>> {
    let client = connection.current().await?;
    let documents = match at {
        At::Id(id) => with_id(&client, connection, id, MOST_WITH_ONE_ID + 1).await,
        At::Hash(hash) => get(&client, connection.collection(), &hash.to_string())
            .await
            .map(Vec::from_iter),
    };
    let documents = documents.map_err(|error| unavailable(connection, &error))?;
    if documents.len() > MOST_WITH_ONE_ID as usize {
        return Err(RepositoryError::Damaged(format!(
            "more than {MOST_WITH_ONE_ID} documents have this id: somebody can write to the \
             store; take the record that is meant by the name of its document"
        )));
    }
    let records = documents
        .iter()
        .filter(|document| !document::is_tombstone(document));
    Ok(records.filter_map(document::located).collect())
}

/// Whatever has this id: one document, unless somebody copied one by hand.
pub(super) async fn with_id(
    client: &FirestoreDb,
    connection: &Connection,
    id: Uuid,
    limit: u32,
) -> FirestoreResult<Vec<Document>> {
    let id = id.to_string();
    all(client, connection)
        .filter(|of| of.field(document::ID).eq(&id))
        .limit(limit)
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
    let mut listing = Listing::of(limit);
    let mut cursor = after.map(|id| vec![id.to_string().into()]);
    loop {
        let query = by_id(&client, connection, filter.active, cursor);
        let documents = query
            .limit(at_once)
            .query()
            .await
            .map_err(|error| unavailable(connection, &error))?;
        let records = documents
            .iter()
            .filter(|found| !document::is_tombstone(found));
        for found in records {
            match document::stored_key(found) {
                Err(damage) => listing.damaged(found, damage),
                Ok(stored) if !has_name(&stored, name.as_deref()) => {}
                Ok(stored) => {
                    if !listing.takes(stored) {
                        return Ok(listing.page);
                    }
                }
            }
        }
        if documents.len() < at_once as usize {
            return Ok(listing.end());
        }
        // The id alone would pass over others with the same one.
        cursor = documents.last().and_then(|last| {
            let id = last.fields.get(document::ID)?.clone();
            Some(vec![
                FirestoreValue::from(id),
                FirestoreValue::from(document::reference(last.name.clone())),
            ])
        });
    }
}

/// A page under way. It ends between two ids, so that the next one begins after
/// all that have the last: one record, unless there are copies.
struct Listing {
    limit: usize,
    page: Page,
    /// Damaged records after the last key; on the next page if that begins here.
    pending: Vec<String>,
}

impl Listing {
    const fn of(limit: usize) -> Self {
        Self {
            limit,
            page: Page {
                keys: Vec::new(),
                damaged: Vec::new(),
                next: None,
            },
            pending: Vec::new(),
        }
    }

    /// Adds a key; false, when it belongs on the next page, and this one is whole.
    fn takes(&mut self, stored: StoredKey) -> bool {
        let last = self.page.keys.last().map(|last| last.key.id);
        if self.page.keys.len() >= self.limit && last != Some(stored.key.id) {
            self.page.next = last;
            return false;
        }
        self.page.damaged.append(&mut self.pending);
        self.page.keys.push(stored);
        true
    }

    fn damaged(&mut self, found: &Document, damage: String) {
        let last = self.page.keys.last().map(|last| last.key.id.to_string());
        if last.is_some_and(|id| document::has_id(found, &id)) {
            self.page.damaged.push(damage);
        } else {
            self.pending.push(damage);
        }
    }

    fn end(mut self) -> Page {
        self.page.damaged.append(&mut self.pending);
        self.page
    }
}

pub(super) async fn active(
    connection: &Connection,
    after: Option<KeyHash>,
    limit: usize,
) -> Result<ActivePage> {
    let client = connection.current().await?;
    let wanted = u32::try_from(limit).unwrap_or(u32::MAX).saturating_add(1);
    let mut page = ActivePage::default();
    let mut after = after.map(|hash| path(&client, connection.collection(), &hash.to_string()));
    loop {
        let mut documents = by_name(&client, connection, after)
            .limit(wanted)
            .query()
            .await
            .map_err(|error| unavailable(connection, &error))?;
        let more = documents.len() > limit;
        documents.truncate(limit);
        let readable = documents.iter().map(document::stored_key);
        page.keys
            .extend(readable.filter_map(std::result::Result::ok));
        let mut names = documents.iter().rev().map(document::name);
        page.next = names.find_map(|name| name.parse().ok()).filter(|_| more);
        if !more || page.next.is_some() {
            return Ok(page);
        }
        // None of them has a hash for its name: no page ends there.
        after = documents.pop().map(|last| last.name);
    }
}

/// Those that are active, by their names, which are the hashes: that takes no
/// index of its own.
fn by_name<'a>(
    client: &'a FirestoreDb,
    connection: &Connection,
    after: Option<String>,
) -> FirestoreSelectDocBuilder<'a, FirestoreDb> {
    let query = all(client, connection)
        .filter(|of| of.field(document::IS_ACTIVE).eq(true))
        .order(|by| by.fields([by.field("__name__").asc()]));
    match after {
        Some(path) => {
            let name = FirestoreValue::from(document::reference(path));
            query.start_at(FirestoreQueryCursor::AfterValue(vec![name]))
        }
        None => query,
    }
}

fn has_name(stored: &StoredKey, part: Option<&str>) -> bool {
    part.is_none_or(|part| stored.key.name.as_str().to_lowercase().contains(part))
}

/// In the order of the ids, and of the names where those are the same. With `active`, tombstones stay out: they have no
/// such field.
fn by_id<'a>(
    client: &'a FirestoreDb,
    connection: &Connection,
    active: Option<bool>,
    after: Option<Vec<FirestoreValue>>,
) -> FirestoreSelectDocBuilder<'a, FirestoreDb> {
    let query = all(client, connection)
        .filter(|of| of.field(document::IS_ACTIVE).eq(active?))
        .order(|by| by.fields([by.field(document::ID).asc(), by.field("__name__").asc()]));
    match after {
        Some(after) => query.start_at(FirestoreQueryCursor::AfterValue(after)),
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
