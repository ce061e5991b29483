//! What the layers share, over a store in memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use cypheron_edge::clock::{Clock, Timestamp};
use cypheron_edge::directory::{self, Directory};
use cypheron_edge::key::ApiKey;
use cypheron_edge::limiter::{self, Limiter};
use cypheron_edge::middleware::auth::Config;
use cypheron_edge::middleware::{ApiKeyAuthLayer, RateLimitLayer, RateLimitRefusalsLayer};
use cypheron_edge::repository::Change;
use cypheron_edge::token::TokenKeys;
use tokio::runtime::Handle;

use super::bench::settle;
use super::store::{Opener, Store};
use super::{key, mint, token_keys};

pub(crate) struct Edge {
    pub(crate) store: Store,
    opener: Arc<Opener>,
    pub(crate) clock: Clock,
    pub(crate) keys: Arc<ArcSwap<TokenKeys>>,
    pub(crate) directory: Directory,
    pub(crate) limiter: Arc<Limiter>,
}

impl Edge {
    /// Reads run on the current runtime.
    pub(crate) fn new() -> Self {
        let (store, opener) = (Store::new(), Arc::new(Opener::default()));
        let clock = Clock::manual(Timestamp::from_micros(1_000_000));
        clock.advance(Duration::from_secs(1));
        Self {
            directory: Directory::new(
                directory::Config::default(),
                clock.clone(),
                Arc::new(store.clone()),
                Arc::clone(&opener) as _,
                Handle::current(),
            ),
            limiter: Arc::new(Limiter::new(limiter::Config::default())),
            keys: Arc::new(ArcSwap::from_pointee(token_keys())),
            store,
            opener,
            clock,
        }
    }

    /// Follows the feed, which is healthy from here on.
    pub(crate) async fn connect(&self) {
        let directory = self.directory.clone();
        tokio::spawn(async move { directory.follow().await });
        self.store.tell(Change::Connected);
        settle().await;
        assert_ne!(self.opener.reloads.swap(0, Ordering::SeqCst), 0);
    }

    /// How often the keyring was loaded again, but for the feed's beginning.
    pub(crate) fn reloads(&self) -> u64 {
        self.opener.reloads.load(Ordering::SeqCst)
    }

    /// Nobody is braked: time stands still, and nothing that failed is forgotten.
    pub(crate) fn auth(&self) -> ApiKeyAuthLayer {
        self.auth_braked_at(u32::MAX)
    }

    pub(crate) fn auth_braked_at(&self, failures_per_minute: u32) -> ApiKeyAuthLayer {
        ApiKeyAuthLayer::new(
            &Config {
                failures_per_minute,
                ..Config::default()
            },
            Arc::clone(&self.keys),
            self.directory.clone(),
            self.clock.clone(),
        )
        .unwrap()
    }

    pub(crate) fn limit(&self) -> RateLimitLayer {
        RateLimitLayer::new(Arc::clone(&self.limiter))
    }

    pub(crate) fn limit_refusals(&self) -> RateLimitRefusalsLayer {
        RateLimitRefusalsLayer::new(Arc::clone(&self.limiter), self.clock.clone())
    }

    /// The token of a new key in the store, which `change` was applied to.
    pub(crate) fn issue(&self, change: impl FnOnce(&mut ApiKey)) -> String {
        let (token, hash) = mint();
        let mut key = key(hash);
        change(&mut key);
        self.store.put(key, &token);
        token
    }
}
