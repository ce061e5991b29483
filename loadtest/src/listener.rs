//! A server of one thread.

use std::future::Future;
use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::Context;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

/// Serves each connection with `serve`, until the process is killed. A
/// connection that fails is the load's affair: it counts errors itself.
pub(crate) fn run<S, F>(address: SocketAddr, serve: S) -> anyhow::Result<()>
where
    S: Fn(TcpStream) -> F + 'static,
    F: Future<Output = anyhow::Result<()>> + 'static,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async move {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("{address} cannot be listened on"))?;
        let serve = Rc::new(serve);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let serve = Rc::clone(&serve);
            spawn_local(async move { serve(stream).await });
        }
    })
}
