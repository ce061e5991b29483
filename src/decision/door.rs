//! Where connections come in that lead to a desk, and how they end.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::iter::from_fn;
use std::net::IpAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONNECTION;
use http::{HeaderValue, Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::spawn_local;
use tower_service::Service;

use super::desk::Desk;
use crate::accepting::AcceptFailures;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Open,
    /// Nobody else comes in, and every answer is the last of its connection: a
    /// proxy that asks meanwhile is told, and asks elsewhere.
    Leaving,
    /// Connections on which nothing is asked are closed.
    Closing,
}

/// A kind of socket that connections come in by.
pub(super) trait Accept: 'static {
    type Io: 'static;

    async fn next(&self) -> io::Result<Self::Io>;

    /// Those that the kernel has made already.
    fn waiting(self) -> impl Iterator<Item = Self::Io>;
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn next(&self) -> io::Result<Self::Io> {
        let (stream, _) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    fn waiting(self) -> impl Iterator<Item = Self::Io> {
        let listener = self.into_std().ok();
        from_fn(move || {
            let (stream, _) = listener.as_ref()?.accept().ok()?;
            stream.set_nonblocking(true).ok()?;
            stream.set_nodelay(true).ok()?;
            TcpStream::from_std(stream).ok()
        })
    }
}

impl Accept for UnixListener {
    type Io = UnixStream;

    async fn next(&self) -> io::Result<Self::Io> {
        Ok(self.accept().await?.0)
    }

    fn waiting(self) -> impl Iterator<Item = Self::Io> {
        let listener = self.into_std().ok();
        from_fn(move || {
            let (stream, _) = listener.as_ref()?.accept().ok()?;
            stream.set_nonblocking(true).ok()?;
            UnixStream::from_std(stream).ok()
        })
    }
}

pub(super) struct Door<C> {
    pub(super) desk: Rc<Desk<C>>,
    pub(super) http1: http1::Builder,
    pub(super) places: Arc<Semaphore>,
    pub(super) stage: watch::Receiver<Stage>,
    /// Dropped with the door and each of its connections.
    pub(super) alive: mpsc::Sender<Infallible>,
}

impl<C> Door<C> {
    /// Until the end begins. What `begin` makes of a connection is asked over.
    pub(super) async fn keep<A, F, I, S, B>(self, listener: A, begin: impl Fn(A::Io) -> F)
    where
        A: Accept,
        F: Future<Output = Option<I>> + 'static,
        I: AsyncRead + AsyncWrite + Unpin + 'static,
        C: Fn(IpAddr) -> S + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + 'static,
        B: Body<Data = Bytes, Error: Into<BoxError>> + 'static,
    {
        let mut stage = self.stage.clone();
        let mut leaving = pin!(stage.wait_for(|stage| *stage >= Stage::Leaving));
        let mut failures = AcceptFailures::of("decisions");
        loop {
            let comes = async {
                // why: the semaphore is never closed.
                let place = Arc::clone(&self.places).acquire_owned().await.ok();
                (listener.next().await, place)
            };
            let (accepted, place) = tokio::select! {
                // A sender that is gone says the same.
                _ = &mut leaving => break,
                came = comes => came,
            };
            match accepted {
                Ok(io) => drop(spawn_local(self.converse(begin(io), place))),
                Err(error) => failures.survive(&error).await,
            }
        }
        for io in listener.waiting() {
            let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
                return;
            };
            spawn_local(self.converse(begin(io), Some(place)));
        }
    }

    fn converse<F, I, S, B>(
        &self,
        begun: F,
        place: Option<OwnedSemaphorePermit>,
    ) -> impl Future<Output = ()> + use<C, F, I, S, B>
    where
        F: Future<Output = Option<I>> + 'static,
        I: AsyncRead + AsyncWrite + Unpin + 'static,
        C: Fn(IpAddr) -> S + 'static,
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible> + 'static,
        B: Body<Data = Bytes, Error: Into<BoxError>> + 'static,
    {
        let (desk, http1) = (Rc::clone(&self.desk), self.http1.clone());
        let (mut stage, alive) = (self.stage.clone(), self.alive.clone());
        async move {
            // Without it there is nobody.
            let Some(io) = begun.await else { return };
            let asked = stage.clone();
            let service = service_fn(async |request| {
                let mut response = desk.answer(request).await?;
                if *asked.borrow() >= Stage::Leaving {
                    // hyper closes the connection behind it.
                    let headers = response.headers_mut();
                    headers.insert(CONNECTION, HeaderValue::from_static("close"));
                }
                Ok::<_, Infallible>(response)
            });
            let mut connection = pin!(http1.serve_connection(TokioIo::new(io), service));
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                _ = stage.wait_for(|stage| *stage == Stage::Closing) => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                tracing::debug!(%error, "a proxy's connection broke off");
            }
            drop((place, alive));
        }
    }
}
