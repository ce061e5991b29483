//! A relay before the emulator, to break what goes through it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Forwarding,
    /// Connections are taken and kept, and nothing comes through.
    Silent,
    /// Connections are closed, and so is every new one.
    Closed,
}

/// It ends with the test's runtime.
pub(crate) struct Relay {
    address: SocketAddr,
    state: Arc<watch::Sender<State>>,
}

impl Relay {
    /// To `HOST:PORT`.
    pub(crate) async fn to(target: &str) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let relay = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(watch::Sender::new(State::Forwarding)),
        };
        tokio::spawn(accept(
            listener,
            target.to_owned(),
            Arc::clone(&relay.state),
        ));
        relay
    }

    /// `HOST:PORT`.
    pub(crate) fn address(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn silence(&self) {
        self.state.send_replace(State::Silent);
    }

    pub(crate) fn close(&self) {
        self.state.send_replace(State::Closed);
    }

    /// New connections come through. Those that were silenced never will.
    pub(crate) fn mend(&self) {
        self.state.send_replace(State::Forwarding);
    }
}

async fn accept(listener: TcpListener, target: String, state: Arc<watch::Sender<State>>) {
    while let Ok((client, _)) = listener.accept().await {
        let changes = state.subscribe();
        let target = target.clone();
        tokio::spawn(async move {
            if let Ok(server) = TcpStream::connect(target).await {
                relay(client, server, changes).await;
            }
        });
    }
}

async fn relay(client: TcpStream, server: TcpStream, mut state: watch::Receiver<State>) {
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let closed = {
        let mut state = state.clone();
        async move {
            state
                .wait_for(|state| *state == State::Closed)
                .await
                .is_ok()
        }
    };
    let pumped = async {
        let silenced = async {
            state
                .wait_for(|state| *state == State::Silent)
                .await
                .is_ok()
        };
        let mut halves = (client_reads, server_writes, server_reads, client_writes);
        let (from_client, to_server, from_server, to_client) = &mut halves;
        tokio::select! {
            // What is written now is written into nothing.
            biased;
            _ = silenced => std::future::pending().await,
            () = pump(from_client, to_server) => {}
            () = pump(from_server, to_client) => {}
        }
    };
    tokio::select! {
        _ = closed => {}
        () = pumped => {}
    }
}

async fn pump(from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) {
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer).await {
        if to.write_all(&buffer[..length]).await.is_err() {
            return;
        }
    }
}
