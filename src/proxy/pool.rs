//! The connections of one worker to one target.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use http_body::Body;
use metrics::{Counter, counter};
use tokio::time::sleep;

use super::http1::Connection;
use super::http2::{self, Multiplex, Place};
use super::lanes::Group;
use super::upstream::{Permits, Target, Upstream};
use super::{BoxError, Failure};
use crate::context::UpstreamFailure;
use crate::telemetry::metric::{UPSTREAM_CONNECTIONS, UPSTREAM_FAILURES, UPSTREAM_RETRIES};

/// How often idle connections are looked at, at most: one that its upstream has
/// closed stays half open for no longer.
const LOOKING: Duration = Duration::from_secs(1);

/// What one request can be sent over.
pub(super) enum Sender<B> {
    Http1(Box<Connection<B>>),
    Http2(Place<B>),
}

/// The connections to one target that wait for a request. The one used last
/// is used first, so that those that are not needed grow old.
pub(super) struct Pool<B> {
    /// Oldest first.
    idle: RefCell<Vec<Idle<B>>>,
    /// How often they were looked at: a clock that costs nothing to read.
    looks: Cell<u32>,
    reaping: Cell<bool>,
}

struct Idle<B> {
    connection: Box<Connection<B>>,
    since: u32,
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Self {
            idle: RefCell::new(Vec::new()),
            looks: Cell::new(0),
            reaping: Cell::new(false),
        }
    }
}

impl<B> Pool<B> {
    /// A connection that was open when last seen.
    fn take(&self) -> Option<Box<Connection<B>>> {
        let idle = &mut *self.idle.borrow_mut();
        std::iter::from_fn(|| idle.pop())
            .map(|idle| idle.connection)
            .find_map(|mut connection| connection.is_open().then_some(connection))
    }

    /// Drops what its upstream has closed, and what was not used for so many looks.
    fn look(&self, most: u32) {
        let now = self.looks.get().wrapping_add(1);
        self.looks.set(now);
        let idle = &mut *self.idle.borrow_mut();
        idle.retain_mut(|idle| now.wrapping_sub(idle.since) <= most && idle.connection.is_open());
    }
}

/// One target of an upstream, and this worker's connections to it.
pub(super) struct Lane<B> {
    pub(super) upstream: Arc<Upstream>,
    /// Which of its targets.
    pub(super) place: usize,
    pool: Pool<B>,
    /// Where it is spoken to in HTTP/2.
    multiplex: Option<Rc<Multiplex<B>>>,
    pub(super) counters: Rc<Counters>,
    /// With the lanes to the other targets.
    pub(super) group: Weak<Group<B>>,
    /// How many requests it has now.
    pending: Cell<usize>,
}

/// A lane that has one request more, until this is dropped.
pub(super) struct Engaged<B> {
    lane: Rc<Lane<B>>,
    pub(super) permits: Permits,
}

impl<B> Engaged<B> {
    pub(super) fn new(lane: Rc<Lane<B>>, permits: Permits) -> Self {
        lane.pending.set(lane.pending.get() + 1);
        Self { lane, permits }
    }

    pub(super) const fn lane(&self) -> &Rc<Lane<B>> {
        &self.lane
    }

    /// Goes to another target.
    pub(super) fn move_to(&mut self, lane: Rc<Lane<B>>) {
        let permits = std::mem::take(&mut self.permits);
        *self = Self::new(lane, permits);
    }
}

impl<B> Drop for Engaged<B> {
    fn drop(&mut self) {
        self.lane.pending.set(self.lane.pending.get() - 1);
    }
}

impl<B> Deref for Engaged<B> {
    type Target = Lane<B>;

    fn deref(&self) -> &Lane<B> {
        &self.lane
    }
}

impl<B> Lane<B> {
    pub(super) fn target(&self) -> &Target {
        &self.upstream.targets[self.place]
    }

    pub(super) const fn pending(&self) -> usize {
        self.pending.get()
    }
}

/// What operators see of one upstream.
pub(super) struct Counters {
    connections: Counter,
    pub(super) retries: Counter,
    failed: Counter,
    timed_out: Counter,
}

impl Counters {
    pub(super) fn of(upstream: &str) -> Self {
        let failures = |failure| counter!(UPSTREAM_FAILURES, "upstream" => upstream.to_owned(), "failure" => failure);
        Self {
            connections: counter!(UPSTREAM_CONNECTIONS, "upstream" => upstream.to_owned()),
            retries: counter!(UPSTREAM_RETRIES, "upstream" => upstream.to_owned()),
            failed: failures("failed"),
            timed_out: failures("timed_out"),
        }
    }

    /// Only what is the upstream's doing counts.
    pub(super) fn count(&self, failure: Option<UpstreamFailure>) {
        match failure {
            Some(UpstreamFailure::Failed) => self.failed.increment(1),
            Some(UpstreamFailure::TimedOut) => self.timed_out.increment(1),
            None => {}
        }
    }
}

impl<B> Lane<B>
where
    B: Body<Data = bytes::Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(
        upstream: Arc<Upstream>,
        place: usize,
        counters: Rc<Counters>,
        group: Weak<Group<B>>,
    ) -> Self {
        let multiplex = upstream.config.http2.then(Multiplex::new);
        Self {
            upstream,
            place,
            pool: Pool::default(),
            multiplex,
            counters,
            group,
            pending: Cell::new(0),
        }
    }

    /// A connection that was open when last seen, and has room.
    pub(super) fn take(&self) -> Option<Sender<B>> {
        match &self.multiplex {
            None => self.pool.take().map(Sender::Http1),
            Some(multiplex) => multiplex.take().map(Sender::Http2),
        }
    }

    /// A new connection, or room on one that others have opened meanwhile; and
    /// whether it is old.
    pub(super) async fn connect(self: &Rc<Self>) -> Result<(Sender<B>, bool), Failure> {
        let Some(multiplex) = &self.multiplex else {
            return Ok((Sender::Http1(self.connect_http1().await?), false));
        };
        let config = &self.upstream.config;
        let patience = config.connect_timeout.max(config.max_wait);
        let most = config.http2_connections.get();
        let connect = || self.connect_http2();
        let (place, old) = match multiplex.place(most, patience, connect).await {
            Err(Failure::Busy) => return Err(self.upstream.busy()),
            placed => placed?,
        };
        self.start_reaping();
        Ok((Sender::Http2(place), old))
    }

    async fn connect_http2(&self) -> Result<http2::Connection<B>, Failure> {
        let stream = self.upstream.connect(self.target()).await?;
        self.counters.connections.increment(1);
        http2::begin(stream).await
    }

    async fn connect_http1(&self) -> Result<Box<Connection<B>>, Failure> {
        let stream = self.upstream.connect(self.target()).await?;
        self.counters.connections.increment(1);
        Ok(Connection::new(stream))
    }

    /// Begins no more requests on a connection that turned one away.
    pub(super) fn retire(&self, place: &Place<B>) {
        if let Some(multiplex) = &self.multiplex {
            multiplex.retire(place);
        }
    }

    /// Keeps a connection whose answer has ended for the next request, if there
    /// may be one.
    pub(super) fn give_back(self: &Rc<Self>, mut connection: Box<Connection<B>>) {
        let idle = &mut *self.pool.idle.borrow_mut();
        if connection.rest() && idle.len() < self.upstream.config.max_idle {
            let since = self.pool.looks.get();
            idle.push(Idle { connection, since });
            self.start_reaping();
        }
    }

    fn start_reaping(self: &Rc<Self>) {
        if !self.pool.reaping.replace(true) {
            self.reap();
        }
    }

    /// Drops connections that nobody needed for long, as long as there are any.
    fn reap(self: &Rc<Self>) {
        let lane = Rc::downgrade(self);
        let idle_timeout = self.upstream.config.idle_timeout;
        let interval = idle_timeout.min(LOOKING);
        // A look may come right after a connection was kept.
        let looks = idle_timeout.as_nanos().div_ceil(interval.as_nanos().max(1));
        let looks = u32::try_from(looks).unwrap_or(u32::MAX);
        tokio::task::spawn_local(async move {
            loop {
                sleep(interval).await;
                let Some(lane) = lane.upgrade() else {
                    return;
                };
                lane.pool.look(looks);
                let left = |multiplex: &Rc<Multiplex<B>>| multiplex.drop_idle(idle_timeout);
                let left = lane.multiplex.as_ref().is_some_and(left);
                if !left && lane.pool.idle.borrow().is_empty() {
                    lane.pool.reaping.set(false);
                    return;
                }
            }
        });
    }
}
