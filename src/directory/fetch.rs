//! Reading the store: one coalesced, verified read for each key.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use metrics::{Counter, Gauge, counter, gauge};
use tokio::time::timeout;

use super::cache::Absent;
use super::feed::Freshness;
use super::flights::{Answer, Boarding, Waiting};
use super::{Directory, Entry, Lookup, OpenFailure, Reload};
use crate::clock::{Now, Tick};
use crate::key::ApiKey;
use crate::refusal::Refusal;
use crate::repository::{ApiKeyReader, Found, RepositoryError, StoredKey};
use crate::telemetry::metric;
use crate::token::{KeyHash, TokenDigest};

/// A read that was overtaken by a write is begun again so many times at most.
const ATTEMPTS: usize = 3;

/// Between two background reads of one record.
const PAUSE: Duration = Duration::from_secs(1);

/// The reads' outcomes, counted.
pub(super) struct Metrics {
    found: Counter,
    absent: Counter,
    tampered: Counter,
    failed: Counter,
    over_budget: Counter,
    pub(super) warmed: Counter,
    keys: Gauge,
}

impl Metrics {
    pub(super) fn new() -> Self {
        let reads = |outcome: &'static str| counter!(metric::DIRECTORY_READS, "outcome" => outcome);
        Self {
            found: reads("found"),
            absent: reads("absent"),
            tampered: reads("tampered"),
            failed: reads("failed"),
            over_budget: reads("over_budget"),
            warmed: counter!(metric::DIRECTORY_WARMED),
            keys: gauge!(metric::DIRECTORY_KEYS),
        }
    }
}

/// What a read brought, verified.
enum Read {
    Key(Box<ApiKey>),
    Absent {
        revision: u64,
    },
    /// With the revision that it claims to have.
    Tampered {
        what: Tampered,
        revision: u64,
    },
}

/// Names the record, for operators.
enum Tampered {
    Record(uuid::Uuid),
    Damaged(String),
}

impl fmt::Display for Tampered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Record(id) => write!(f, "{id}"),
            Self::Damaged(what) => f.write_str(what),
        }
    }
}

impl Directory {
    /// Asks the store after a [`Lookup::Miss`].
    ///
    /// All who wait for one key share a read, which runs on the background
    /// runtime and goes on when they leave. Nobody waits longer than
    /// `lookup_timeout`; a key that is known and not expired serves when the
    /// store fails, anything else is [`Refusal::StoreUnavailable`] then.
    pub fn fetch(
        &self,
        hash: KeyHash,
        digest: TokenDigest,
        client: Option<IpAddr>,
    ) -> impl Future<Output = Answer> + Send + use<> {
        let directory = self.clone();
        let waiting = self.read_in_background(hash, digest, client);
        async move {
            let answer = match waiting {
                Some(waiting) => directory.wait(waiting).await,
                None => Err(Refusal::StoreUnavailable),
            };
            directory.settled(&hash, answer)
        }
    }

    pub(super) fn judge(&self, entry: Arc<Entry>, now: Now) -> Lookup {
        match self.freshness(&entry, now.tick) {
            Freshness::Fresh => Lookup::Hit(entry),
            Freshness::Ageing => {
                self.refresh(&entry, now.tick);
                Lookup::Hit(entry)
            }
            Freshness::Stale if self.0.store.is_failing() => {
                self.refresh(&entry, now.tick);
                Lookup::Hit(entry)
            }
            Freshness::Stale | Freshness::Expired => Lookup::Miss,
        }
    }

    /// Reads the record of `entry` again, unless that was just tried.
    pub(super) fn refresh(&self, entry: &Entry, now: Tick) {
        if entry.begins_attempt(now, PAUSE) {
            self.read_in_background(entry.key.key_hash, entry.digest.clone(), None);
        }
    }

    fn freshness(&self, entry: &Entry, now: Tick) -> Freshness {
        let [.., jitter] = *entry.key.key_hash.as_bytes();
        match self.0.feed.freshness(entry.read_at(), jitter, now) {
            Freshness::Fresh | Freshness::Ageing if entry.is_outdated() => Freshness::Stale,
            freshness => freshness,
        }
    }

    /// How long until the record of `entry` is read again; nothing when it is to
    /// be read now.
    pub(super) fn fresh_for(&self, entry: &Entry, now: Tick) -> Duration {
        let [.., jitter] = *entry.key.key_hash.as_bytes();
        self.0.feed.fresh_for(entry.read_at(), jitter, now)
    }

    /// Whether `entry` stands while the store cannot be asked.
    pub(super) fn serves_unread(&self, entry: &Entry) -> bool {
        self.freshness(entry, self.0.clock.tick()) != Freshness::Expired
    }

    /// `None` when it is over the budget, or the store is not to be asked.
    fn read_in_background(
        &self,
        hash: KeyHash,
        digest: TokenDigest,
        client: Option<IpAddr>,
    ) -> Option<Waiting> {
        if self.0.store.is_failing() {
            return None;
        }
        match self.0.flights.board(hash, client) {
            Boarding::Join(waiting) => Some(waiting),
            Boarding::OverBudget => {
                self.0.metrics.over_budget.increment(1);
                None
            }
            Boarding::Begin(answer, waiting) => {
                let landing = Landing {
                    directory: self.clone(),
                    hash,
                };
                self.0.background.spawn(async move {
                    // Nobody may be waiting any more.
                    let _ = answer.send(landing.directory.read(hash, digest).await);
                });
                Some(waiting)
            }
        }
    }

    /// Nobody waits on for a store that turns out to fail.
    async fn wait(&self, waiting: Waiting) -> Answer {
        let answer = async {
            tokio::select! {
                biased;
                answer = waiting => answer.ok(),
                () = self.0.store.failing() => None,
            }
        };
        let answer = timeout(self.0.config.lookup_timeout, answer).await;
        answer
            .ok()
            .flatten()
            .unwrap_or(Err(Refusal::StoreUnavailable))
    }

    /// What holds now, after `answer` was given: the answer may have been
    /// overtaken on its way, and a known key outlives a failing store.
    fn settled(&self, hash: &KeyHash, answer: Answer) -> Answer {
        match answer {
            Ok(entry) if entry.is_current() => Ok(entry),
            Ok(entry) => match (self.0.cache.known(hash), self.0.cache.absent(hash)) {
                (Some(newer), _) => Ok(newer),
                (None, Some(absent)) => Err(absent.refusal.unwrap_or(Refusal::StoreUnavailable)),
                // Evicted as soon as it was read.
                (None, None) => Ok(entry),
            },
            Err(Refusal::StoreUnavailable) => {
                let now = self.0.clock.tick();
                self.0
                    .cache
                    .known(hash)
                    .filter(|entry| self.freshness(entry, now) != Freshness::Expired)
                    .ok_or(Refusal::StoreUnavailable)
            }
            Err(refusal) => Err(refusal),
        }
    }

    async fn read(&self, hash: KeyHash, digest: TokenDigest) -> Answer {
        let Ok(_place) = self.0.reads.acquire().await else {
            return Err(Refusal::StoreUnavailable);
        };
        for _ in 0..ATTEMPTS {
            let read_at = self.0.clock.tick();
            let Some(read) = self.read_once(&hash, &digest).await else {
                self.0.metrics.failed.increment(1);
                return Err(Refusal::StoreUnavailable);
            };
            if let Some(answer) = self.settle(hash, &digest, read, read_at) {
                return answer;
            }
        }
        tracing::warn!("a key's record kept changing, or the store kept answering with an old one");
        self.0.metrics.failed.increment(1);
        Err(Refusal::StoreUnavailable)
    }

    /// `None` when the store, or the keyring, failed.
    async fn read_once(&self, hash: &KeyHash, digest: &TokenDigest) -> Option<Read> {
        match self.0.store.find(hash).await {
            Ok(found) => self.verify(found, digest).await,
            Err(RepositoryError::Damaged(what)) => Some(Read::Tampered {
                what: Tampered::Damaged(what),
                revision: 0,
            }),
            Err(_) => None,
        }
    }

    async fn verify(&self, found: Found, digest: &TokenDigest) -> Option<Read> {
        let record = match found {
            Found::Absent => return Some(Read::Absent { revision: 0 }),
            Found::Tombstone { revision } => return Some(Read::Absent { revision }),
            // It only refuses, for which it need not be genuine.
            Found::Key(record) if !record.key.is_active => {
                return Some(Read::Key(Box::new(record.key)));
            }
            Found::Key(record) => record,
        };
        let opened = match self.open(&record) {
            Err(OpenFailure::NotHeld) => {
                self.0.opener.reload(Reload::Lacking).await;
                self.open(&record)
            }
            opened => opened,
        };
        match opened {
            Ok(sealed) if sealed == *digest => Some(Read::Key(Box::new(record.key))),
            Ok(_) | Err(OpenFailure::Tampered) => Some(Read::Tampered {
                what: Tampered::Record(record.key.id),
                revision: record.key.revision,
            }),
            Err(OpenFailure::NotHeld) => {
                let id = record.key.id;
                tracing::error!(%id, "the keyring does not hold the key of a record");
                None
            }
        }
    }

    fn open(&self, record: &StoredKey) -> Result<TokenDigest, OpenFailure> {
        self.0.opener.open(record)
    }

    /// Caches what a read brought, unless something newer is known: then the
    /// read has to be done again.
    fn settle(
        &self,
        hash: KeyHash,
        digest: &TokenDigest,
        read: Read,
        read_at: Tick,
    ) -> Option<Answer> {
        let metrics = &self.0.metrics;
        let turn = self.0.cache.turn(hash);
        if self.0.flights.take_overtaken(&hash) {
            return None;
        }
        let seen = turn.revision();
        match read {
            Read::Key(key) if key.revision < seen => None,
            Read::Key(key) => {
                metrics.found.increment(1);
                if let Some(known) = turn.known().filter(|known| known.key.has_policy_of(&key)) {
                    known.confirm(read_at);
                    return Some(Ok(known));
                }
                let entry = Arc::new(Entry::new(*key, digest.clone(), read_at));
                turn.put(Arc::clone(&entry));
                metrics.keys.set(precise(self.0.cache.keys()));
                Some(Ok(entry))
            }
            Read::Absent { revision } => {
                metrics.absent.increment(1);
                turn.put_absent(Absent {
                    refusal: Some(Refusal::KeyUnknown),
                    revision: revision.max(turn.settled_revision()),
                    announced: turn.announced_revision(),
                    read_at,
                });
                Some(Err(Refusal::KeyUnknown))
            }
            Read::Tampered { what, revision } => {
                metrics.tampered.increment(1);
                let refusal = Some(Refusal::KeyTampered);
                let told = turn
                    .absent()
                    .is_some_and(|absent| absent.refusal == refusal);
                if !told {
                    tracing::error!(record = %what, "a record does not open: it was edited, moved or copied");
                }
                // What was told of this record was not true: once it is put right
                // again, its key is good again.
                let announced = turn.announced_revision();
                turn.put_absent(Absent {
                    refusal,
                    revision: turn.settled_revision(),
                    announced: if revision < announced { announced } else { 0 },
                    read_at,
                });
                Some(Err(Refusal::KeyTampered))
            }
        }
    }
}

/// Gives up the place of a read, however it ended.
struct Landing {
    directory: Directory,
    hash: KeyHash,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.directory.0.flights.land(&self.hash);
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a gauge is a float, and no cache holds 2^53 keys"
)]
const fn precise(count: u64) -> f64 {
    count as f64
}
