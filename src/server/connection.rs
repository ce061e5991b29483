//! One connection, from its first request to its end.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use metrics::counter;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::coop;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use super::activity::{Activity, Limits, Overdue};
use super::http2::{OnThisThread, PREFACE};
use super::io::{Abort, WatchedIo};
use super::registry::Registered;
use super::service::{Served, Slot, Tunnels};
use super::{BoxError, Config, tunnel, unparsed};
use crate::clock::Turn;
use crate::pace::Pace;
use crate::telemetry::metric::{CONNECTIONS_CLOSED_FLOODING, CONNECTIONS_CLOSED_SLOW};

/// hyper's own number, for which it needs no allocation.
const USUAL_MAX_HEADERS: usize = 100;

/// How connections are served.
#[derive(Clone, Debug)]
pub(super) struct Protocol {
    http1: http1::Builder,
    http2: Option<http2::Builder<OnThisThread>>,
    max_headers: usize,
    max_age: Option<Duration>,
    limits: Limits,
}

impl Protocol {
    pub(super) fn new(config: &Config) -> Self {
        let header_bytes = usize::try_from(config.max_header_bytes.as_u64()).unwrap_or(usize::MAX);
        let mut http1 = http1::Builder::new();
        // One copy of a small body is cheaper than gathering it.
        http1.writev(false);
        http1.max_buf_size(header_bytes);
        http1.max_header_size(header_bytes);
        // Timed by the activity, which tells an idle connection from a slow head.
        http1.header_read_timeout(None);
        if config.max_headers != USUAL_MAX_HEADERS {
            http1.max_headers(config.max_headers);
        }
        Self {
            http1,
            http2: config.http2.builder(header_bytes),
            max_headers: config.max_headers,
            max_age: config.max_connection_age,
            limits: Limits {
                first_byte: config.first_byte_timeout.min(config.idle_timeout),
                header: config.header_timeout,
                idle: config.idle_timeout,
                taking: Pace {
                    patience: config.idle_timeout,
                    min_rate: config.min_rate.as_u64(),
                },
            },
        }
    }

    /// Serves `stream` until it ends, is told to drain, or takes too long.
    pub(super) async fn serve<T, S, B>(
        &self,
        stream: T,
        spoken: Spoken,
        service: S,
        registered: Registered,
    ) where
        T: AsyncRead + AsyncWrite + Abort + Unpin + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + 'static,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let retires = self.max_age.map(|age| Instant::now() + spread(age));
        let activity = Activity::new(spoken == Spoken::Http2, retires);
        let io = WatchedIo::new(stream, Rc::clone(&activity));
        if spoken == Spoken::Http2 {
            // Not part of every HTTP/1 connection's size.
            return Box::pin(self.serve_http2(io, service, &activity, &registered)).await;
        }
        let leaving = Some(Rc::clone(registered.registry()));
        let switched = Slot::default();
        let served = Served::new(
            service.clone(),
            Rc::clone(&activity),
            self.max_headers,
            leaving,
            Tunnels::Connection(Rc::clone(&switched)),
        );
        let mut connection = self.http1.serve_connection(io, served);
        let close = http1::Connection::graceful_shutdown;
        let driven = Pin::new(&mut connection);
        let end = self
            .drive(driven, close, &activity, &registered, true)
            .await;
        let http1::Parts {
            mut io, read_buf, ..
        } = connection.into_parts();
        if matches!(end, End::Ended(Err(_)))
            && !activity.has_served()
            && read_buf.starts_with(PREFACE)
        {
            let activity = Activity::new(true, retires);
            let io = io.rewound(read_buf, Rc::clone(&activity));
            return Box::pin(self.serve_http2(io, service, &activity, &registered)).await;
        }
        match end {
            End::Ended(Ok(())) => {
                if let Some(switched) = switched.take() {
                    let (stream, ahead) = io.into_parts();
                    let early = [read_buf, ahead].concat().into();
                    // Boxed, so that other connections need no room for it.
                    let tunnel = tunnel::run(stream, early, *switched, self.limits.idle);
                    Box::pin(tunnel).await;
                }
            }
            End::Ended(Err(error)) => tracing::debug!(%error, "a connection broke off"),
            End::Overdue(overdue) => {
                cut(overdue);
                match overdue {
                    Overdue::Head => io.say(&unparsed::answer(unparsed::TOO_SLOW)),
                    Overdue::Write => io.abort(),
                    Overdue::Idle | Overdue::Age | Overdue::Answer => {}
                }
            }
            End::Flooded => {}
        }
    }

    async fn serve_http2<T, S, B>(
        &self,
        mut io: WatchedIo<T>,
        service: S,
        activity: &Rc<Activity>,
        registered: &Registered,
    ) where
        T: AsyncRead + AsyncWrite + Unpin + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + 'static,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let Some(http2) = &self.http2 else {
            return io.say(&unparsed::answer(unparsed::NOT_HTTP));
        };
        let tunnels = Tunnels::Streams(self.limits.idle);
        let served = Served::new(
            service,
            Rc::clone(activity),
            self.max_headers,
            None,
            tunnels,
        );
        let mut connection = pin!(http2.serve_connection(io, served));
        let close = http2::Connection::graceful_shutdown;
        match self
            .drive(connection.as_mut(), close, activity, registered, false)
            .await
        {
            End::Ended(Ok(())) => {}
            End::Ended(Err(error)) => tracing::debug!(%error, "a connection broke off"),
            End::Overdue(overdue) => cut(overdue),
            End::Flooded => counter!(CONNECTIONS_CLOSED_FLOODING).increment(1),
        }
    }

    /// Drives a connection to its end; tells it to `close` when the worker
    /// drains, or it was idle for too long. Where there are `last_answers`, those
    /// have told the client before.
    async fn drive<C: Future<Output = hyper::Result<()>>>(
        &self,
        mut connection: Pin<&mut C>,
        close: fn(Pin<&mut C>),
        activity: &Activity,
        registered: &Registered,
        last_answers: bool,
    ) -> End {
        let mut timer = pin!(Timer::new(Instant::now() + self.limits.idle));
        let mut closing = false;
        poll_fn(|cx| {
            let _turn = Turn::begin();
            if !closing && registered.poll_closing(cx, last_answers) {
                closing = true;
                close(connection.as_mut());
            }
            loop {
                if let Poll::Ready(result) = connection.as_mut().poll(cx) {
                    return Poll::Ready(End::Ended(result));
                }
                if activity.is_flooded() {
                    return Poll::Ready(End::Flooded);
                }
                match timer.as_mut().poll(cx, activity, &self.limits) {
                    Poll::Pending => return Poll::Pending,
                    Poll::Ready(Overdue::Idle) if !closing => {
                        closing = true;
                        close(connection.as_mut());
                    }
                    Poll::Ready(Overdue::Age) => {
                        activity.is_retired();
                        if !std::mem::replace(&mut closing, true) {
                            close(connection.as_mut());
                        }
                    }
                    Poll::Ready(Overdue::Answer) => {
                        if !activity.give_up_unasked(self.limits.idle) {
                            return Poll::Ready(End::Overdue(Overdue::Answer));
                        }
                    }
                    Poll::Ready(overdue) => return Poll::Ready(End::Overdue(overdue)),
                }
            }
        })
        .await
    }
}

/// What a client said it would speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spoken {
    /// Or nothing: then it may be HTTP/2 all the same.
    Http1,
    Http2,
}

impl Spoken {
    pub(super) const fn of(is_http2: bool) -> Self {
        if is_http2 { Self::Http2 } else { Self::Http1 }
    }
}

/// Up to a tenth less, so that connections that came together do not all come back
/// together.
fn spread(age: Duration) -> Duration {
    // why: without chance they do, which is no harm to any of them.
    let chance = getrandom::u32().unwrap_or_default();
    age.mul_f64(1.0 - f64::from(chance) / f64::from(u32::MAX) / 10.0)
}

enum End {
    Ended(hyper::Result<()>),
    Overdue(Overdue),
    /// The client gave up most of what it asked for.
    Flooded,
}

fn cut(overdue: Overdue) {
    tracing::debug!(?overdue, "a connection was cut");
    let what = match overdue {
        Overdue::Idle => "idle",
        Overdue::Age => "age",
        Overdue::Head => "head",
        Overdue::Write | Overdue::Answer => "answer",
    };
    counter!(CONNECTIONS_CLOSED_SLOW, "what" => what).increment(1);
}

pin_project_lite::pin_project! {
    /// One timer for all that may be overdue.
    struct Timer {
        #[pin]
        sleep: Sleep,
        // Who is woken when it has run out.
        told: Option<Waker>,
    }
}

impl Timer {
    fn new(at: Instant) -> Self {
        Self {
            sleep: sleep_until(at),
            told: None,
        }
    }

    /// Called after the connection had its turn. Sets the timer only to an
    /// earlier time, or when it has run out.
    fn poll(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        activity: &Activity,
        limits: &Limits,
    ) -> Poll<Overdue> {
        let this = self.project();
        let (mut sleep, told) = (this.sleep, this.told);
        let due = activity.due(limits);
        if let Some((at, _)) = due
            && at < sleep.deadline()
        {
            sleep.as_mut().reset(at);
        } else if !sleep.is_elapsed()
            && told.as_ref().is_some_and(|told| told.will_wake(cx.waker()))
        {
            // Set as it was: to be asked again would change nothing.
            return Poll::Pending;
        }
        while sleep.as_mut().poll(cx).is_ready() {
            // Who was told has to say again that they wait.
            *told = None;
            let now = Instant::now();
            match due {
                Some((at, overdue)) if at <= now => {
                    // In case the connection is given more time.
                    sleep.as_mut().reset(now + limits.header);
                    return Poll::Ready(overdue);
                }
                Some((at, _)) => sleep.as_mut().reset(at),
                None => sleep.as_mut().reset(now + limits.idle),
            }
        }
        // Without a budget nobody was told, only asked to come again.
        *told = coop::has_budget_remaining().then(|| cx.waker().clone());
        Poll::Pending
    }
}
