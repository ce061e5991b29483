//! One worker: its runtime, its socket, its connections.

use std::io;
use std::iter::from_fn;
use std::net::{TcpListener as StdListener, TcpStream as StdStream};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use hyper::body::Incoming;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tower_service::Service;

use super::connection::Protocol;
use super::load::Loads;
use super::registry::Registry;
use super::{Accepted, BoxError, Config, Connection, Handed};

/// How long a worker waits after an error that accepting again would repeat,
/// as being out of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);

pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) config: Arc<Config>,
    pub(super) loads: Arc<Loads>,
    pub(super) stopped: watch::Receiver<bool>,
}

impl Worker {
    /// Serves until told to stop, then drains: returns how many connections it
    /// had to cut.
    pub(super) fn run<C, S, B>(
        self,
        listener: StdListener,
        handed: Handed,
        make: &impl Fn(usize) -> C,
    ) -> io::Result<usize>
    where
        C: Fn(Connection) -> S,
        S: Service<Request<Incoming>, Response = Response<B>> + 'static,
        S::Error: Into<BoxError>,
        B: http_body::Body<Data = Bytes> + 'static,
        B::Error: Into<BoxError>,
    {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        LocalSet::new().block_on(&runtime, async move {
            let for_connection = make(self.index);
            let protocol = Rc::new(Protocol::new(&self.config));
            let registry = Rc::new(Registry::default());
            let index = self.index;
            let loads = Arc::clone(&self.loads);
            let serve = |accepted: Accepted| {
                let service = for_connection(accepted.ends);
                let (protocol, counted) = (Rc::clone(&protocol), loads.count(index));
                let registered = registry.enter();
                tokio::task::spawn_local(async move {
                    protocol.serve(accepted.stream, service, registered).await;
                    drop(counted);
                });
            };
            self.accept_until_stopped(TcpListener::from_std(listener)?, handed, &serve)
                .await;
            registry.drain();
            let drained = timeout(self.config.drain_timeout, registry.emptied()).await;
            Ok(match drained {
                Ok(()) => 0,
                Err(_) => registry.open(),
            })
        })
    }

    async fn accept_until_stopped(
        &self,
        listener: TcpListener,
        mut handed: Handed,
        serve: &impl Fn(Accepted),
    ) {
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
                accepted = listener.accept() => accepted.map(|(stream, _)| self.keep(stream)),
                Some(stream) = handed.recv() => Ok(TcpStream::from_std(stream).ok()),
            };
            match accepted {
                Ok(Some(stream)) => begin(stream, serve),
                Ok(None) => {}
                Err(error) => pause_after(&error).await,
            }
        }
        // Clients whose connections the kernel has made already are served too.
        handed.close();
        let waiting = listener.into_std().into_iter();
        for stream in waiting.flat_map(|listener| from_fn(move || listener.accept().ok())) {
            begin_std(stream.0, serve);
        }
        while let Ok(stream) = handed.try_recv() {
            begin_std(stream, serve);
        }
    }

    /// The stream, unless there are too many or another worker takes it.
    fn keep(&self, stream: TcpStream) -> Option<TcpStream> {
        if self.loads.are_full() {
            tracing::debug!("server.max_connections are open: closing a new one");
            return None;
        }
        let Some(other) = self.loads.better_than(self.index) else {
            return Some(stream);
        };
        let stream = stream.into_std().ok()?;
        match self.loads.hand_on(stream, other) {
            Ok(()) => None,
            Err(stream) => TcpStream::from_std(stream).ok(),
        }
    }
}

fn begin(stream: TcpStream, serve: &impl Fn(Accepted)) {
    // A connection that is gone already has no ends.
    let (Ok(peer), Ok(local)) = (stream.peer_addr(), stream.local_addr()) else {
        return;
    };
    serve(Accepted {
        stream,
        ends: Connection { peer, local },
    });
}

fn begin_std(stream: StdStream, serve: &impl Fn(Accepted)) {
    let stream = stream
        .set_nonblocking(true)
        .and_then(|()| TcpStream::from_std(stream));
    if let Ok(stream) = stream {
        begin(stream, serve);
    }
}

async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    let of_one_connection = [
        ConnectionAborted,
        ConnectionRefused,
        ConnectionReset,
        Interrupted,
    ];
    if of_one_connection.contains(&error.kind()) {
        return;
    }
    tracing::warn!(%error, "cannot accept connections");
    sleep(PAUSE).await;
}
