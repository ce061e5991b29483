//! Clients that are slow on purpose.
//!
//! A third send a head that never ends, a third a body, a third take nearly
//! nothing of their answers. Whoever is cut comes back at once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{LocalSet, spawn_local};
use tokio::time::sleep;

#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    address: SocketAddr,
    /// A file with a token a line; the first is used.
    #[arg(long)]
    keys: PathBuf,
    #[arg(long, default_value_t = 1000)]
    connections: usize,
}

/// Between two bytes of one client.
const PAUSE: Duration = Duration::from_secs(1);

/// More than any buffer on its way holds.
const ANSWER: usize = 16 << 20;

/// What a client of that kind holds for less than it is.
const ROOM: u32 = 4096;

/// Until it is killed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let tokens = std::fs::read_to_string(&options.keys)
        .with_context(|| format!("{}", options.keys.display()))?;
    let token = tokens.lines().next().context("there is no token")?;
    let heads = [
        "GET / HTTP/1.1\r\nHost: slow\r\n".to_owned(),
        format!(
            "POST /bytes/1 HTTP/1.1\r\nHost: slow\r\nAuthorization: Bearer {token}\r\n\
             Content-Length: 1000000\r\n\r\n"
        ),
        format!(
            "GET /bytes/{ANSWER} HTTP/1.1\r\nHost: slow\r\nAuthorization: Bearer {token}\r\n\r\n"
        ),
    ];
    let (address, connections) = (options.address, options.connections);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    LocalSet::new().block_on(&runtime, async move {
        let clients: Vec<_> = (0..connections)
            .map(|number| {
                let kind = number % heads.len();
                spawn_local(come_back(address, heads[kind].clone(), kind))
            })
            .collect();
        for client in clients {
            client.await.context("a client")?;
        }
        Ok(())
    })
}

async fn come_back(address: SocketAddr, head: String, kind: usize) {
    loop {
        // However it ends: it is there to be cut.
        let _ = linger(address, &head, kind).await;
        sleep(PAUSE).await;
    }
}

async fn linger(address: SocketAddr, head: &str, kind: usize) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(ROOM)?;
    let mut stream: TcpStream = socket.connect(address).await?;
    stream.write_all(head.as_bytes()).await?;
    loop {
        sleep(PAUSE).await;
        match kind {
            0 => stream.write_all(b"X: x\r\n").await?,
            1 => stream.write_all(b"x").await?,
            _ => {
                stream.read_u8().await?;
            }
        }
    }
}
