//! The embedded store: one SQLite file, shared by every process of a machine.
//!
//! `db/sqlite/0001_keys.sql` is its layout. Statements run on threads of the store's own,
//! reads apart from writes, so that a read never waits for another process's
//! write. A record that cannot be read is
//! [damaged](super::RepositoryError::Damaged) when it is asked for, and named in
//! a listing beside the good ones.

mod feed;
mod file;
mod pulse;
mod reducer;
mod row;
mod statements;

use std::fmt;
use std::path::Path;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::BoxStream;
use metrics::Histogram;
use rusqlite::Connection;
use uuid::Uuid;

use self::file::{File, Place};
use super::{
    ActivePage, ApiKeyReader, ApiKeyRepository, At, Change, Filter, Found, KeyUsage, Located, Page,
    RepositoryError, Result,
};
use crate::clock::Clock;
use crate::key::ApiKey;
use crate::sqlite::{OpenError, Schema, Thread};
use crate::telemetry::metric;
use crate::token::KeyHash;

const SCHEMA: Schema = Schema {
    name: "key store",
    // "CYKE"
    application: 0x4359_4b45,
    migrations: &[include_str!("../../../db/sqlite/0001_keys.sql")],
};

/// The store in one SQLite file.
pub struct EmbeddedApiKeyRepository {
    place: Place,
    clock: Clock,
    reads: Thread<File>,
    writes: Thread<File>,
    read_seconds: Histogram,
}

impl EmbeddedApiKeyRepository {
    /// Opens the file, or makes a new one in a directory that exists. Blocks.
    ///
    /// `clock` sets `updated_at` and the times of deletions.
    pub fn open(path: &Path, clock: Clock) -> std::result::Result<Self, OpenError> {
        let mut connection = SCHEMA.open_or_create(path)?;
        match statements::purge_tombstones(&mut connection, clock.wall()) {
            Ok(0) => {}
            Ok(purged) => tracing::info!(purged, "old deletions were forgotten"),
            // Housekeeping: the next opening tries again.
            Err(error) => tracing::warn!(%error, "old deletions cannot be forgotten"),
        }
        let place = Place::of(path).map_err(|source| OpenError::Create {
            name: SCHEMA.name,
            path: path.to_owned(),
            source,
        })?;
        Ok(Self {
            clock,
            reads: SCHEMA.spawn("keys-read", File::at(place.clone()))?,
            writes: SCHEMA.spawn("keys-write", File::at(place.clone()))?,
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

impl ApiKeyReader for EmbeddedApiKeyRepository {
    fn find<'a>(&'a self, hash: &'a KeyHash) -> BoxFuture<'a, Result<Found>> {
        let hash = *hash;
        async move {
            let began = self.clock.tick();
            let find = move |connection: &mut _| statements::find(connection, &hash);
            let found = run(&self.reads, find).await;
            self.read_seconds.record(self.clock.tick().since(began));
            found
        }
        .boxed()
    }

    fn keyring(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>>> {
        run(&self.reads, |connection| statements::keyring(connection)).boxed()
    }

    fn active(&self, after: Option<KeyHash>, limit: usize) -> BoxFuture<'_, Result<ActivePage>> {
        run(&self.reads, move |connection| {
            statements::active(connection, after, limit)
        })
        .boxed()
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        feed::follow(self.place.clone())
    }
}

impl ApiKeyRepository for EmbeddedApiKeyRepository {
    fn locate(&self, at: At) -> BoxFuture<'_, Result<Vec<Located>>> {
        run(&self.reads, move |connection| {
            statements::locate(connection, at)
        })
        .boxed()
    }

    fn list<'a>(
        &'a self,
        filter: &'a Filter,
        after: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page>> {
        let filter = filter.clone();
        run(&self.reads, move |connection| {
            statements::list(connection, &filter, after, limit)
        })
        .boxed()
    }

    fn create<'a>(&'a self, key: &'a ApiKey, sealed: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        let (key, sealed, now) = (key.clone(), sealed.to_owned(), self.clock.wall());
        run(&self.writes, move |connection| {
            statements::create(connection, &key, &sealed, now)
        })
        .boxed()
    }

    fn update<'a>(
        &'a self,
        key: &'a ApiKey,
        sealed: &'a [u8],
        replaces: &'a ApiKey,
    ) -> BoxFuture<'a, Result<()>> {
        let (key, sealed, now) = (key.clone(), sealed.to_owned(), self.clock.wall());
        let replaces = replaces.clone();
        run(&self.writes, move |connection| {
            statements::update(connection, &key, &sealed, &replaces, now)
        })
        .boxed()
    }

    fn deactivate<'a>(
        &'a self,
        hash: &'a KeyHash,
        expected: u64,
        revision: u64,
    ) -> BoxFuture<'a, Result<()>> {
        let (hash, now) = (*hash, self.clock.wall());
        run(&self.writes, move |connection| {
            statements::deactivate(connection, &hash, expected, revision, now)
        })
        .boxed()
    }

    fn delete<'a>(&'a self, hash: &'a KeyHash, expected: u64) -> BoxFuture<'a, Result<()>> {
        let (hash, now) = (*hash, self.clock.wall());
        run(&self.writes, move |connection| {
            statements::delete(connection, &hash, expected, now)
        })
        .boxed()
    }

    fn record_usage<'a>(&'a self, usages: &'a [KeyUsage]) -> BoxFuture<'a, Result<usize>> {
        let usages = usages.to_owned();
        run(&self.writes, move |connection| {
            statements::record_usage(connection, &usages)
        })
        .boxed()
    }

    fn put_keyring<'a>(
        &'a self,
        document: &'a [u8],
        replaces: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<()>> {
        let document = document.to_owned();
        let replaces = replaces.map(<[u8]>::to_owned);
        run(&self.writes, move |connection| {
            statements::put_keyring(connection, &document, replaces.as_deref())
        })
        .boxed()
    }
}

async fn run<T: Send + 'static>(
    thread: &Thread<File>,
    job: impl FnOnce(&mut Connection) -> Result<T> + Send + 'static,
) -> Result<T> {
    thread
        .run(|file| file.connect().and_then(job))
        .await
        .unwrap_or_else(|ended| Err(RepositoryError::Unavailable(ended.to_string())))
}
