//! Threads that answer questions.

use std::convert::Infallible;
use std::fmt;
use std::future::ready;
use std::io;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::TokioTimer;
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::{sleep, timeout};
use tower_service::Service;

use super::Listeners;
use super::caller::Caller;
use super::desk::Desk;
use super::dialect::Dialect;
use super::door::{Door, Stage};
use super::listener::{Bound, Listener};
use super::meters::Meters;
use crate::socket_file::SocketFile;
use crate::threads::start_together;
use crate::tls::Tls;

/// Of all threads together; more wait to be accepted. A proxy keeps few.
const CONNECTIONS: usize = 4096;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How long things may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the next question's head, on a connection that has none.
    pub idle_timeout: Duration,
    pub drain_delay: Duration,
    /// For a question that may be on its way, on a connection that has none.
    pub drain_idle: Duration,
    pub drain_timeout: Duration,
}

/// Threads that answer.
pub struct Running {
    stop: watch::Sender<bool>,
    threads: Vec<JoinHandle<()>>,
    ended: mpsc::UnboundedReceiver<()>,
    // Removed once nobody listens.
    files: Vec<SocketFile>,
}

impl Listeners {
    /// Starts `threads` of them, all or none. Each calls `make` with its number, on its own
    /// thread and inside its runtime, and what that returns with the address of
    /// each client. `told` are the fields that an answer alone may say.
    pub fn start<M, C, S, B>(
        self,
        threads: usize,
        limits: Limits,
        told: &[HeaderName],
        make: M,
    ) -> io::Result<Running>
    where
        M: Fn(usize) -> C + Send + Sync + 'static,
        C: Fn(IpAddr) -> S + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + 'static,
        B: Body<Data = Bytes, Error: Into<BoxError>> + 'static,
    {
        let make = Arc::new(make);
        let told: Arc<[HeaderName]> = told.into();
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let (stop, stopped) = watch::channel(false);
        let (alive, ended) = mpsc::unbounded_channel();
        let tasks = (0..threads).map(|number| {
            let thread = Thread {
                limits,
                told: Arc::clone(&told),
                places: Arc::clone(&places),
                stopped: stopped.clone(),
            };
            let listeners: io::Result<Vec<_>> = self.0.iter().map(Listener::share).collect();
            let (make, alive) = (Arc::clone(&make), alive.clone());
            move || {
                let listeners: io::Result<Vec<_>> =
                    listeners?.into_iter().map(Shared::register).collect();
                let listeners = listeners?;
                Ok(move |runtime: &Runtime| {
                    thread.run(runtime, listeners, || make(number));
                    drop(alive);
                })
            }
        });
        let threads = start_together("decision", tasks)?;
        let files = self
            .0
            .into_iter()
            .filter_map(|listener| match listener.bound {
                Bound::Socket(_, file) => file,
                Bound::Address(..) => None,
            });
        Ok(Running {
            stop,
            threads,
            ended,
            files: files.collect(),
        })
    }
}

impl Running {
    /// Begins the draining; returns at once.
    pub fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Leaves the files to a process that was given their sockets.
    pub fn leave_files(&mut self) {
        self.files.drain(..).for_each(SocketFile::leave);
    }

    /// Waits until all threads have ended.
    pub async fn ended(mut self) -> io::Result<()> {
        // Nothing is ever sent: it ends with its last sender.
        while self.ended.recv().await.is_some() {}
        for thread in self.threads {
            if thread.join().is_err() {
                return Err(io::Error::other("a thread that decides panicked"));
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").finish_non_exhaustive()
    }
}

/// One thread's share of a listener.
struct Shared<S> {
    name: String,
    dialect: Dialect,
    caller: Caller,
    socket: S,
}

enum Socket {
    Tcp(std::net::TcpListener, Option<Tls>),
    Unix(std::os::unix::net::UnixListener),
}

/// One that its thread's runtime knows.
enum Registered {
    Tcp(TcpListener, Option<Tls>),
    Unix(UnixListener),
}

impl Listener {
    fn share(&self) -> io::Result<Shared<Socket>> {
        Ok(Shared {
            name: self.name.clone(),
            dialect: self.dialect,
            caller: self.caller.clone(),
            socket: match &self.bound {
                Bound::Address(listener, tls) => Socket::Tcp(listener.try_clone()?, tls.clone()),
                Bound::Socket(listener, _) => Socket::Unix(listener.try_clone()?),
            },
        })
    }
}

impl Shared<Socket> {
    /// In the runtime of its thread.
    fn register(self) -> io::Result<Shared<Registered>> {
        Ok(Shared {
            name: self.name,
            dialect: self.dialect,
            caller: self.caller,
            socket: match self.socket {
                Socket::Tcp(listener, tls) => {
                    Registered::Tcp(TcpListener::from_std(listener)?, tls)
                }
                Socket::Unix(listener) => Registered::Unix(UnixListener::from_std(listener)?),
            },
        })
    }
}

struct Thread {
    limits: Limits,
    told: Arc<[HeaderName]>,
    places: Arc<Semaphore>,
    stopped: watch::Receiver<bool>,
}

impl Thread {
    fn run<C, S, B>(
        self,
        runtime: &Runtime,
        listeners: Vec<Shared<Registered>>,
        make: impl FnOnce() -> C,
    ) where
        C: Fn(IpAddr) -> S + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + 'static,
        B: Body<Data = Bytes, Error: Into<BoxError>> + 'static,
    {
        let mut stopped = self.stopped;
        let limits = self.limits;
        LocalSet::new().block_on(runtime, async move {
            let for_client = Rc::new(make());
            let (tell, stage) = watch::channel(Stage::Open);
            let (alive, mut ended) = mpsc::channel::<Infallible>(1);
            for shared in listeners {
                let desk = Rc::new(Desk {
                    meters: Meters::of(&shared.name),
                    dialect: shared.dialect,
                    caller: shared.caller,
                    told: Arc::clone(&self.told),
                    for_client: Rc::clone(&for_client),
                });
                let door = Door {
                    desk,
                    http1: http1(limits),
                    places: Arc::clone(&self.places),
                    stage: stage.clone(),
                    alive: alive.clone(),
                };
                match shared.socket {
                    Registered::Tcp(listener, None) => {
                        spawn_local(door.keep(listener, |stream| ready(Some(stream))));
                    }
                    #[cfg(feature = "tls")]
                    Registered::Tcp(listener, Some(tls)) => {
                        spawn_local(door.keep(listener, move |stream| {
                            let tls = tls.clone();
                            async move { Some(tls.accept(stream).await?.stream) }
                        }));
                    }
                    Registered::Unix(listener) => {
                        spawn_local(door.keep(listener, |stream| ready(Some(stream))));
                    }
                }
            }
            drop(alive);
            // A sender that is gone says the same.
            let _ = stopped.wait_for(|stopped| *stopped).await;
            sleep(limits.drain_delay).await;
            tell.send_replace(Stage::Leaving);
            let in_all = limits.drain_timeout;
            let idle = limits.drain_idle.min(in_all / 2);
            // What is still open then is cut.
            let _ = timeout(in_all, async {
                if timeout(idle, ended.recv()).await.is_err() {
                    tell.send_replace(Stage::Closing);
                    ended.recv().await;
                }
            })
            .await;
        });
    }
}

fn http1(limits: Limits) -> http1::Builder {
    let mut http1 = http1::Builder::new();
    http1
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout);
    http1
}
