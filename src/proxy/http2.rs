//! The HTTP/2 connections of one worker to one target.
//!
//! A connection has no more streams than its receive window has room for when
//! all their clients stand still: each of them stalls its own stream, and no
//! other.

use std::cell::{Cell, RefCell};
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::Reason;
use http_body::Body;
use hyper::client::conn::http2::{self, Builder, SendRequest};
use hyper::rt::Executor;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::request_body::RequestBody;
use super::upstream::Stream;
use super::{BoxError, Failure};

/// What is read ahead of one client, and written ahead of one upstream.
const STREAM_WINDOW: u32 = 64 * 1024;

/// How many streams a connection has at most; fewer where the peer says so.
const MOST_STREAMS: u32 = 100;

/// What is read ahead of all clients of a connection.
const CONNECTION_WINDOW: u32 = STREAM_WINDOW * MOST_STREAMS;

/// The largest head of an answer.
const HEAD: u32 = 64 * 1024;

/// Who waits for a stream looks so often whether the peer allows more by now:
/// nobody is told.
const LOOKING: Duration = Duration::from_millis(20);

/// A peer that is gone without a word is noticed after both.
const PING_INTERVAL: Duration = Duration::from_secs(10);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// The connections that streams can be begun on.
pub(super) struct Multiplex<B> {
    connections: RefCell<Vec<Rc<Connection<B>>>>,
    /// How many are being opened.
    opening: Cell<usize>,
    /// How many could not be opened.
    unopened: Cell<u64>,
    /// A stream has ended, or a connection was opened or could not be.
    changed: Notify,
}

pub(super) struct Connection<B> {
    sender: SendRequest<RequestBody<B>>,
    streams: Cell<usize>,
    /// How many the peer allows, as of its last SETTINGS.
    allowed: Box<dyn Fn() -> usize>,
    idle_since: Cell<Instant>,
}

/// Room for one stream, until this is dropped.
pub(super) struct Place<B> {
    connection: Rc<Connection<B>>,
    multiplex: Rc<Multiplex<B>>,
}

impl<B> Connection<B> {
    fn has_room(&self) -> bool {
        self.streams.get() < (self.allowed)().min(MOST_STREAMS as usize)
    }
}

impl<B> Place<B> {
    pub(super) fn sender(&self) -> SendRequest<RequestBody<B>> {
        self.connection.sender.clone()
    }
}

impl<B> Drop for Place<B> {
    fn drop(&mut self) {
        let connection = &self.connection;
        connection.streams.set(connection.streams.get() - 1);
        connection.idle_since.set(Instant::now());
        self.multiplex.changed.notify_one();
    }
}

impl<B> Multiplex<B> {
    pub(super) fn new() -> Rc<Self> {
        Rc::new(Self {
            connections: RefCell::new(Vec::new()),
            opening: Cell::new(0),
            unopened: Cell::new(0),
            changed: Notify::new(),
        })
    }

    /// A place on the open connection that has most room.
    pub(super) fn take(self: &Rc<Self>) -> Option<Place<B>> {
        let connections = &mut *self.connections.borrow_mut();
        connections.retain(|connection| !connection.sender.is_closed());
        let freest = connections
            .iter()
            .filter(|connection| connection.has_room())
            .min_by_key(|connection| connection.streams.get())?;
        Some(self.place_on(freest))
    }

    fn place_on(self: &Rc<Self>, connection: &Rc<Connection<B>>) -> Place<B> {
        connection.streams.set(connection.streams.get() + 1);
        Place {
            connection: Rc::clone(connection),
            multiplex: Rc::clone(self),
        }
    }

    /// A place, waiting for one, or for a new connection where there may be one
    /// more; and whether it was there before.
    pub(super) async fn place<F>(
        self: &Rc<Self>,
        most: usize,
        patience: Duration,
        connect: impl Fn() -> F,
    ) -> Result<(Place<B>, bool), Failure>
    where
        F: Future<Output = Result<Connection<B>, Failure>>,
    {
        let (until, unopened) = (Instant::now() + patience, self.unopened.get());
        loop {
            if let Some(place) = self.take() {
                return Ok((place, true));
            }
            let connections = self.connections.borrow().len();
            if connections + self.opening.get() < most {
                let opening = Opening::begin(self);
                let connection = Rc::new(connect().await?);
                // Whatever has become of it meanwhile, its first request finds out:
                // a peer that closes at once is not connected to again and again.
                let place = self.place_on(&connection);
                self.connections.borrow_mut().push(connection);
                opening.done();
                return Ok((place, false));
            }
            if connections == 0 && self.unopened.get() != unopened {
                // What it waited for has failed.
                let error = io::Error::other("another request found that there is no connection");
                return Err(Failure::Connect(error));
            }
            if Instant::now() >= until {
                return Err(Failure::Busy);
            }
            let next = until.min(Instant::now() + LOOKING);
            // why: whatever ended the waiting, it is looked again.
            timeout_at(next, self.changed.notified()).await.ok();
        }
    }

    /// Begins no more streams on the connection of `place`.
    pub(super) fn retire(&self, place: &Place<B>) {
        let connections = &mut *self.connections.borrow_mut();
        connections.retain(|connection| !Rc::ptr_eq(connection, &place.connection));
    }

    /// Closes what nobody needed for long. Says whether any are left.
    pub(super) fn drop_idle(&self, after: Duration) -> bool {
        let connections = &mut *self.connections.borrow_mut();
        connections.retain(|connection| {
            let idle = connection.streams.get() == 0
                && connection.idle_since.get() + after <= Instant::now();
            !idle && !connection.sender.is_closed()
        });
        !connections.is_empty()
    }
}

/// A connection is being opened.
struct Opening<'a, B> {
    multiplex: &'a Multiplex<B>,
    done: Cell<bool>,
}

impl<'a, B> Opening<'a, B> {
    fn begin(multiplex: &'a Multiplex<B>) -> Self {
        multiplex.opening.set(multiplex.opening.get() + 1);
        Self {
            multiplex,
            done: Cell::new(false),
        }
    }

    fn done(self) {
        self.done.set(true);
    }
}

impl<B> Drop for Opening<'_, B> {
    fn drop(&mut self) {
        let multiplex = self.multiplex;
        multiplex.opening.set(multiplex.opening.get() - 1);
        if !self.done.get() {
            multiplex.unopened.set(multiplex.unopened.get() + 1);
        }
        multiplex.changed.notify_waiters();
    }
}

/// Whether the peer said of a request that it did nothing with it: it refused the
/// stream, or went away before it (RFC 9113, section 8.7). Of streams that it may
/// have taken, h2 reports no GOAWAY, but how the connection broke off.
pub(super) fn is_turned_away(error: &hyper::Error) -> bool {
    let error = error.source().and_then(|error| error.downcast_ref());
    error.is_some_and(|error: &h2::Error| {
        error.is_remote() && (error.is_go_away() || error.reason() == Some(Reason::REFUSED_STREAM))
    })
}

/// Begins HTTP/2 on a new connection.
pub(super) async fn begin<B>(stream: Stream) -> Result<Connection<B>, Failure>
where
    B: Body<Data = Bytes> + Unpin + 'static,
    B::Error: Into<BoxError>,
{
    let (sender, connection) = Builder::new(Local)
        .timer(TokioTimer::new())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_send_buf_size(STREAM_WINDOW as usize)
        .max_header_list_size(HEAD)
        // Until the peer says how many.
        .initial_max_send_streams(1)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(|error| Failure::BrokeOff(error.into()))?;
    let connection = Rc::new(RefCell::new(Some(connection)));
    let asked = Rc::clone(&connection);
    tokio::task::spawn_local(async move {
        let ended = poll_fn(|cx| match &mut *connection.borrow_mut() {
            Some(connection) => Pin::new(connection).poll(cx),
            None => Poll::Ready(Ok(())),
        });
        let ended = ended.await;
        // Dropped, it tells the requests that it still has.
        connection.borrow_mut().take();
        // What a request has to know of it, it is told.
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection to an upstream broke off");
        }
    });
    let allowed = move || {
        let connection = asked.borrow();
        let open = connection.as_ref();
        open.map_or(0, http2::Connection::current_max_send_streams)
    };
    Ok(Connection {
        sender,
        streams: Cell::new(0),
        allowed: Box::new(allowed),
        idle_since: Cell::new(Instant::now()),
    })
}

/// Runs what belongs to a connection beside it, on its worker.
#[derive(Clone, Copy, Debug)]
struct Local;

impl<F: Future<Output = ()> + 'static> Executor<F> for Local {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
