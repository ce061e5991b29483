//! Where requests go, and what of them is always the same.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context as Poller, Poll};

use anyhow::{Context, bail, ensure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Method, Request, Uri};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, lookup_host};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

#[derive(Clone, Copy)]
pub(super) enum Version {
    Http1,
    Http2,
}

impl Version {
    const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Http1 => b"http/1.1",
            Self::Http2 => b"h2",
        }
    }
}

/// One URL.
pub(super) struct Target {
    uri: Uri,
    body: Option<Bytes>,
    address: SocketAddr,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    /// The head up to where the key stands.
    before_key: Vec<u8>,
    /// The end of the head, and the body.
    after_key: Vec<u8>,
}

impl Target {
    /// `ca` is the file of the only authorities that are trusted, in PEM; without
    /// it those that browsers trust are.
    pub(super) async fn new(
        url: &str,
        body: Option<usize>,
        ca: Option<&Path>,
        version: Version,
    ) -> anyhow::Result<Self> {
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
            let connector = connector(roots(ca)?, version);
            Some((connector, ServerName::try_from(host.to_owned())?))
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
        let before_key = format!("{method} {path} HTTP/1.1\r\nhost: {authority}\r\n").into_bytes();
        Ok(Self {
            body: body.map(|length| vec![b'x'; length].into()),
            address,
            tls,
            before_key,
            after_key,
            uri,
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

    /// The same request, of HTTP/2.
    pub(super) fn request(&self, token: Option<&str>) -> Request<Full<Bytes>> {
        let mut request = Request::new(Full::new(self.body.clone().unwrap_or_default()));
        if self.body.is_some() {
            *request.method_mut() = Method::POST;
        }
        *request.uri_mut() = self.uri.clone();
        if let Some(token) = token {
            let value = HeaderValue::try_from(format!("Bearer {token}"))
                .expect("keys were read as visible characters");
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        request
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

fn roots(ca: Option<&Path>) -> anyhow::Result<RootCertStore> {
    let Some(ca) = ca else {
        return Ok(webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect());
    };
    let unusable = || format!("--ca: {} cannot be used", ca.display());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(ca).with_context(unusable)? {
        let certificate = certificate.with_context(unusable)?;
        roots.add(certificate).with_context(unusable)?;
    }
    ensure!(
        !roots.is_empty(),
        "--ca: {} has no certificate",
        ca.display()
    );
    Ok(roots)
}

fn connector(roots: RootCertStore, version: Version) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has the suites of both versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![version.alpn().to_vec()];
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
