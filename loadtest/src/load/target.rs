//! Where requests go, and what of them is always the same.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll};

use anyhow::{Context, bail, ensure};
use hyper::Uri;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// One URL.
pub(super) struct Target {
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The head up to where the key stands.
    before_key: Vec<u8>,
    /// The end of the head, and the body.
    after_key: Vec<u8>,
}

impl Target {
    pub(super) async fn new(url: &str, body: Option<usize>) -> anyhow::Result<Self> {
        let uri: Uri = url.parse().with_context(|| format!("{url} is no URL"))?;
        let authority = uri
            .authority()
            .with_context(|| format!("{url} names no host"))?;
        ensure!(
            !authority.as_str().contains('@'),
            "{url}: a user has no place in it"
        );
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => bail!("{url}: http:// or https:// is needed"),
        };
        let host = authority.host().trim_matches(['[', ']']);
        let port = authority
            .port_u16()
            .unwrap_or(if secure { 443 } else { 80 });
        let address = lookup_host((host, port))
            .await
            .with_context(|| format!("{host} cannot be found"))?
            .next()
            .with_context(|| format!("{host} has no address"))?;
        let tls = if secure {
            Some((connector(), ServerName::try_from(host.to_owned())?))
        } else {
            None
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let method = if body.is_some() { "POST" } else { "GET" };
        let mut after_key = match body {
            Some(length) => format!("content-length: {length}\r\n\r\n").into_bytes(),
            None => b"\r\n".to_vec(),
        };
        after_key.resize(after_key.len() + body.unwrap_or(0), b'x');
        Ok(Self {
            address,
            tls,
            before_key: format!("{method} {path} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes(),
            after_key,
        })
    }

    pub(super) fn write(&self, token: Option<&str>, request: &mut Vec<u8>) {
        request.clear();
        request.extend_from_slice(&self.before_key);
        if let Some(token) = token {
            request.extend_from_slice(b"authorization: Bearer ");
            request.extend_from_slice(token.as_bytes());
            request.extend_from_slice(b"\r\n");
        }
        request.extend_from_slice(&self.after_key);
    }

    pub(super) async fn connect(&self) -> io::Result<Stream> {
        let tcp = TcpStream::connect(self.address).await?;
        tcp.set_nodelay(true)?;
        Ok(match &self.tls {
            None => Stream::Plain(tcp),
            Some((connector, name)) => {
                Stream::Tls(Box::new(connector.connect(name.clone(), tcp).await?))
            }
        })
    }
}

fn connector() -> TlsConnector {
    let roots: RootCertStore = webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the suites of both versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(config).into()
}

pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_read(cx, into),
            Self::Tls(tls) => Pin::new(tls).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_write(cx, bytes),
            Self::Tls(tls) => Pin::new(tls).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Self::Tls(tls) => Pin::new(tls).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Self::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
        }
    }
}
