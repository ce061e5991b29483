//! Workers: threads that each accept connections and serve them, to the end.
//!
//! A worker has one current-thread runtime and one listening socket of its own
//! (`SO_REUSEPORT`), so that a request never leaves its thread. The kernel
//! spreads new connections by hash; a worker that got far more than its share
//! hands new ones on.
//!
//! Sockets that another process opened are served in place of our own, however
//! many: each worker then has one at least.
//!
//! One address is served in plain, with TLS, or two, one each way.
//!
//! What is served is any service: the server knows nothing of keys or routes.
//! Stopping goes in three steps: accepting goes on for `drain_delay`, then
//! listeners are closed and every answer is its connection's last, idle
//! connections are closed after `drain_idle`, and what is in flight has
//! `drain_timeout` to end.

mod activity;
mod config;
mod connection;
mod crowd;
mod crumbs;
mod descriptors;
mod gate;
mod http2;
mod io;
mod listener;
mod load;
pub mod proxy_protocol;
mod registry;
mod response_body;
mod service;
mod tunnel;
mod unasked;
mod unparsed;
mod worker;

pub use config::{Config, Workers};
pub use http2::Config as Http2Config;
pub use listener::BindError;

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::{fmt, io as std_io};

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, watch};
use tower_service::Service;

use self::crowd::Crowd;
use self::listener::Bound;
use self::load::Loads;
use self::worker::{Door, Doors, Listeners, Worker};
use crate::inherited::{self, Inherited};
use crate::setting::Invalid;
use crate::threads::start_together;
use crate::tls::{Secured, Tls};

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// The two ends of a connection: where a balancer relays it, those that it tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    pub peer: SocketAddr,
    pub local: SocketAddr,
    /// `None` where it is not encrypted.
    pub tls: Option<Secured>,
}

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] BindError),
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Tls(Vec<Invalid>),
}

impl StartError {
    /// Another process has the port.
    pub fn is_taken(&self) -> bool {
        matches!(self, Self::Bind(error) if error.is_taken())
    }
}

/// Sockets, one per worker, that do not listen yet.
#[derive(Debug)]
pub struct Server {
    config: Config,
    workers: usize,
    tls: Option<Tls>,
    /// At `server.listen`.
    main: Bound,
    /// At `server.tls.listen`, when that is another address.
    encrypted: Option<Bound>,
}

impl Server {
    /// Opens the sockets. Clients are refused until the workers start: what they
    /// have to wait for may take long.
    pub fn bind(config: &Config) -> Result<Self, StartError> {
        Self::inherit(config, &mut Inherited::default())
    }

    /// As [`bind`](Self::bind), with the sockets that another process gave, where
    /// it did. They listen: their clients wait.
    pub fn inherit(config: &Config, inherited: &mut Inherited) -> Result<Self, StartError> {
        let tls =
            Tls::load("server.tls", &config.tls, config.http2.enabled).map_err(StartError::Tls)?;
        let workers = config.workers.count();
        let mut bound = |name, address, setting| {
            Bound::inherited_or_to(inherited, name, address, workers, setting)
        };
        let main = bound(inherited::TRAFFIC, config.listen, "server.listen")?;
        let beside = config.tls.listen.filter(|_| tls.is_some());
        let encrypted = beside
            .map(|address| bound(inherited::TLS, address, "server.tls.listen"))
            .transpose()?;
        Ok(Self {
            config: config.clone(),
            workers,
            tls,
            main,
            encrypted,
        })
    }

    /// Where it listens: with the port that was given for port 0.
    pub const fn address(&self) -> SocketAddr {
        self.main.address()
    }

    /// Where TLS is spoken: beside the [`address`](Self::address), or there.
    pub fn tls_address(&self) -> Option<SocketAddr> {
        let bound = self.encrypted.as_ref().unwrap_or(&self.main);
        self.tls.is_some().then_some(bound.address())
    }

    /// To load certificates anew.
    pub const fn tls(&self) -> Option<&Tls> {
        self.tls.as_ref()
    }

    pub const fn workers(&self) -> usize {
        self.workers
    }

    /// Copies of the sockets, by what they are for.
    pub fn copies(&self) -> std_io::Result<Vec<(String, OwnedFd)>> {
        let mut copies = Vec::new();
        let encrypted = self.encrypted.as_ref().map(|bound| (inherited::TLS, bound));
        for (name, bound) in [(inherited::TRAFFIC, &self.main)]
            .into_iter()
            .chain(encrypted)
        {
            let of_one = bound.copies()?.into_iter();
            copies.extend(of_one.map(|copy| (name.to_owned(), copy.into())));
        }
        Ok(copies)
    }

    /// Starts the workers, all or none. Each calls `make` with its number, on its
    /// own thread and inside its runtime, and what that returns for each
    /// connection.
    pub fn start<M, C, S, B>(self, make: M) -> std_io::Result<Running>
    where
        M: Fn(usize) -> C + Send + Sync + 'static,
        C: Fn(Connection) -> S + 'static,
        S: Service<Request<Incoming>, Response = Response<B>> + Clone + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let doors = open(self.main, self.encrypted, self.tls.is_some(), self.workers)?;
        let make = Arc::new(make);
        let (config, tls) = (Arc::new(self.config), self.tls);
        let (stop, stopped) = watch::channel(false);
        let stop = Stop(stop);
        let (ended, unfinished) = mpsc::unbounded_channel();
        let (handing, handed): (Vec<_>, Vec<_>) =
            doors.iter().map(|_| mpsc::unbounded_channel()).unzip();
        descriptors::take(config.max_connections);
        let loads = Arc::new(Loads::new(handing, config.max_connections));
        let crowd = Arc::new(Crowd::new(config.max_connections_per_address));
        let workers = doors.into_iter().zip(handed).enumerate();
        let workers = workers.map(|(index, (doors, handed))| {
            let worker = Worker {
                index,
                config: Arc::clone(&config),
                tls: tls.clone(),
                loads: Arc::clone(&loads),
                crowd: Arc::clone(&crowd),
                stopped: stopped.clone(),
            };
            let (make, ended) = (Arc::clone(&make), ended.clone());
            move || {
                let listeners = Listeners::new(doors)?;
                Ok(move |runtime: &Runtime| {
                    let unfinished = worker.run(runtime, listeners, handed, &*make);
                    // Nobody listens when nobody waits for the end.
                    let _ = ended.send(unfinished);
                })
            }
        });
        let threads = start_together("worker", workers)?;
        Ok(Running {
            stop,
            unfinished,
            threads,
            loads,
        })
    }
}

/// Listens, and gives each worker its sockets.
fn open(
    main: Bound,
    encrypted: Option<Bound>,
    has_tls: bool,
    workers: usize,
) -> Result<Vec<Doors>, BindError> {
    let at_main = if has_tls && encrypted.is_none() {
        Door::Encrypted
    } else {
        Door::Plain
    };
    let mut of_workers: Vec<Doors> = (0..workers).map(|_| Doors::new()).collect();
    let encrypted = encrypted.map(|bound| (Door::Encrypted, bound));
    for (door, bound) in [(at_main, main)].into_iter().chain(encrypted) {
        for (doors, listeners) in of_workers.iter_mut().zip(bound.listen(workers)?) {
            doors.extend(listeners.into_iter().map(|listener| (door, listener)));
        }
    }
    Ok(of_workers)
}

/// Handed to another worker by the one that accepted it.
type Handed = mpsc::UnboundedReceiver<Raw>;

/// Workers that serve.
pub struct Running {
    stop: Stop,
    unfinished: mpsc::UnboundedReceiver<usize>,
    threads: Vec<JoinHandle<()>>,
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

    /// Waits until all workers have ended, after a [`Stop`].
    pub async fn ended(mut self) -> std_io::Result<Drained> {
        let mut unfinished = 0;
        while let Some(of_one) = self.unfinished.recv().await {
            unfinished += of_one;
        }
        for thread in self.threads {
            if thread.join().is_err() {
                return Err(std_io::Error::other("a worker panicked"));
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

/// An accepted connection that no runtime has yet.
struct Raw {
    stream: std::net::TcpStream,
    door: Door,
}
