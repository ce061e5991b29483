//! The embedded store: one SQLite file, shared by every process of a machine.
//!
//! `schema.sql` is its layout. Statements run on threads of the store's own,
//! reads apart from writes, so that a read never waits for another process's
//! write. A record that cannot be read is [`RepositoryError::Damaged`] when it
//! is asked for, and named in a listing beside the good ones.

mod feed;
mod file;
mod reducer;
mod row;
mod schema;
mod statements;
mod thread;

pub use schema::OpenError;

use std::path::Path;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::BoxStream;
use uuid::Uuid;

use self::file::{File, Place};
use self::thread::Thread;
use super::{ApiKeyRepository, Change, Filter, Found, Page, Result, StoredKey};
use crate::clock::Clock;
use crate::key::ApiKey;
use crate::token::KeyHash;

/// The store in one SQLite file.
#[derive(Debug)]
pub struct EmbeddedApiKeyRepository {
    place: Place,
    clock: Clock,
    reads: Thread,
    writes: Thread,
}

impl EmbeddedApiKeyRepository {
    /// Opens the file, or makes a new one in a directory that exists. Blocks.
    ///
    /// `clock` sets `updated_at` and the times of deletions.
    pub fn open(path: &Path, clock: Clock) -> std::result::Result<Self, OpenError> {
        let mut connection = schema::open_or_create(path)?;
        match statements::purge_tombstones(&mut connection, clock.wall()) {
            Ok(0) => {}
            Ok(purged) => tracing::info!(purged, "old deletions were forgotten"),
            // Housekeeping: the next opening tries again.
            Err(error) => tracing::warn!(%error, "old deletions cannot be forgotten"),
        }
        let place = Place::of(path).map_err(|source| OpenError::Create {
            path: path.to_owned(),
            source,
        })?;
        let thread = |name| Thread::spawn(name, File::at(place.clone())).map_err(OpenError::Thread);
        Ok(Self {
            clock,
            reads: thread("keys-read")?,
            writes: thread("keys-write")?,
            place,
        })
    }
}

impl ApiKeyRepository for EmbeddedApiKeyRepository {
    fn find<'a>(&'a self, hash: &'a KeyHash) -> BoxFuture<'a, Result<Found>> {
        let hash = *hash;
        self.reads
            .run(move |connection| statements::find(connection, &hash))
            .boxed()
    }

    fn find_by_id(&self, id: Uuid) -> BoxFuture<'_, Result<Option<StoredKey>>> {
        self.reads
            .run(move |connection| statements::find_by_id(connection, id))
            .boxed()
    }

    fn list<'a>(
        &'a self,
        filter: &'a Filter,
        after: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page>> {
        let filter = filter.clone();
        self.reads
            .run(move |connection| statements::list(connection, &filter, after, limit))
            .boxed()
    }

    fn create<'a>(&'a self, key: &'a ApiKey, sealed: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        let (key, sealed, now) = (key.clone(), sealed.to_owned(), self.clock.wall());
        self.writes
            .run(move |connection| statements::create(connection, &key, &sealed, now))
            .boxed()
    }

    fn update<'a>(
        &'a self,
        key: &'a ApiKey,
        sealed: &'a [u8],
        expected: u64,
    ) -> BoxFuture<'a, Result<()>> {
        let (key, sealed, now) = (key.clone(), sealed.to_owned(), self.clock.wall());
        self.writes
            .run(move |connection| statements::update(connection, &key, &sealed, expected, now))
            .boxed()
    }

    fn delete<'a>(&'a self, hash: &'a KeyHash, expected: u64) -> BoxFuture<'a, Result<()>> {
        let (hash, now) = (*hash, self.clock.wall());
        self.writes
            .run(move |connection| statements::delete(connection, &hash, expected, now))
            .boxed()
    }

    fn keyring(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>>> {
        self.reads
            .run(|connection| statements::keyring(connection))
            .boxed()
    }

    fn put_keyring<'a>(
        &'a self,
        document: &'a [u8],
        replaces: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<()>> {
        let document = document.to_owned();
        let replaces = replaces.map(<[u8]>::to_owned);
        self.writes
            .run(move |connection| {
                statements::put_keyring(connection, &document, replaces.as_deref())
            })
            .boxed()
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        feed::follow(self.place.clone())
    }
}
