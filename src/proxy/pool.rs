//! The connections of one worker to one target.

use std::cell::{Cell, RefCell};
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use futures_util::future::Either;
use http::Request;
use http_body::Body;
use hyper::client::conn::http1::{Builder, SendRequest};
use hyper_util::rt::TokioIo;
use metrics::{Counter, counter};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep};

use super::exchange::Answered;
use super::http2::{self, Multiplex, Place};
use super::lanes::Group;
use super::request_body::RequestBody;
use super::upstream::{Permits, Stream, Target, Upstream};
use super::{BoxError, Failure};
use crate::context::UpstreamFailure;
use crate::telemetry::metric::{UPSTREAM_CONNECTIONS, UPSTREAM_FAILURES, UPSTREAM_RETRIES};

/// The most that is read ahead of a client; also the largest head of an answer.
const READ_BUFFER: usize = 64 * 1024;

/// A connection of HTTP/1.1, which is free for one request.
type Http1<B> = SendRequest<RequestBody<B>>;

/// What one request can be sent over.
pub(super) enum Sender<B> {
    Http1(Http1<B>),
    Http2(Place<B>),
}

impl<B> Sender<B>
where
    B: Body<Data = bytes::Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    pub(super) fn try_send_request(
        &mut self,
        request: Request<RequestBody<B>>,
    ) -> impl Future<Output = Answered<B>> + use<B> {
        match self {
            Self::Http1(sender) => Either::Left(sender.try_send_request(request)),
            Self::Http2(place) => Either::Right(place.sender().try_send_request(request)),
        }
    }
}

/// The connections to one target that wait for a request. The one used last
/// is used first, so that those that are not needed grow old.
pub(super) struct Pool<B> {
    /// Oldest first.
    idle: RefCell<Vec<Idle<B>>>,
    reaping: Cell<bool>,
}

struct Idle<B> {
    sender: Http1<B>,
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
    fn take(&self) -> Option<Http1<B>> {
        let idle = &mut *self.idle.borrow_mut();
        std::iter::from_fn(|| idle.pop())
            .map(|idle| idle.sender)
            .find(Http1::is_ready)
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
    pool: Pool<B>,
    /// Where it is spoken to in HTTP/2.
    multiplex: Option<Rc<Multiplex<B>>>,
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
        let mut http1 = Builder::new();
        // One copy of a small body is cheaper than gathering it.
        http1.writev(false);
        http1.max_buf_size(READ_BUFFER);
        Self {
            upstream,
            place,
            pool: Pool::default(),
            multiplex,
            counters,
            group,
            pending: Cell::new(0),
            http1,
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
        match stream {
            Stream::Plain(stream) => http2::begin(stream).await,
            Stream::Encrypted(stream) => http2::begin(*stream).await,
        }
    }

    async fn connect_http1(&self) -> Result<Http1<B>, Failure> {
        let stream = self.upstream.connect(self.target()).await?;
        self.counters.connections.increment(1);
        match stream {
            Stream::Plain(stream) => self.begin(stream).await,
            Stream::Encrypted(stream) => self.begin(*stream).await,
        }
    }

    async fn begin<T>(&self, stream: T) -> Result<Http1<B>, Failure>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = self
            .http1
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| Failure::BrokeOff(error.into()))?;
        tokio::task::spawn_local(async move {
            // What a request has to know of it, it is told.
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a connection to an upstream broke off");
            }
        });
        Ok(sender)
    }

    /// Sends no more requests over a connection that turned one away.
    pub(super) fn retire(&self, sender: &Sender<B>) {
        if let (Some(multiplex), Sender::Http2(place)) = (&self.multiplex, sender) {
            multiplex.retire(place);
        }
    }

    /// Keeps a connection whose answer has ended for the next request.
    pub(super) fn give_back(self: &Rc<Self>, sender: Sender<B>) {
        // Of HTTP/2, the place is given back by dropping it.
        let Sender::Http1(mut sender) = sender else {
            return;
        };
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

    fn keep(self: &Rc<Self>, sender: Http1<B>) {
        let idle = &mut *self.pool.idle.borrow_mut();
        if idle.len() < self.upstream.config.max_idle {
            let since = Instant::now();
            idle.push(Idle { sender, since });
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
        let interval = self.upstream.config.idle_timeout;
        tokio::task::spawn_local(async move {
            loop {
                sleep(interval).await;
                let Some(lane) = lane.upgrade() else {
                    return;
                };
                lane.pool.drop_expired(&lane.upstream);
                let left = |multiplex: &Rc<Multiplex<B>>| multiplex.drop_idle(interval);
                let left = lane.multiplex.as_ref().is_some_and(left);
                if !left && lane.pool.idle.borrow().is_empty() {
                    lane.pool.reaping.set(false);
                    return;
                }
            }
        });
    }
}
