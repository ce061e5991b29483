//! The change feed: one `Listen` stream over the records written lately and the
//! keyring, followed for as long as anybody wants to know.
//!
//! [`reducer`] knows what a message means, [`watchdog`] when silence does mean
//! something, [`listen`] how to speak. What is here opens streams, one after the
//! other, and does what those say.
//!
//! The window of records is counted back from the server's own time, and not
//! from the newest record: a feed that begins long after a great import would be
//! sent, and billed, all of it.

mod backoff;
mod listen;
mod reducer;
mod seen;
mod target;
mod watchdog;

use std::collections::VecDeque;
use std::time::Duration;

use firestore::gcloud_sdk::google::firestore::v1::ListenResponse;
use firestore::gcloud_sdk::google::firestore::v1::listen_response::ResponseType;
use firestore::gcloud_sdk::tonic::Status;
use futures_util::stream::{self, BoxStream, StreamExt};
use metrics::Counter;
use tokio::time::{Interval, MissedTickBehavior};

use self::backoff::Backoff;
use self::listen::{Paths, Stream};
use self::reducer::{Broken, Effect, Reducer};
use self::watchdog::{Act, BEAT, Silence, Watchdog};
use super::connection::Connection;
use super::error::unavailable;
use crate::clock::{Clock, Tick};
use crate::repository::{Change, RepositoryError};
use crate::telemetry::metric;

/// The server's first word on a new stream: its headers. After that the
/// watchdog is there.
const OPEN_TIMEOUT: Duration = Duration::from_secs(5);

/// A stream that lived so long was a good one: the pauses after it begin anew.
/// One that breaks sooner, again and again, is not opened twenty times a second.
const LASTING: Duration = Duration::from_secs(5);

/// Follows the collection for as long as the stream lives.
pub(super) fn follow(connection: Connection, clock: Clock) -> BoxStream<'static, Change> {
    stream::unfold(Follower::new(connection, clock), |mut follower| async {
        let change = follower.next().await;
        Some((change, follower))
    })
    .boxed()
}

/// Why there is no stream any more.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Store(RepositoryError),
    #[error(transparent)]
    Broken(#[from] Broken),
    #[error(transparent)]
    Silent(#[from] Silence),
    #[error("the server does not begin the stream")]
    NotOpened,
}

struct Follower {
    connection: Connection,
    clock: Clock,
    paths: Paths,
    reducer: Reducer,
    listening: Option<Listening>,
    told: VecDeque<Change>,
    backoff: Backoff,
    /// Before the next attempt.
    pause: Duration,
    /// The channel is not believed any more.
    rebuild: bool,
    connected_at: Option<Tick>,
    /// What was said of the last failure, so that an outage is said once.
    said: String,
    documents: Counter,
    probes: Counter,
    cuts: Counter,
}

struct Listening {
    stream: Stream,
    watchdog: Watchdog,
    beats: Interval,
}

impl Follower {
    fn new(connection: Connection, clock: Clock) -> Self {
        Self {
            paths: Paths::of(&connection),
            reducer: Reducer::new(),
            listening: None,
            told: VecDeque::new(),
            backoff: Backoff::default(),
            pause: Duration::ZERO,
            rebuild: false,
            connected_at: None,
            said: String::new(),
            documents: metrics::counter!(metric::STORE_FEED_DOCUMENTS),
            probes: metrics::counter!(metric::STORE_FEED_PROBES),
            cuts: metrics::counter!(metric::STORE_FEED_CUTS),
            connection,
            clock,
        }
    }

    async fn next(&mut self) -> Change {
        loop {
            if let Some(change) = self.told.pop_front() {
                return change;
            }
            let step = match self.listening.take() {
                Some(listening) => self.listen(listening).await,
                None => self.open().await,
            };
            match step {
                Ok(listening) => self.listening = Some(listening),
                Err(failure) => self.fail(&failure),
            }
        }
    }

    async fn open(&mut self) -> Result<Listening, Failure> {
        tokio::time::sleep(self.pause).await;
        let client = if self.rebuild {
            self.connection.rebuild().await
        } else {
            self.connection.current().await
        };
        let client = client.map_err(Failure::Store)?;
        self.rebuild = false;
        let asks = self.reducer.begin();
        let opening = Stream::open(&client, self.paths.clone(), asks);
        let stream = tokio::time::timeout(OPEN_TIMEOUT, opening)
            .await
            .map_err(|_| Failure::NotOpened)?
            .map_err(|status| self.refused(status))?;
        let mut beats = tokio::time::interval(BEAT);
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Listening {
            stream,
            watchdog: Watchdog::new(self.clock.now()),
            beats,
        })
    }

    /// One message, or one beat.
    async fn listen(&mut self, mut listening: Listening) -> Result<Listening, Failure> {
        tokio::select! {
            // What has come is read before anything is concluded from silence.
            biased;
            message = listening.stream.next() => {
                let message = message.map_err(|status| self.refused(status))?;
                let progress = self.count(&message) && self.reducer.is_arriving();
                listening.watchdog.heard(self.clock.tick(), progress);
                for effect in self.reducer.observe(message) {
                    self.apply(effect, &listening.stream)?;
                }
            }
            _ = listening.beats.tick() => {
                let course = self.reducer.course();
                match listening.watchdog.beat(self.clock.now(), course) {
                    Act::Wait => {}
                    Act::Ask => {
                        self.probes.increment(1);
                        listening.stream.ask(self.reducer.probe());
                    }
                    Act::Break(silence) => return Err(silence.into()),
                }
            }
        }
        Ok(listening)
    }

    fn apply(&mut self, effect: Effect, stream: &Stream) -> Result<(), Broken> {
        match effect {
            Effect::Tell(change) => {
                if change == Change::Connected {
                    self.connected_at = Some(self.clock.tick());
                    self.said.clear();
                    tracing::info!("the key store's change feed is connected");
                }
                self.told.push_back(change);
            }
            Effect::Ask(ask) => stream.ask(ask),
            Effect::Release(id) => stream.release(id),
            Effect::Break(broken) => return Err(broken),
        }
        Ok(())
    }

    /// Counts a document; each is billed as a read. Whether it is one.
    fn count(&self, message: &ListenResponse) -> bool {
        let is_document = matches!(message.response_type, Some(ResponseType::DocumentChange(_)));
        if is_document {
            self.documents.increment(1);
        }
        is_document
    }

    fn refused(&mut self, status: Status) -> Failure {
        if listen::may_be_the_token(&status) {
            self.reducer.forget_tokens();
        }
        Failure::Store(unavailable(&self.connection, &status.into()))
    }

    /// The cut is told at once; the pause comes before the next attempt.
    fn fail(&mut self, failure: &Failure) {
        self.rebuild |= matches!(failure, Failure::Silent(_) | Failure::NotOpened);
        let lived = self
            .connected_at
            .take()
            .map(|at| self.clock.tick().since(at));
        if lived.is_some_and(|lived| lived >= LASTING) {
            self.backoff.succeeded();
        }
        // Without randomness the fleet comes back together, which is no harm worth failing for.
        self.pause = self.backoff.failed(getrandom::u32().unwrap_or(u32::MAX));
        if let Some(cut) = self.reducer.end() {
            self.cuts.increment(1);
            self.told.push_back(cut);
        }
        let cause = failure.to_string();
        if cause == self.said {
            tracing::debug!(%cause, "the key store's change feed is still cut");
        } else {
            tracing::warn!(%cause, "the key store's change feed is cut");
            self.said = cause;
        }
    }
}
