//! The embedded store: one SQLite file, shared by every process of a machine.
//!
//! `schema.sql` is its layout. Statements run on threads of the store's own,
//! reads apart from writes, so that a read never waits for another process's
//! write. A record that cannot be read is
//! [damaged](super::RepositoryError::Damaged) when it is asked for, and named in
//! a listing beside the good ones.

mod feed;
mod file;
mod reducer;
mod row;
mod schema;
mod statements;
mod thread;

pub use schema::OpenError;

use std::fmt;
use std::path::Path;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::BoxStream;
use metrics::Histogram;
use uuid::Uuid;

use self::file::{File, Place};
use self::thread::Thread;
use super::{ApiKeyRepository, Change, Filter, Found, Page, Result, StoredKey};
use crate::clock::Clock;
use crate::key::ApiKey;
use crate::telemetry::metric;
use crate::token::KeyHash;

/// The store in one SQLite file.
pub struct EmbeddedApiKeyRepository {
    place: Place,
    clock: Clock,
    reads: Thread,
    writes: Thread,
    read_seconds: Histogram,
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
            read_seconds: metrics::histogram!(metric::STORE_READ_SECONDS),
            place,
        })
    }
}

impl fmt::Debug for EmbeddedApiKeyRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("EmbeddedApiKeyRepository")
            .field(&self.place)
            .finish()
    }
}

impl ApiKeyRepository for EmbeddedApiKeyRepository {
    fn find<'a>(&'a self, hash: &'a KeyHash) -> BoxFuture<'a, Result<Found>> {
        let hash = *hash;
        async move {
            let began = self.clock.tick();
            let found = self
                .reads
                .run(move |connection| statements::find(connection, &hash))
                .await;
            self.read_seconds.record(self.clock.tick().since(began));
            found
        }
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
