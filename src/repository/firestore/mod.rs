//! The Firestore store: one document for each record, `{collection}/{key_hash}`.
//!
//! [`document`] is the layout of a record, of the tombstone that a deletion
//! leaves in its place, and of the keyring. Every write is one commit that
//! Firestore does whole or not at all, and only while the document is the one
//! that was judged ([`write`]): of two operators one is told of the conflict.
//! `updated_at` is set by the server, so that the change feed goes by one clock.

mod connection;
mod credentials;
mod document;
mod error;
mod feed;
mod keyring;
mod read;
mod write;

pub use connection::Connection;
pub use credentials::{Bearer, Credentials, CredentialsError};

use std::fmt;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt};
use futures_util::stream::BoxStream;
use metrics::Histogram;
use uuid::Uuid;

use super::{
    ActivePage, ApiKeyReader, ApiKeyRepository, At, Change, Filter, FirestoreConfig, Found,
    KeyUsage, Located, Page, Result,
};
use crate::clock::Clock;
use crate::key::ApiKey;
use crate::telemetry::metric;
use crate::token::KeyHash;

/// What a deletion waits for the forgetting of old ones.
const TIDY_TIMEOUT: Duration = Duration::from_secs(2);

/// The store in one Firestore collection.
pub struct FirestoreApiKeyRepository {
    connection: Connection,
    clock: Clock,
    read_seconds: Histogram,
}

impl FirestoreApiKeyRepository {
    /// Connects when it is first asked something, in the runtime of whoever asks.
    /// Fails when there is a file of credentials that cannot be used.
    pub fn new(
        config: FirestoreConfig,
        clock: Clock,
    ) -> std::result::Result<Self, CredentialsError> {
        Ok(Self {
            connection: Connection::new(config, clock.clone())?,
            clock,
            read_seconds: metrics::histogram!(metric::STORE_READ_SECONDS),
        })
    }

    /// The connection, which its clones share.
    pub const fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Housekeeping, after what adds to it, and never in its way.
    async fn tidy(&self) {
        match tokio::time::timeout(TIDY_TIMEOUT, self.purge_tombstones()).await {
            Ok(Ok(0)) => {}
            Ok(Ok(purged)) => tracing::info!(purged, "old deletions were forgotten"),
            // The next deletion tries again.
            Ok(Err(error)) => tracing::debug!(%error, "old deletions cannot be forgotten"),
            Err(_) => tracing::debug!("old deletions are not forgotten in time"),
        }
    }

    /// Forgets deletions that no edge can have missed any more, at most a few
    /// hundred at a time, and says how many.
    pub async fn purge_tombstones(&self) -> Result<usize> {
        write::purge_tombstones(&self.connection, self.clock.wall()).await
    }
}

/// Whether the credentials that are named, if any are, can be used.
pub fn check_credentials(config: &FirestoreConfig) -> std::result::Result<(), CredentialsError> {
    Connection::new(config.clone(), Clock::system()).map(drop)
}

impl fmt::Debug for FirestoreApiKeyRepository {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FirestoreApiKeyRepository")
            .field(&self.connection)
            .finish()
    }
}

impl ApiKeyReader for FirestoreApiKeyRepository {
    fn find<'a>(&'a self, hash: &'a KeyHash) -> BoxFuture<'a, Result<Found>> {
        async {
            let began = self.clock.tick();
            let found = read::find(&self.connection, hash).await;
            self.read_seconds.record(self.clock.tick().since(began));
            found
        }
        .boxed()
    }

    fn keyring(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>>> {
        keyring::read(&self.connection).boxed()
    }

    fn active(&self, after: Option<KeyHash>, limit: usize) -> BoxFuture<'_, Result<ActivePage>> {
        read::active(&self.connection, after, limit).boxed()
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        feed::follow(self.connection.clone(), self.clock.clone())
    }
}

impl ApiKeyRepository for FirestoreApiKeyRepository {
    fn locate(&self, at: At) -> BoxFuture<'_, Result<Vec<Located>>> {
        read::locate(&self.connection, at).boxed()
    }

    fn list<'a>(
        &'a self,
        filter: &'a Filter,
        after: Option<Uuid>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Page>> {
        read::list(&self.connection, filter, after, limit).boxed()
    }

    fn create<'a>(&'a self, key: &'a ApiKey, sealed: &'a [u8]) -> BoxFuture<'a, Result<()>> {
        write::create(&self.connection, key, sealed).boxed()
    }

    fn update<'a>(
        &'a self,
        key: &'a ApiKey,
        sealed: &'a [u8],
        replaces: &'a ApiKey,
    ) -> BoxFuture<'a, Result<()>> {
        write::update(&self.connection, key, sealed, replaces).boxed()
    }

    fn deactivate<'a>(
        &'a self,
        hash: &'a KeyHash,
        expected: u64,
        revision: u64,
    ) -> BoxFuture<'a, Result<()>> {
        write::deactivate(&self.connection, hash, expected, revision).boxed()
    }

    fn delete<'a>(&'a self, hash: &'a KeyHash, expected: u64) -> BoxFuture<'a, Result<()>> {
        async move {
            write::delete(&self.connection, hash, expected).await?;
            self.tidy().await;
            Ok(())
        }
        .boxed()
    }

    fn record_usage<'a>(&'a self, usages: &'a [KeyUsage]) -> BoxFuture<'a, Result<usize>> {
        write::record_usage(&self.connection, usages).boxed()
    }

    fn put_keyring<'a>(
        &'a self,
        document: &'a [u8],
        replaces: Option<&'a [u8]>,
    ) -> BoxFuture<'a, Result<()>> {
        keyring::put(&self.connection, document, replaces).boxed()
    }
}
