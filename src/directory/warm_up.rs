//! Reading the active keys before they are asked for.
//!
//! Page by page and at a measured pace, on the background runtime. What is
//! written while a page is read is left out: it is read when it is used.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::{Directory, Entry, WarmUp};
use crate::clock::Tick;
use crate::repository::{ApiKeyReader, StoredKey};

/// Records read at once: bounds the memory that the pages take.
const PAGE: u32 = 100;

/// How long a process that waits for its keys waits for the feed, with which it
/// begins: a store that is down must not keep a fleet from starting.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Waiting,
    Reading,
    Over,
}

/// How far it is.
pub(super) struct Progress(watch::Sender<Stage>);

impl Progress {
    pub(super) fn new(warm_up: WarmUp) -> Self {
        Self(watch::Sender::new(match warm_up {
            WarmUp::Off => Stage::Over,
            WarmUp::Background | WarmUp::BeforeReady => Stage::Waiting,
        }))
    }

    /// Whether it begins with this call.
    fn begin(&self) -> bool {
        self.0.send_if_modified(|stage| {
            let begins = *stage == Stage::Waiting;
            if begins {
                *stage = Stage::Reading;
            }
            begins
        })
    }

    fn end(&self) {
        self.0.send_replace(Stage::Over);
    }
}

impl Directory {
    /// Returns once the process may say that it is ready: where it waits for its
    /// keys, when they are read, or cannot be.
    pub async fn warmed_up(&self) {
        if self.0.config.warm_up != WarmUp::BeforeReady {
            return;
        }
        let mut stage = self.0.warm_up.0.subscribe();
        let begun = stage.wait_for(|stage| *stage != Stage::Waiting);
        if timeout(PATIENCE, begun).await.is_err() {
            tracing::warn!("the key store's feed is not connected: keys are read as they are used");
            return;
        }
        // The sender is ours, and there for as long as we are.
        let _ = stage.wait_for(|stage| *stage == Stage::Over).await;
    }

    /// The feed is connected: what is read from here on stays fresh.
    pub(super) fn begin_warm_up(&self) {
        if self.0.warm_up.begin() {
            let directory = self.clone();
            self.0.background.spawn(async move {
                directory.warm_up().await;
                directory.0.warm_up.end();
            });
        }
    }

    async fn warm_up(&self) {
        let began = self.0.clock.tick();
        let mut keys = 0;
        let mut after = None;
        loop {
            let page_began = self.0.clock.tick();
            let noting = self.0.flights.note_writes();
            let page = match self.0.store.active(after, PAGE as usize).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::warn!(%error, keys, "the other keys are read as they are used");
                    return;
                }
            };
            for record in page.keys {
                if self.keep(record, page_began) {
                    keys += 1;
                }
                // Reads and revocations are not to wait for a page of envelopes.
                tokio::task::yield_now().await;
            }
            drop(noting);
            after = page.next;
            if after.is_none() || keys >= self.0.config.max_keys {
                break;
            }
            let spent = self.0.clock.tick().since(page_began);
            let whole = Duration::from_secs(1) * PAGE / self.0.config.warm_up_rate.get();
            sleep(whole.saturating_sub(spent)).await;
        }
        let took = self.0.clock.tick().since(began);
        tracing::info!(keys, ?took, "active keys are cached");
    }

    /// Caches a record that nothing is known of. One that does not open is
    /// reported when it is used.
    fn keep(&self, record: StoredKey, read_at: Tick) -> bool {
        let Ok(digest) = self.0.opener.open(&record) else {
            return false;
        };
        let hash = record.key.key_hash;
        let turn = self.0.cache.turn(hash);
        let is_news = turn.known().is_none() && turn.absent().is_none();
        if !is_news || !record.key.is_active || self.0.flights.was_written(&hash) {
            return false;
        }
        turn.put(Arc::new(Entry::new(record.key, digest, read_at)));
        self.0.metrics.warmed.increment(1);
        true
    }
}
