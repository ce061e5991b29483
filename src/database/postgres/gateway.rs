//! A socket whose other end is a server that was verified.
//!
//! sqlx trusts the public authorities besides the one it is given, and cannot
//! be told not to: with `verify-ca` anybody's certificate would do. So where
//! certificates are verified, it connects to this socket, and the bytes go on
//! over a connection that is encrypted and verified here, as the other pool's
//! are. Only this user may enter the socket's directory, and who does still
//! has to log in to the server.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpStream, UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::database::server::Server;
use crate::secret::Secret;

/// PostgreSQL's `SSLRequest`: its length, and the code in place of a version.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Open until it is dropped.
pub(super) struct Gateway {
    directory: PathBuf,
    accepting: JoinHandle<()>,
}

/// Where it leads.
struct Destination {
    host: String,
    port: u16,
    name: ServerName<'static>,
    tls: TlsConnector,
    patience: Duration,
}

impl Gateway {
    pub(super) fn open(
        server: &Server,
        tls: ClientConfig,
        connect_timeout: Duration,
    ) -> io::Result<Self> {
        let name = ServerName::try_from(server.host.clone()).map_err(io::Error::other)?;
        let destination = Arc::new(Destination {
            host: server.host.clone(),
            port: server.port,
            name,
            tls: TlsConnector::from(Arc::new(tls)),
            patience: connect_timeout,
        });
        let directory = private_directory()?;
        let socket = directory.join(format!(".s.PGSQL.{}", server.port));
        let listener = UnixListener::bind(socket)?;
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let destination = Arc::clone(&destination);
                tokio::spawn(async move { destination.lead(client).await });
            }
        });
        Ok(Self {
            directory,
            accepting,
        })
    }

    /// What libpq would call the host.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.accepting.abort();
        // What cannot be removed is empty but for a socket that nobody hears.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

impl Destination {
    /// A client that is not led anywhere sees its connection end; the cause is
    /// what the other pool is told when it connects.
    async fn lead(&self, mut client: UnixStream) {
        if let Ok(Ok(mut server)) = timeout(self.patience, self.connect()).await {
            // However it ends: both sides see that it did.
            let _ = copy_bidirectional(&mut client, &mut server).await;
        }
    }

    async fn connect(&self) -> io::Result<TlsStream<TcpStream>> {
        let mut server = TcpStream::connect((&*self.host, self.port)).await?;
        server.set_nodelay(true)?;
        server.write_all(&SSL_REQUEST).await?;
        if server.read_u8().await? != b'S' {
            return Err(io::Error::other("the server does not encrypt"));
        }
        self.tls.connect(self.name.clone(), server).await
    }
}

/// A new directory that only this user may enter.
fn private_directory() -> io::Result<PathBuf> {
    let random = Secret::random().map_err(io::Error::other)?;
    let name = format!(
        "cypheron-edge-{}",
        base16ct::lower::encode_string(&random.expose()[..8])
    );
    let directory = std::env::temp_dir().join(name);
    DirBuilder::new().mode(0o700).create(&directory)?;
    Ok(directory)
}
