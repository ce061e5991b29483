//! The connections of one worker to one target.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use http_body::Body;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use metrics::{Counter, counter};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};

use super::lanes::Group;
use super::request_body::RequestBody;
use super::upstream::{Permits, Stream, Target, Upstream};
use super::{BoxError, Failure};
use crate::context::UpstreamFailure;
use crate::telemetry::metric::{UPSTREAM_CONNECTIONS, UPSTREAM_FAILURES, UPSTREAM_RETRIES};

/// The most that is read ahead of a client; also the largest head of an answer.
const READ_BUFFER: usize = 64 * 1024;

/// A connection that is free for one request.
pub(super) type Sender<B> = SendRequest<RequestBody<B>>;

/// The connections to one target that wait for a request. The one used last
/// is used first, so that those that are not needed grow old.
pub(super) struct Pool<B> {
    /// Oldest first.
    idle: RefCell<Vec<Idle<B>>>,
    reaping: Cell<bool>,
}

struct Idle<B> {
    sender: Sender<B>,
    since: Instant,
}

impl<B> Default for Pool<B> {
    fn default() -> Self {
        Self {
            idle: RefCell::new(Vec::new()),
            reaping: Cell::new(false),
        }
    }
}

impl<B> Pool<B> {
    /// A connection that was open when last seen.
    pub(super) fn take(&self) -> Option<Sender<B>> {
        let idle = &mut *self.idle.borrow_mut();
        std::iter::from_fn(|| idle.pop())
            .map(|idle| idle.sender)
            .find(Sender::is_ready)
    }

    fn drop_expired(&self, upstream: &Upstream) {
        let now = Instant::now();
        let idle = &mut *self.idle.borrow_mut();
        idle.retain(|idle| {
            !idle.sender.is_closed() && now < idle.since + upstream.config.idle_timeout
        });
    }
}

/// One target of an upstream, and this worker's connections to it.
pub(super) struct Lane<B> {
    pub(super) upstream: Arc<Upstream>,
    /// Which of its targets.
    pub(super) place: usize,
    pub(super) pool: Pool<B>,
    pub(super) counters: Rc<Counters>,
    /// With the lanes to the other targets.
    pub(super) group: Weak<Group<B>>,
    /// How many requests it has now.
    pending: Cell<usize>,
    http1: Builder,
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
    B: Body<Data = bytes::Bytes> + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn new(
        upstream: Arc<Upstream>,
        place: usize,
        counters: Rc<Counters>,
        group: Weak<Group<B>>,
    ) -> Self {
        let mut http1 = Builder::new();
        // One copy of a small body is cheaper than gathering it.
        http1.writev(false);
        http1.max_buf_size(READ_BUFFER);
        Self {
            upstream,
            place,
            pool: Pool::default(),
            counters,
            group,
            pending: Cell::new(0),
            http1,
        }
    }

    /// A new connection.
    pub(super) async fn connect(&self) -> Result<Sender<B>, Failure> {
        let stream = self.upstream.connect(self.target()).await?;
        self.counters.connections.increment(1);
        match stream {
            Stream::Plain(stream) => self.begin(stream).await,
            Stream::Encrypted(stream) => self.begin(*stream).await,
        }
    }

    async fn begin<T>(&self, stream: T) -> Result<Sender<B>, Failure>
    where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
    {
        let (sender, connection) = self
            .http1
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::BrokeOff(error.into()))?;
        tokio::task::spawn_local(async move {
            // What a request has to know of it, it is told.
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to an upstream broke off");
            }
        });
        Ok(sender)
    }

    /// Keeps a connection whose answer has ended for the next request.
    pub(super) fn give_back(self: &Rc<Self>, mut sender: Sender<B>) {
        if sender.is_ready() {
            self.keep(sender);
        } else if !sender.is_closed() {
            // The answer came before the end of the request body.
            let lane = Rc::clone(self);
            tokio::task::spawn_local(async move {
                if sender.ready().await.is_ok() {
                    lane.keep(sender);
                }
            });
        }
    }

    fn keep(self: &Rc<Self>, sender: Sender<B>) {
        let idle = &mut *self.pool.idle.borrow_mut();
        if idle.len() < self.upstream.config.max_idle {
            let since = Instant::now();
            idle.push(Idle { sender, since });
            if !self.pool.reaping.replace(true) {
                self.reap();
            }
        }
    }

    /// Drops connections that nobody needed for long, as long as there are any.
    fn reap(self: &Rc<Self>) {
        let lane = Rc::downgrade(self);
        let interval = self.upstream.config.idle_timeout;
        tokio::task::spawn_local(async move {
            loop {
                sleep(interval).await;
                let Some(lane) = lane.upgrade() else {
                    return;
                };
                lane.pool.drop_expired(&lane.upstream);
                if lane.pool.idle.borrow().is_empty() {
                    lane.pool.reaping.set(false);
                    return;
                }
            }
        });
    }
}
