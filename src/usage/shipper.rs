//! Takes usage from the journal to the sink.
//!
//! A batch is acknowledged to the journal only after the sink has it, and is
//! sent again otherwise: each event arrives at least once, and the sink keeps
//! one. What dead processes left goes the same way, in between.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics::{Counter, Gauge};

use super::config::Config;
use super::journal::{Batch, Decided, Journal, Remains};
use super::refusals::{RefusalCount, Refusals};
use super::sink::{SinkError, Stored, UsageSink};
use crate::clock::{Clock, Now, Tick};
use crate::telemetry::metric;

/// Events in one transaction, when there are as many: large enough that what it
/// costs by itself is a small part of the work, small enough to be done within
/// a fraction of a second.
const BATCH: usize = 10_000;

/// Between batches while there is little to do; with the time a batch takes,
/// an event is stored within twice as long.
const PAUSE: Duration = Duration::from_millis(100);

const LONGEST_PAUSE: Duration = Duration::from_secs(5);

const REMAINS_EVERY: Duration = Duration::from_secs(30);
const REFUSALS_EVERY: Duration = Duration::from_secs(5);
const EXPIRY_EVERY: Duration = Duration::from_mins(10);

/// Rows deleted in one transaction: it must not hold up a batch.
const EXPIRED: usize = 500;

/// Takes usage from the journal to the sink, for as long as it [runs](Self::run).
pub struct Shipper {
    journal: Journal,
    sink: Arc<dyn UsageSink>,
    refusals: Refusals,
    clock: Clock,
    retention: Duration,
    flush_timeout: Duration,
    /// Read from the journal, but not known to be stored.
    unacknowledged: Option<Arc<Batch>>,
    /// The counts that the sink has.
    told: Vec<Decided>,
    unstored_refusals: Option<Arc<[RefusalCount]>>,
    remains: VecDeque<Dead>,
    due: Due,
    pause: Duration,
    state: Arc<AtomicBool>,
    /// Why the last round failed, if it did.
    trouble: Option<String>,
    meters: Meters,
}

/// What one dead process left, and the batch of it that is on its way.
#[derive(Debug)]
struct Dead {
    remains: Remains,
    unacknowledged: Option<Arc<Batch>>,
    /// Events of it that are stored.
    stored: u64,
}

/// When the chores are to be done next.
#[derive(Debug, Default)]
struct Due {
    remains: Tick,
    refusals: Tick,
    expiry: Tick,
}

#[derive(Debug)]
struct Meters {
    backlog: Gauge,
    stored: Counter,
    quarantined: Counter,
    failures: Counter,
    dropped: Counter,
    damaged: Counter,
}

/// Tells whether the sink takes what it is given.
#[derive(Clone, Debug)]
pub struct SinkState(Arc<AtomicBool>);

impl SinkState {
    pub fn is_failing(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Why a round was not done.
#[derive(Debug, thiserror::Error)]
enum ShipError {
    #[error(transparent)]
    Sink(#[from] SinkError),
    #[error("the usage journal: {0}")]
    Journal(#[from] io::Error),
}

impl Shipper {
    pub fn new(
        journal: Journal,
        refusals: Refusals,
        sink: Arc<dyn UsageSink>,
        clock: Clock,
        config: &Config,
    ) -> Self {
        Self {
            journal,
            sink,
            refusals,
            clock,
            retention: config.retention,
            flush_timeout: config.flush_timeout,
            unacknowledged: None,
            told: Vec::new(),
            unstored_refusals: None,
            remains: VecDeque::new(),
            due: Due::default(),
            pause: PAUSE,
            state: Arc::default(),
            trouble: None,
            meters: Meters::register(),
        }
    }

    pub fn sink_state(&self) -> SinkState {
        SinkState(Arc::clone(&self.state))
    }

    /// Ships until `shutdown`, by which time nobody records any more, and then
    /// what is left, also by processes before, for at most
    /// `usage.flush_timeout`. Whether all of this process's usage is stored; what
    /// is not, the next one finds.
    pub async fn run(mut self, shutdown: impl Future<Output = ()>) -> bool {
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                () = self.round_and_pause() => {}
            }
        }
        if let Err(error) = self.journal.sync() {
            tracing::error!(%error, "the usage journal cannot be synced");
        }
        let timeout = self.flush_timeout;
        let mut own = false;
        let all = tokio::time::timeout(timeout, self.flush(&mut own)).await;
        if all.is_err() {
            let bytes = self.journal.backlog();
            tracing::warn!(bytes, "usage is left in the journal for the next start");
        }
        own
    }

    /// Can be dropped at any await: what was read is kept until it is known to
    /// be stored.
    async fn round_and_pause(&mut self) {
        match self.round().await {
            Ok(more) => {
                self.note_success();
                if more {
                    tokio::task::yield_now().await;
                } else {
                    tokio::time::sleep(PAUSE).await;
                }
            }
            Err(error) => {
                self.note_failure(&error);
                tokio::time::sleep(self.pause).await;
                self.pause = LONGEST_PAUSE.min(self.pause * 2);
            }
        }
    }

    /// `own` is set once this process's usage is stored.
    async fn flush(&mut self, own: &mut bool) {
        while let Err(error) = self.try_flush(own).await {
            self.note_failure(&error);
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn try_flush(&mut self, own: &mut bool) -> Result<(), ShipError> {
        while self.ship_own().await? {}
        if self.unstored_refusals.is_none() {
            self.unstored_refusals = Some(self.refusals.drain_all().into());
        }
        self.ship_refusals().await?;
        *own = true;
        // A process that is stopped as soon as it began has not looked yet.
        if self.due.remains == Tick::default() {
            self.find_remains()?;
        }
        while self.ship_remains().await? {}
        Ok(())
    }

    /// Whether there is more to ship at once.
    async fn round(&mut self) -> Result<bool, ShipError> {
        let own = self.ship_own().await?;
        let dead = self.ship_remains().await?;
        self.do_chores().await?;
        Ok(own || dead)
    }

    /// Whether there may be more to ship at once.
    async fn ship_own(&mut self) -> Result<bool, ShipError> {
        let held = self.unacknowledged.clone();
        // What was recorded since one was read that is sent again is not in it.
        let is_older = held.is_some();
        let batch = held.unwrap_or_else(|| Arc::new(self.journal.next_batch(BATCH)));
        if batch.events.is_empty() && batch.writers == self.told {
            self.measure(&batch);
            return Ok(false);
        }
        self.unacknowledged = Some(Arc::clone(&batch));
        let stored = self.sink.store(Arc::clone(&batch)).await?;
        self.meters.count(stored);
        self.journal.acknowledge()?;
        self.unacknowledged = None;
        self.told.clone_from(&batch.writers);
        self.measure(&batch);
        Ok(is_older || self.journal.has_more())
    }

    /// What cannot be read is left, and looked for again later.
    async fn ship_remains(&mut self) -> Result<bool, ShipError> {
        let Some(mut dead) = self.remains.pop_front() else {
            return Ok(false);
        };
        match dead.next_batch() {
            Ok(Some(batch)) => {
                self.remains.push_front(dead);
                let stored = self.sink.store(batch).await?;
                self.meters.count(stored);
                if let Some(dead) = self.remains.front_mut() {
                    dead.stored += stored.new;
                    dead.acknowledge()?;
                }
            }
            Ok(None) => self.finish(dead)?,
            Err(error) => {
                let instance = dead.remains.instance();
                tracing::error!(%instance, %error, "usage that a process left cannot be read");
            }
        }
        Ok(true)
    }

    fn finish(&mut self, dead: Dead) -> io::Result<()> {
        let Dead {
            remains, stored, ..
        } = dead;
        let instance = remains.instance();
        let damaged = remains.damaged();
        self.meters.damaged.increment(damaged);
        remains.remove()?;
        if stored > 0 || damaged > 0 {
            tracing::info!(%instance, stored, damaged, "usage that a process left is stored");
        }
        Ok(())
    }

    async fn do_chores(&mut self) -> Result<(), ShipError> {
        let now = self.clock.now();
        if now.tick >= self.due.remains && self.remains.is_empty() {
            self.find_remains()?;
        }
        if now.tick >= self.due.refusals {
            if self.unstored_refusals.is_none() {
                self.unstored_refusals = Some(self.refusals.drain(now.wall).into());
            }
            self.ship_refusals().await?;
            self.due.refusals = now.tick.saturating_add(REFUSALS_EVERY);
        }
        if now.tick >= self.due.expiry {
            self.expire(now).await;
        }
        Ok(())
    }

    /// What was kept for long enough is in nobody's way: when it cannot be
    /// deleted, the events go on, and it is tried again when it is due.
    async fn expire(&mut self, now: Now) {
        let before = now.wall.saturating_sub(self.retention);
        match self.sink.expire(before, EXPIRED).await {
            Ok(expired) if expired >= EXPIRED => return,
            Ok(_) => {}
            Err(SinkError(error)) => {
                self.meters.failures.increment(1);
                tracing::error!(%error, "what is older than `usage.retention` is not deleted");
            }
        }
        self.due.expiry = now.tick.saturating_add(EXPIRY_EVERY);
    }

    fn find_remains(&mut self) -> io::Result<()> {
        self.due.remains = self.clock.now().tick.saturating_add(REMAINS_EVERY);
        let found = self.journal.remains()?.into_iter().map(|remains| Dead {
            remains,
            unacknowledged: None,
            stored: 0,
        });
        self.remains.extend(found);
        Ok(())
    }

    async fn ship_refusals(&mut self) -> Result<(), ShipError> {
        if let Some(refusals) = &self.unstored_refusals {
            if !refusals.is_empty() {
                let instance = self.journal.instance();
                self.sink
                    .store_refusals(instance, Arc::clone(refusals))
                    .await?;
            }
            self.unstored_refusals = None;
        }
        Ok(())
    }

    fn measure(&mut self, batch: &Batch) {
        self.measure_backlog();
        let dropped = batch.writers.iter().map(|writer| writer.dropped).sum();
        self.meters.dropped.absolute(dropped);
        self.meters.damaged.increment(self.journal.take_damaged());
    }

    fn measure_backlog(&self) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        self.meters.backlog.set(self.journal.backlog() as f64);
    }

    fn note_success(&mut self) {
        self.pause = PAUSE;
        self.trouble = None;
        if self.state.swap(false, Ordering::Relaxed) {
            tracing::info!("usage is stored again");
        }
    }

    fn note_failure(&mut self, error: &ShipError) {
        self.meters.failures.increment(1);
        self.measure_backlog();
        self.state.store(true, Ordering::Relaxed);
        let trouble = error.to_string();
        if self.trouble.as_ref() != Some(&trouble) {
            tracing::error!(%error, "usage is kept in the journal until it can be stored");
            self.trouble = Some(trouble);
        }
    }
}

impl Dead {
    /// The same again until it is acknowledged.
    fn next_batch(&mut self) -> io::Result<Option<Arc<Batch>>> {
        if self.unacknowledged.is_none() {
            self.unacknowledged = self.remains.next_batch(BATCH)?.map(Arc::new);
        }
        Ok(self.unacknowledged.clone())
    }

    fn acknowledge(&mut self) -> io::Result<()> {
        self.remains.acknowledge()?;
        self.unacknowledged = None;
        Ok(())
    }
}

impl Meters {
    fn register() -> Self {
        Self {
            backlog: metrics::gauge!(metric::JOURNAL_BACKLOG_BYTES),
            stored: metrics::counter!(metric::USAGE_STORED),
            quarantined: metrics::counter!(metric::USAGE_QUARANTINED),
            failures: metrics::counter!(metric::USAGE_SINK_FAILURES),
            dropped: metrics::counter!(metric::USAGE_DROPPED),
            damaged: metrics::counter!(metric::JOURNAL_DAMAGED),
        }
    }

    fn count(&self, stored: Stored) {
        self.stored.increment(stored.new);
        self.quarantined.increment(stored.quarantined);
    }
}

impl std::fmt::Debug for Shipper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shipper")
            .field("journal", &self.journal)
            .field("unacknowledged", &self.unacknowledged.is_some())
            .finish_non_exhaustive()
    }
}
