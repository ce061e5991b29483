//! Clients that are slow on purpose.
//!
//! A third send a head that never ends, a third a body, a third take nearly
//! nothing of their answers. Whoever is cut comes back at once.

use std::future::pending;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use socket2::SockRef;
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
    connections: u32,
    /// All are slow with this, instead of a third with each.
    #[arg(long)]
    only: Option<With>,
}

/// Between two bytes of one client. Of a thousand, two hundred move in a second,
/// evenly: what they do is no load, only that they are there.
const PAUSE: Duration = Duration::from_secs(5);

/// Before one that was cut comes back: not while a proxy is still closing.
const AWAY: Duration = Duration::from_millis(100);

/// More than a proxy and its sockets to the client hold of an answer, and so
/// little that all of them together leave the kernel its memory.
const ANSWER: usize = 1 << 20;

/// What such a client's own kernel holds.
const ROOM: u32 = 4096;

/// As on a network. The loopback's segments are of 64 KiB, and the kernel of the
/// other end sets aside 2.6 MB for a connection that has those.
const SEGMENT: u32 = 1400;

/// What one is slow with.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum With {
    Head,
    Body,
    Answer,
}

impl With {
    /// What is sent at once.
    fn beginning(self, token: &str) -> String {
        let identified = format!("Host: slow\r\nAuthorization: Bearer {token}\r\n");
        match self {
            Self::Head => "GET / HTTP/1.1\r\nHost: slow\r\n".to_owned(),
            Self::Body => {
                format!("POST /bytes/1 HTTP/1.1\r\n{identified}Content-Length: 1000000\r\n\r\n")
            }
            Self::Answer => format!("GET /bytes/{ANSWER} HTTP/1.1\r\n{identified}\r\n"),
        }
    }

    /// The least there is to do.
    async fn go_on(self, stream: &mut TcpStream) -> std::io::Result<()> {
        match self {
            Self::Head => stream.write_all(b"X: x\r\n").await,
            Self::Body => stream.write_all(b"x").await,
            Self::Answer => stream.read_u8().await.map(drop),
        }
    }
}

/// Until it is killed.
pub(crate) fn run(options: &Options) -> anyhow::Result<()> {
    let tokens = std::fs::read_to_string(&options.keys)
        .with_context(|| format!("{}", options.keys.display()))?;
    let token = tokens.lines().next().context("there is no token")?;
    let (address, connections) = (options.address, options.connections);
    ensure!(connections > 0, "--connections: at least one is needed");
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let kinds = match &options.only {
        Some(only) => std::slice::from_ref(only),
        None => With::value_variants(),
    };
    LocalSet::new().block_on(&runtime, async move {
        let each = PAUSE / connections;
        for (number, &with) in (0..connections).zip(kinds.iter().cycle()) {
            let beginning = with.beginning(token);
            spawn_local(async move {
                sleep(each * number).await;
                loop {
                    // However it ends: it is there to be cut.
                    let _ = linger(address, &beginning, with).await;
                    sleep(AWAY).await;
                }
            });
        }
        pending().await
    })
}

async fn linger(address: SocketAddr, beginning: &str, with: With) -> std::io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_recv_buffer_size(ROOM)?;
    SockRef::from(&socket).set_tcp_mss(SEGMENT)?;
    let mut stream = socket.connect(address).await?;
    stream.write_all(beginning.as_bytes()).await?;
    loop {
        sleep(PAUSE).await;
        with.go_on(&mut stream).await?;
    }
}
