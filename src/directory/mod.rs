//! The in-memory cache in front of a repository: what a request asks.
//!
//! | what is cached | while the feed is healthy | while it is cut |
//! | --- | --- | --- |
//! | fresh: serves | up to `max_age`, jittered | up to `ttl` |
//! | ageing: serves, and is read again in the background | the last part of `max_age` | up to twice `ttl` |
//! | stale: is read first, and serves when the store fails | beyond `max_age` | up to `max_stale` |
//! | expired: does not serve unread | - | beyond `max_stale` |
//!
//! Ages count from when the store last confirmed a record: its own read, or a
//! feed without a gap since. What is known *not* to be a usable key is cached
//! apart, bounded, and only as long as it is fresh.
//!
//! Hits take no lock and allocate nothing. Everything that reads a store or
//! opens an envelope runs on the background runtime; see [`Directory::fetch`].

mod cache;
mod config;
mod entry;
mod feed;
mod fetch;
mod first_level;
mod flights;
mod follow;
mod generation;
mod opener;
mod place;
mod warm_up;
mod watch;

pub use config::{Config, WarmUp};
pub use entry::Entry;
pub use opener::{Loaded, OpenFailure, RecordOpener, Reload, SealedRecords};

use std::fmt;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::clock::{Clock, Now};
use crate::refusal::Refusal;
use crate::repository::ApiKeyReader;
use crate::repository::guarded::Guarded;
use crate::token::KeyHash;
use cache::Cache;
use feed::Feed;
use fetch::Metrics;
use first_level::FirstLevel;
use flights::Flights;
use generation::Looks;
use warm_up::Progress;

/// What the directory knows of a hash, without waiting.
#[derive(Clone, Debug)]
pub enum Lookup {
    /// The record may be judged.
    Hit(Arc<Entry>),
    /// There is no usable key.
    Refused(Refusal),
    /// The store has to be asked.
    Miss,
}

/// The keys that this process knows. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Directory(Arc<Shared>);

struct Shared {
    config: Config,
    first_level: FirstLevel,
    clock: Clock,
    background: Handle,
    store: Guarded,
    opener: Arc<dyn RecordOpener>,
    cache: Cache,
    feed: Feed,
    flights: Flights,
    reads: Semaphore,
    looks: Looks,
    warm_up: Progress,
    metrics: Metrics,
}

impl Directory {
    /// Reads run on `background`, which must not be a worker's runtime.
    pub fn new(
        config: Config,
        clock: Clock,
        repository: Arc<dyn ApiKeyReader>,
        opener: Arc<dyn RecordOpener>,
        background: Handle,
    ) -> Self {
        Self(Arc::new(Shared {
            first_level: FirstLevel::new(config.max_keys),
            cache: Cache::new(config.max_keys, config.max_absent),
            feed: Feed::new(&config),
            flights: Flights::new(config.max_waiting, config.max_waiting_per_address),
            reads: Semaphore::new(config.max_reads),
            looks: Looks::default(),
            warm_up: Progress::new(config.warm_up),
            metrics: Metrics::new(),
            store: Guarded::new(
                repository,
                config.bounds(),
                clock.clone(),
                background.clone(),
            ),
            config,
            clock,
            background,
            opener,
        }))
    }

    /// Whether the repository tells of every change at the moment.
    pub fn is_connected(&self) -> bool {
        self.0.feed.is_connected()
    }

    /// Whether the store is left alone at the moment, because it failed.
    pub fn is_store_failing(&self) -> bool {
        self.0.store.is_failing()
    }

    /// What is known of `hash`. Never waits; an ageing record is read again in
    /// the background.
    pub fn lookup(&self, hash: &KeyHash, now: Now) -> Lookup {
        self.at_hand(hash, now)
            .unwrap_or_else(|| self.shared(hash, now))
    }

    /// What this thread itself knows of `hash`.
    pub(crate) fn at_hand(&self, hash: &KeyHash, now: Now) -> Option<Lookup> {
        let entry = self.0.first_level.get(hash, now.tick)?;
        Some(self.judge(entry, now))
    }

    /// What is known of `hash` that is not [at hand](Self::at_hand).
    pub(crate) fn shared(&self, hash: &KeyHash, now: Now) -> Lookup {
        if let Some(entry) = self.0.cache.known(hash) {
            let gone = self.0.cache.gone();
            self.0.first_level.put(&entry, now.tick, gone);
            return self.judge(entry, now);
        }
        match self.0.cache.absent(hash) {
            Some(absent) if self.0.feed.is_fresh(absent.read_at, now.tick) => {
                absent.refusal.map_or(Lookup::Miss, Lookup::Refused)
            }
            _ => Lookup::Miss,
        }
    }
}

impl fmt::Debug for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Directory")
            .field("config", &self.0.config)
            .finish_non_exhaustive()
    }
}
