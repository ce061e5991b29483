//! One worker: its runtime, its sockets, its connections.

use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::iter::from_fn;
use std::net::TcpListener as StdListener;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep_until, timeout};
use tower_service::Service;

use super::connection::{Protocol, Spoken};
use super::crowd::Crowd;
use super::gate::Gate;
use super::load::Loads;
use super::registry::Registry;
use super::{BoxError, Config, Connection, Handed, Raw};
use crate::accepting::AcceptFailures;
use crate::tls::Tls;

/// Which way a connection came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Door {
    Plain,
    Encrypted,
}

/// The listening sockets of one worker.
pub(super) type Doors = Vec<(Door, StdListener)>;

pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) tls: Option<Tls>,
    pub(super) config: Arc<Config>,
    pub(super) loads: Arc<Loads>,
    pub(super) crowd: Arc<Crowd>,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Worker {
    /// Serves until told to stop, then drains: returns how many connections it
    /// had to cut.
    pub(super) fn run<C, S, B>(
        self,
        runtime: &Runtime,
        listeners: Listeners,
        handed: Handed,
        make: &impl Fn(usize) -> C,
    ) -> usize
    where
        C: Fn(Connection) -> S + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        LocalSet::new().block_on(runtime, async move {
            let for_connection = Rc::new(make(self.index));
            let protocol = Rc::new(Protocol::new(&self.config));
            let registry = Rc::new(Registry::default());
            let gate = Rc::new(Gate::new(&self.config, Arc::clone(&self.crowd)));
            let index = self.index;
            let loads = Arc::clone(&self.loads);
            let serve = |accepted: Accepted| {
                let (protocol, counted) = (Rc::clone(&protocol), loads.count(index));
                let for_connection = Rc::clone(&for_connection);
                let (registered, gate) = (registry.enter(), Rc::clone(&gate));
                let Accepted {
                    mut stream,
                    door,
                    ends,
                } = accepted;
                match (door, self.tls.clone()) {
                    (Door::Plain, _) => {
                        tokio::task::spawn_local(async move {
                            if let Some(entered) = gate.pass(&mut stream, ends).await {
                                let service = for_connection(entered.ends);
                                protocol
                                    .serve(stream, Spoken::Http1, service, registered)
                                    .await;
                                drop(entered.present);
                            }
                            drop(counted);
                        });
                    }
                    (Door::Encrypted, Some(tls)) => {
                        tokio::task::spawn_local(async move {
                            if let Some(entered) = gate.pass(&mut stream, ends).await
                                && let Some(encrypted) = tls.accept(stream).await
                            {
                                let spoken = Spoken::of(encrypted.is_http2);
                                let service = for_connection(Connection {
                                    tls: Some(encrypted.secured),
                                    ..entered.ends
                                });
                                protocol
                                    .serve(encrypted.stream, spoken, service, registered)
                                    .await;
                                drop(entered.present);
                            }
                            drop(counted);
                        });
                    }
                    // Such a door is made for a TLS that is there.
                    (Door::Encrypted, None) => {}
                }
            };
            self.accept_until_stopped(listeners, handed, &serve).await;
            let in_all = self.config.drain_timeout;
            let idle = self.config.drain_idle.min(in_all / 2);
            let drained = timeout(in_all, async {
                registry.leave();
                if timeout(idle, registry.emptied()).await.is_err() {
                    registry.drain();
                    registry.emptied().await;
                }
            });
            match drained.await {
                Ok(()) => 0,
                Err(_) => registry.open(),
            }
        })
    }

    async fn accept_until_stopped(
        &self,
        listeners: Listeners,
        mut handed: Handed,
        serve: &impl Fn(Accepted),
    ) {
        let mut failures = AcceptFailures::of("traffic");
        let mut stopped = self.stopped.clone();
        let mut end = std::pin::pin!(async {
            // An error means that the server is gone, which stops as well.
            let _ = stopped.wait_for(|stopped| *stopped).await;
            sleep_until(Instant::now() + self.config.drain_delay).await;
        });
        loop {
            let accepted = tokio::select! {
                biased;
                () = &mut end => break,
                (door, accepted) = listeners.accept() => {
                    accepted.map(|stream| self.keep(stream, door))
                }
                Some(raw) = handed.recv() => Ok(Accepted::of(raw)),
            };
            match accepted {
                Ok(Some(accepted)) => serve(accepted),
                Ok(None) => {}
                Err(error) => failures.survive(&error).await,
            }
        }
        // Clients whose connections the kernel has made already are served too.
        handed.close();
        for (door, listener) in listeners.into_std() {
            for (stream, _) in from_fn(|| listener.accept().ok()) {
                begin_std(Raw { stream, door }, serve);
            }
        }
        while let Ok(raw) = handed.try_recv() {
            begin_std(raw, serve);
        }
    }

    /// The connection, unless there are too many or another worker takes it.
    fn keep(&self, stream: TcpStream, door: Door) -> Option<Accepted> {
        if self.loads.are_full() {
            tracing::debug!("server.max_connections are open: closing a new one");
            return None;
        }
        let Some(other) = self.loads.better_than(self.index) else {
            return Accepted::new(stream, door);
        };
        let stream = stream.into_std().ok()?;
        match self.loads.hand_on(Raw { stream, door }, other) {
            Ok(()) => None,
            Err(raw) => Accepted::of(raw),
        }
    }
}

/// The listening sockets, of which none can keep another from its turn.
pub(super) struct Listeners {
    doors: Vec<(Door, TcpListener)>,
    last: Cell<usize>,
}

impl Listeners {
    /// In the runtime of their worker.
    pub(super) fn new(doors: Doors) -> io::Result<Self> {
        let listening = |(door, listener)| Ok((door, TcpListener::from_std(listener)?));
        Ok(Self {
            doors: doors
                .into_iter()
                .map(listening)
                .collect::<io::Result<_>>()?,
            last: Cell::new(0),
        })
    }

    async fn accept(&self) -> (Door, io::Result<TcpStream>) {
        poll_fn(|cx| self.poll_accept(cx)).await
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<(Door, io::Result<TcpStream>)> {
        let count = self.doors.len();
        for step in 1..=count {
            let at = (self.last.get() + step) % count;
            let (door, listener) = &self.doors[at];
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                self.last.set(at);
                return Poll::Ready((*door, accepted.map(|(stream, _)| stream)));
            }
        }
        Poll::Pending
    }

    fn into_std(self) -> impl Iterator<Item = (Door, StdListener)> {
        let doors = self.doors.into_iter();
        doors.filter_map(|(door, listener)| Some((door, listener.into_std().ok()?)))
    }
}

/// An accepted connection, before it is served.
struct Accepted {
    stream: TcpStream,
    door: Door,
    ends: Connection,
}

impl Accepted {
    /// `None` for a connection that is gone already: it has no ends.
    fn new(stream: TcpStream, door: Door) -> Option<Self> {
        let ends = Connection {
            peer: stream.peer_addr().ok()?,
            local: stream.local_addr().ok()?,
            tls: None,
        };
        Some(Self { stream, door, ends })
    }

    fn of(raw: Raw) -> Option<Self> {
        Self::new(TcpStream::from_std(raw.stream).ok()?, raw.door)
    }
}

fn begin_std(raw: Raw, serve: &impl Fn(Accepted)) {
    if raw.stream.set_nonblocking(true).is_ok()
        && let Some(accepted) = Accepted::of(raw)
    {
        serve(accepted);
    }
}
