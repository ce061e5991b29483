//! Google's word for who the edge is: identity tokens for upstreams that only
//! let in whom Google vouches for, as private services of Cloud Run.
//!
//! A token is for one audience and good for an hour. Each is fetched from the
//! metadata server off the workers and renewed before it ends; a worker takes
//! what is there, or is told at once that there is none.

mod metadata;

pub use metadata::{MetadataServer, NoToken};

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use tokio::time::{sleep, timeout};

use crate::clock::{Clock, Timestamp};
use crate::telemetry::metric;

/// How long before its end a token is renewed: what a request takes of it has to
/// last until the upstream has looked at it.
const RENEW_BEFORE: Duration = Duration::from_mins(5);

/// For a token to come.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts, while there is an old token or none comes.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The tokens of a process, by audience. Clones share them.
#[derive(Clone)]
pub struct IdTokens(Arc<Shared>);

struct Shared {
    server: MetadataServer,
    clock: Clock,
    held: ArcSwap<HashMap<Box<str>, Arc<Slot>>>,
}

/// Where the token of one audience is, once there is one.
type Slot = ArcSwapOption<Held>;

struct Held {
    bearer: HeaderValue,
    until: Timestamp,
}

impl IdTokens {
    pub fn new(server: MetadataServer, clock: Clock) -> Self {
        Self(Arc::new(Shared {
            server,
            clock,
            held: ArcSwap::default(),
        }))
    }

    /// Has a token of each audience from now on. To be called in the runtime
    /// that is to fetch them, one caller at a time.
    pub fn keep<'a>(&self, audiences: impl IntoIterator<Item = &'a str>) {
        let mut held = HashMap::clone(&self.0.held.load());
        for audience in audiences {
            if held.contains_key(audience) {
                continue;
            }
            let slot = Arc::new(Slot::empty());
            held.insert(audience.into(), Arc::clone(&slot));
            let (shared, audience) = (Arc::clone(&self.0), audience.to_owned());
            tokio::spawn(async move { shared.keep(&audience, &slot).await });
        }
        self.0.held.store(Arc::new(held));
    }

    /// `Bearer` and the token; `None` when there is none that is good.
    pub fn bearer(&self, audience: &str, now: Timestamp) -> Option<HeaderValue> {
        let held = self.0.held.load();
        let token = held.get(audience)?.load();
        let token = token.as_ref().filter(|token| now < token.until)?;
        Some(token.bearer.clone())
    }

    /// Whether every audience has one.
    pub fn are_there(&self) -> bool {
        let now = self.0.clock.wall();
        let held = self.0.held.load();
        held.keys()
            .all(|audience| self.bearer(audience, now).is_some())
    }
}

impl Shared {
    async fn keep(&self, audience: &str, slot: &Slot) {
        let mut pause = FIRST_PAUSE;
        loop {
            let fetched = timeout(PATIENCE, self.server.fetch(audience)).await;
            match fetched.unwrap_or(Err(NoToken::TooSlow)) {
                Ok(token) => {
                    let left = remaining(self.clock.wall(), token.until);
                    slot.store(Some(Arc::new(Held {
                        bearer: token.bearer,
                        until: token.until,
                    })));
                    if left > RENEW_BEFORE {
                        pause = FIRST_PAUSE;
                        sleep(left.saturating_sub(RENEW_BEFORE)).await;
                        continue;
                    }
                }
                Err(error) => {
                    metrics::counter!(metric::ID_TOKEN_FAILURES).increment(1);
                    tracing::warn!(%error, audience, retry_in = ?pause, "no identity token");
                }
            }
            sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

fn remaining(now: Timestamp, until: Timestamp) -> Duration {
    let micros = until.as_micros().saturating_sub(now.as_micros());
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

impl fmt::Debug for IdTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IdTokens").finish_non_exhaustive()
    }
}
