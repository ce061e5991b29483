//! Workers: threads that each accept connections and serve them, to the end.
//!
//! A worker has one current-thread runtime and one listening socket of its own
//! (`SO_REUSEPORT`), so that a request never leaves its thread. The kernel
//! spreads new connections by hash; a worker that got far more than its share
//! hands new ones on.
//!
//! What is served is any service: the server knows nothing of keys or routes.
//! Stopping goes in three steps: accepting goes on for `drain_delay`, then
//! listeners and idle connections are closed, then what is in flight has
//! `drain_timeout` to end.

mod activity;
mod config;
mod connection;
mod io;
mod listener;
mod load;
mod registry;
mod response_body;
mod service;
mod unparsed;
mod worker;

pub use config::{Config, Workers};
pub use listener::BindError;

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::{fmt, io as std_io};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tower_service::Service;

use self::listener::Bound;
use self::load::Loads;
use self::worker::Worker;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The two ends of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    pub peer: SocketAddr,
    pub local: SocketAddr,
}

/// Sockets, one per worker, that do not listen yet.
#[derive(Debug)]
pub struct Server {
    config: Config,
    bound: Bound,
}

impl Server {
    /// Opens the sockets. Clients are refused until the workers start: what they
    /// have to wait for may take long.
    pub fn bind(config: &Config) -> Result<Self, BindError> {
        Ok(Self {
            config: config.clone(),
            bound: Bound::to(config.listen, config.workers.count())?,
        })
    }

    /// Where it listens: with the port that was given for port 0.
    pub const fn address(&self) -> SocketAddr {
        self.bound.address()
    }

    pub const fn workers(&self) -> usize {
        self.bound.count()
    }

    /// Starts the workers. Each calls `make` with its number, on its own
    /// thread and inside its runtime, and what that returns for each
    /// connection.
    pub fn start<M, C, S, B>(self, make: M) -> std_io::Result<Running>
    where
        M: Fn(usize) -> C + Send + Sync + 'static,
        C: Fn(Connection) -> S,
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let listeners = self.bound.listen()?;
        let make = Arc::new(make);
        let config = Arc::new(self.config);
        let (stop, stopped) = watch::channel(false);
        let stop = Stop(stop);
        let (ended, unfinished) = mpsc::unbounded_channel();
        let (handing, handed): (Vec<_>, Vec<_>) =
            listeners.iter().map(|_| mpsc::unbounded_channel()).unzip();
        let loads = Arc::new(Loads::new(handing, config.max_connections));
        let mut threads = Vec::with_capacity(listeners.len());
        for (index, (listener, handed)) in listeners.into_iter().zip(handed).enumerate() {
            let worker = Worker {
                index,
                config: Arc::clone(&config),
                loads: Arc::clone(&loads),
                stopped: stopped.clone(),
            };
            let (make, ended, stop) = (Arc::clone(&make), ended.clone(), stop.clone());
            let thread = std::thread::Builder::new()
                .name(format!("worker-{index}"))
                .spawn(move || {
                    let unfinished = worker.run(listener, handed, &*make).inspect_err(|_| {
                        stop.stop();
                    })?;
                    // Nobody listens when nobody waits for the end.
                    let _ = ended.send(unfinished);
                    Ok(())
                })?;
            threads.push(thread);
        }
        Ok(Running {
            stop,
            unfinished,
            threads,
            loads,
        })
    }
}

/// Handed to another worker by the one that accepted it.
type Handed = mpsc::UnboundedReceiver<std::net::TcpStream>;

/// Workers that serve.
pub struct Running {
    stop: Stop,
    unfinished: mpsc::UnboundedReceiver<usize>,
    threads: Vec<JoinHandle<std_io::Result<()>>>,
    loads: Arc<Loads>,
}

/// Tells the workers to stop. Clones tell the same.
#[derive(Clone, Debug)]
pub struct Stop(watch::Sender<bool>);

impl Stop {
    /// Begins the draining; returns at once. A second call changes nothing.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drained {
    /// Connections that were cut because `drain_timeout` was over.
    pub unfinished: usize,
}

impl Running {
    pub fn stop(&self) -> Stop {
        self.stop.clone()
    }

    /// Open connections, of all workers.
    pub fn connections(&self) -> usize {
        self.loads.total()
    }

    /// Waits until all workers have ended: after a [`Stop`], or because one of
    /// them could not begin.
    pub async fn ended(mut self) -> std_io::Result<Drained> {
        let mut unfinished = 0;
        while let Some(of_one) = self.unfinished.recv().await {
            unfinished += of_one;
        }
        for thread in self.threads {
            match thread.join() {
                Ok(result) => result?,
                Err(_) => return Err(std_io::Error::other("a worker panicked")),
            }
        }
        Ok(Drained { unfinished })
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("workers", &self.threads.len())
            .finish_non_exhaustive()
    }
}

/// An accepted connection, before it is served.
struct Accepted {
    stream: TcpStream,
    ends: Connection,
}
