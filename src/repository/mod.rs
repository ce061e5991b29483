//! Where records live: the traits, and their implementations.
//!
//! An edge only reads: [`ApiKeyReader`]. Policy is written by operators'
//! commands through an [`ApiKeyRepository`], each write with the revision it
//! expects, so that two of them cannot overwrite each other silently. A deleted record leaves a tombstone, so that its absence can
//! be told from a gap in the feed.

mod config;
#[cfg(feature = "embedded")]
pub mod embedded;
#[cfg(feature = "firestore")]
pub mod firestore;
pub mod guarded;

pub use config::{Config, FirestoreConfig, StoreKind};

use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use uuid::Uuid;

use crate::clock::Timestamp;
use crate::key::ApiKey;
use crate::token::KeyHash;

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredKey {
    pub key: ApiKey,
    /// The envelope.
    pub sealed: Vec<u8>,
    /// Set by the store, never by a client's clock.
    pub updated_at: Timestamp,
}

/// What a store answers about one hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    Key(Box<StoredKey>),
    /// Deleted, with the revision of the deletion.
    Tombstone {
        revision: u64,
    },
    Absent,
}

/// Where a record is looked for that access is to be taken from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    Id(Uuid),
    Hash(KeyHash),
}

/// A record that is there, whatever its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub hash: KeyHash,
    /// Zero when it cannot be read.
    pub revision: u64,
    /// When it cannot be read: its id and the field.
    pub record: std::result::Result<StoredKey, String>,
}

/// Why a store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RepositoryError {
    /// Down or slow; the text is for operators.
    #[error("the key store is unavailable: {0}")]
    Unavailable(String),
    /// It answers, and will not do it: a permission that is missing, a database
    /// that is not there, a quota that is used up. Asking again at once does not
    /// help; the text is for operators.
    #[error("the key store refuses: {0}")]
    Refused(String),
    /// What is stored is not a record; the text names the field.
    #[error("the key store holds a damaged record: {0}")]
    Damaged(String),
    #[error("a record with this hash or id exists already")]
    Exists,
    #[error("there is no such record")]
    NotFound,
    /// With the same revision twice: it was changed by hand, or without end.
    #[error("the record was changed meanwhile: expected revision {expected}, found {found}")]
    Conflict { expected: u64, found: u64 },
    #[error("the keyring was changed meanwhile")]
    KeyringChanged,
}

/// What a key was used for, as the usage ledger has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyUsage {
    pub key_hash: KeyHash,
    pub usage_count: u64,
    pub last_used: Timestamp,
}

/// Which records a listing holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// A part of the name, in any case.
    pub name: Option<String>,
    pub active: Option<bool>,
}

/// One page of a listing, ordered by `id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub keys: Vec<StoredKey>,
    /// Records between them that cannot be read, each with its id and the
    /// field. They do not stand in the way of the others.
    pub damaged: Vec<String>,
    /// Where the next page begins, when there is one.
    pub next: Option<Uuid>,
}

/// One page of the keys that are active, in the order of their hashes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ActivePage {
    pub keys: Vec<StoredKey>,
    /// Where the next page begins, when there is one.
    pub next: Option<KeyHash>,
}

/// What a feed tells a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// From here on the feed has no gap.
    Connected,
    /// From here on changes may be missed, until the next `Connected`.
    Cut,
    /// A record was written, and has this revision now: what is cached of it
    /// is to be read again. The revision may be the known one, when the record
    /// was sealed again or edited by hand. `live` is false for an inactive or
    /// deleted one: a revocation, whatever the revision.
    Record {
        hash: KeyHash,
        revision: u64,
        live: bool,
    },
    /// The keyring was replaced, and is to be loaded again.
    Keyring,
}

pub type Result<T> = std::result::Result<T, RepositoryError>;

/// What an edge reads, and all that a store of your own has to be for the
/// layers. Boxed futures: nothing here is on the admitted path.
pub trait ApiKeyReader: Send + Sync + 'static {
    fn find<'a>(&'a self, hash: &'a KeyHash) -> BoxFuture<'a, Result<Found>>;

    /// The stored keyring document, when there is one.
    fn keyring(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>>>;

    /// At most `limit` active records, from `after` on (exclusive), in the order
    /// of their hashes; those that cannot be read are left out. For an edge that
    /// wants its keys before they are asked for: a store that has no such list
    /// need not make one.
    fn active(&self, after: Option<KeyHash>, limit: usize) -> BoxFuture<'_, Result<ActivePage>> {
        let _ = (after, limit);
        Box::pin(std::future::ready(Ok(ActivePage::default())))
    }

    /// What changes from now on. Begins with `Connected` once nothing can be
    /// missed any more; never ends by itself.
    fn changes(&self) -> BoxStream<'static, Change>;
}

/// Where records live: what operators' commands read and write besides.
pub trait ApiKeyRepository: ApiKeyReader {
    /// Every record that is there, also one that cannot be read; no tombstones.
    /// An id is one record's only, unless somebody wrote to the store by hand.
    fn locate(&self, at: At) -> BoxFuture<'_, Result<Vec<Located>>>;

    /// The only record with this id that can be read. Of several none is taken
    /// for the right one: that fails as [`RepositoryError::Damaged`].
    fn find_by_id(&self, id: Uuid) -> BoxFuture<'_, Result<Option<StoredKey>>> {
        Box::pin(async move { the_only(id, self.locate(At::Id(id)).await?) })
    }

    /// At most `limit` records, and whatever else has the id of the last one, from
    /// `after` on (exclusive). Without tombstones.
    fn list<'a>(
        &'a self,
        filter: &'a Filter,
        after: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page>>;

    /// Stores a new record. A hash that was deleted stays taken for as long as
    /// its tombstone is kept.
    fn create<'a>(&'a self, key: &'a ApiKey, sealed: &'a [u8]) -> BoxFuture<'a, Result<()>>;

    /// Replaces policy and envelope of the record with `key.key_hash`, when its
    /// policy still is that of `replaces`: not even an edit by hand, which leaves
    /// the revision as it was, is undone unseen. A policy write has `key.revision`
    /// one higher; one that only seals again keeps it. Bookkeeping is left alone.
    fn update<'a>(
        &'a self,
        key: &'a ApiKey,
        sealed: &'a [u8],
        replaces: &'a ApiKey,
    ) -> BoxFuture<'a, Result<()>>;

    /// Sets `is_active` to false and the revision from `expected` to `revision`, of a
    /// record that cannot be read or opened as well: nothing else of it is looked
    /// at. A revision that cannot be read counts as 0, and stays.
    fn deactivate<'a>(
        &'a self,
        hash: &'a KeyHash,
        expected: u64,
        revision: u64,
    ) -> BoxFuture<'a, Result<()>>;

    /// Leaves a tombstone with revision `expected + 1`. Of the record only the
    /// revision is looked at; one that cannot be read counts as 0.
    fn delete<'a>(&'a self, hash: &'a KeyHash, expected: u64) -> BoxFuture<'a, Result<()>>;

    /// Sets `usage_count` and `last_used` of records, and nothing else: no feed
    /// tells of it. Says how many there were; those that are not there, or were
    /// deleted, are passed over. What an error leaves behind may be some of them.
    fn record_usage<'a>(&'a self, usages: &'a [KeyUsage]) -> BoxFuture<'a, Result<usize>>;

    /// Stores a keyring: a new one when `replaces` is `None` (fails with
    /// [`RepositoryError::Exists`] otherwise), else in the place of exactly the
    /// document `replaces` (fails with [`RepositoryError::KeyringChanged`]).
    fn put_keyring<'a>(
        &'a self,
        document: &'a [u8],
        replaces: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<()>>;
}

fn the_only(id: Uuid, located: Vec<Located>) -> Result<Option<StoredKey>> {
    let mut readable = Vec::new();
    let mut places = Vec::new();
    let mut damage = None;
    for found in located {
        match found.record {
            Ok(stored) => {
                places.push(shortened(&found.hash));
                readable.push(stored);
            }
            Err(what) => damage = damage.or(Some(what)),
        }
    }
    match (readable.pop(), damage) {
        (Some(_), _) if !readable.is_empty() => Err(RepositoryError::Damaged(format!(
            "{id} is the id of more than one record, those at {}: at most one of them is genuine, \
             and whoever wrote the others can write to the store; revoked or deleted by this id, \
             all of them are",
            places.join(", ")
        ))),
        (Some(stored), _) => Ok(Some(stored)),
        (None, Some(damage)) => Err(RepositoryError::Damaged(damage)),
        (None, None) => Ok(None),
    }
}

/// As much of a hash as tells its record apart.
fn shortened(hash: &KeyHash) -> String {
    let mut text = hash.to_string();
    text.truncate(8);
    text + "..."
}
