//! A store behind a guard, so that one that is slow or down costs one timeout,
//! not one for each request.
//!
//! A read that fails where that may pass is made once more, while somebody may
//! still be waiting. One that takes longer than a client's patience, or fails
//! all the same, makes the store count as failing: from then on reads fail at
//! once, and one probe at a time looks, at growing intervals, whether it
//! answers again. A read that came too late for its client still counts, as an
//! answer and as a sign of life.

mod breaker;
mod meters;
mod retry;

use std::fmt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};

use self::breaker::{Breaker, Opening};
use self::meters::Meters;
use super::{ActivePage, ApiKeyReader, Change, Found, RepositoryError, Result};
use crate::clock::{Clock, Tick};
use crate::token::KeyHash;

/// How long a store is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// A read that takes longer makes the store count as failing.
    pub patience: Duration,
    /// A read that takes longer is given up.
    pub deadline: Duration,
    /// Between two probes of a store that fails.
    pub max_backoff: Duration,
}

/// A guarded store. Cheap to clone; clones share everything.
#[derive(Clone)]
pub struct Guarded(Arc<Shared>);

struct Shared {
    store: Arc<dyn ApiKeyReader>,
    bounds: Bounds,
    clock: Clock,
    background: Handle,
    breaker: Mutex<Breaker>,
    /// As the breaker says, for those who only look.
    failing: AtomicBool,
    began_to_fail: Notify,
    meters: Meters,
}

impl Guarded {
    /// Probes run on `background`.
    pub fn new(
        store: Arc<dyn ApiKeyReader>,
        bounds: Bounds,
        clock: Clock,
        background: Handle,
    ) -> Self {
        Self(Arc::new(Shared {
            store,
            bounds,
            clock,
            background,
            breaker: Mutex::new(Breaker::new()),
            failing: AtomicBool::new(false),
            began_to_fail: Notify::new(),
            meters: Meters::new(),
        }))
    }

    /// Whether reads fail at once at the moment.
    pub fn is_failing(&self) -> bool {
        self.0.failing.load(Ordering::Relaxed)
    }

    /// Ends as soon as the store counts as failing.
    pub async fn failing(&self) {
        let mut began = std::pin::pin!(self.0.began_to_fail.notified());
        // From here on nothing is missed.
        began.as_mut().enable();
        if !self.is_failing() {
            began.await;
        }
    }

    async fn read(&self, hash: &KeyHash) -> Result<Found> {
        if self.is_failing() {
            return Err(left_alone());
        }
        let Bounds {
            patience, deadline, ..
        } = self.0.bounds;
        let began = self.0.clock.tick();
        let mut attempts = std::pin::pin!(self.attempts(hash, began));
        let found = if let Ok(found) = timeout(patience, &mut attempts).await {
            found
        } else {
            self.0.meters.late.increment(1);
            self.failed(hash, began, &silent(patience));
            timeout(deadline.saturating_sub(patience), attempts)
                .await
                .unwrap_or_else(|_| Err(silent(deadline)))
        };
        match &found {
            Err(error) if retry::is_fault(error) => self.failed(hash, began, error),
            _ => self.0.succeeded(),
        }
        found
    }

    async fn attempts(&self, hash: &KeyHash, began: Tick) -> Result<Found> {
        let first = self.0.store.find(hash).await;
        let Err(error) = &first else { return first };
        let elapsed = self.0.clock.tick().since(began);
        match retry::pause(error, elapsed, self.0.bounds.patience, random()) {
            // Others may have found out meanwhile that it is of no use.
            Some(pause) if !self.is_failing() => {
                sleep(pause).await;
                self.0.meters.retries.increment(1);
                self.0.store.find(hash).await
            }
            _ => first,
        }
    }

    fn failed(&self, hash: &KeyHash, began: Tick, error: &RepositoryError) {
        let Some(opening) = self.0.open(began) else {
            return;
        };
        tracing::warn!(%error, "keys that are known go on, others are refused");
        self.0.began_to_fail.notify_waiters();
        let probes = probe(Arc::downgrade(&self.0), *hash, opening);
        self.0.background.spawn(probes);
    }
}

/// Looks until the store answers, of no more than one opening, and no longer
/// than anybody holds the store.
async fn probe(guarded: Weak<Shared>, hash: KeyHash, opening: Opening) {
    for number in 0.. {
        let Some(longest) = guarded.upgrade().map(|shared| shared.bounds.max_backoff) else {
            return;
        };
        sleep(breaker::pause(number, longest, random())).await;
        let Some(shared) = guarded.upgrade() else {
            return;
        };
        if !shared.breaker().is_open_since(opening) {
            return;
        }
        shared.meters.probing();
        // Nothing but a probe closes the breaker: none may end without having looked.
        let look = AssertUnwindSafe(shared.look(number, &hash)).catch_unwind();
        match timeout(shared.bounds.deadline, look).await {
            Ok(Ok(Err(error))) if retry::is_fault(&error) => {
                tracing::debug!(%error, "the key store still fails");
            }
            Ok(Ok(_)) => return shared.succeeded(),
            Ok(Err(_)) => tracing::error!("a look at the key store panicked"),
            Err(_) => tracing::debug!("the key store still does not answer"),
        }
        if shared.breaker().is_open_since(opening) {
            shared.meters.open();
        }
    }
}

impl Shared {
    fn breaker(&self) -> MutexGuard<'_, Breaker> {
        self.breaker.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// By turns at the record whose read failed, which tells most, and at the
    /// keyring, lest one record that cannot be read shut out all others.
    async fn look(&self, number: u32, hash: &KeyHash) -> Result<()> {
        if number.is_multiple_of(2) {
            self.store.find(hash).await.map(drop)
        } else {
            self.store.keyring().await.map(drop)
        }
    }

    fn open(&self, began: Tick) -> Option<Opening> {
        let mut breaker = self.breaker();
        let opening = breaker.failed(began)?;
        self.failing.store(true, Ordering::Relaxed);
        self.meters.opened();
        Some(opening)
    }

    fn succeeded(&self) {
        let mut breaker = self.breaker();
        if breaker.succeeded(self.clock.tick()) {
            self.failing.store(false, Ordering::Relaxed);
            self.meters.closed();
            tracing::info!("the key store answers again");
        }
    }
}

impl ApiKeyReader for Guarded {
    fn find<'a>(&'a self, hash: &'a KeyHash) -> BoxFuture<'a, Result<Found>> {
        self.read(hash).boxed()
    }

    /// Tried even of a store that fails: whoever asks needs it, and asks seldom.
    fn keyring(&self) -> BoxFuture<'_, Result<Option<Vec<u8>>>> {
        self.bounded(self.0.store.keyring()).boxed()
    }

    fn active(&self, after: Option<KeyHash>, limit: usize) -> BoxFuture<'_, Result<ActivePage>> {
        async move {
            if self.is_failing() {
                return Err(left_alone());
            }
            self.bounded(self.0.store.active(after, limit)).await
        }
        .boxed()
    }

    fn changes(&self) -> BoxStream<'static, Change> {
        self.0.store.changes()
    }
}

impl Guarded {
    async fn bounded<T>(&self, call: BoxFuture<'_, Result<T>>) -> Result<T> {
        let deadline = self.0.bounds.deadline;
        let answer = timeout(deadline, call).await;
        answer.unwrap_or_else(|_| Err(silent(deadline)))
    }
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("bounds", &self.0.bounds)
            .field("failing", &self.is_failing())
            .finish_non_exhaustive()
    }
}

fn left_alone() -> RepositoryError {
    RepositoryError::Unavailable("it has just failed, and is not asked before it recovers".into())
}

fn silent(after: Duration) -> RepositoryError {
    let after = humantime::format_duration(after);
    RepositoryError::Unavailable(format!("no answer after {after}"))
}

/// Only spreads what would otherwise happen at once.
fn random() -> u32 {
    getrandom::u32().unwrap_or_default()
}
