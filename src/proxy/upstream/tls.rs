//! TLS to upstreams: who they have to be, and who we are.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde::Deserialize;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::setting::Invalid;

/// `[upstreams.<name>.tls]`, for targets that are `https://`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// The authorities it may be certified by; when not set, the system's.
    pub ca: Option<PathBuf>,
    /// What we show it, when it asks who we are, and the key to that.
    pub certificate: Option<PathBuf>,
    pub key: Option<PathBuf>,
    /// The name it is asked for and has to prove; when not set, the target's.
    pub server_name: Option<String>,
}

impl TlsConfig {
    pub(super) fn problems(&self, http2: bool, section: &str, found: &mut Vec<Invalid>) {
        if let Err(unusable) = Tls::open(self, http2) {
            let key = format!("{section}.{}", unusable.key);
            found.push(Invalid::new(key, unusable.problem));
        }
    }

    pub(super) fn is_written(&self) -> bool {
        *self != Self::default()
    }

    fn files(&self) -> impl Iterator<Item = &PathBuf> {
        [&self.ca, &self.certificate, &self.key]
            .into_iter()
            .flatten()
    }

    fn load(&self, http2: bool) -> Result<ClientConfig, Unusable> {
        let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| Unusable::new("ca", error.to_string()))?
            .with_root_certificates(self.roots()?);
        let mut config = match (&self.certificate, &self.key) {
            (None, None) => builder.with_no_client_auth(),
            (Some(certificate), Some(key)) => {
                let chain = certificates(certificate)
                    .map_err(|error| Unusable::file("certificate", certificate, &error))?;
                let private = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| Unusable::file("key", key, &error))?;
                builder
                    .with_client_auth_cert(chain, private)
                    .map_err(|error| Unusable::file("key", key, &error))?
            }
            (Some(_), None) => return Err(Unusable::new("key", "is missing beside `certificate`")),
            (None, Some(_)) => return Err(Unusable::new("certificate", "is missing beside `key`")),
        };
        config.alpn_protocols = vec![protocol(http2).to_vec()];
        Ok(config)
    }

    fn roots(&self) -> Result<RootCertStore, Unusable> {
        let mut roots = RootCertStore::empty();
        let Some(ca) = &self.ca else {
            // One that cannot be read is none of those that are trusted.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                let problem = "the system has no authorities: install ca-certificates, or name a \
                               file of them here";
                return Err(Unusable::new("ca", problem));
            }
            return Ok(roots);
        };
        for certificate in certificates(ca).map_err(|error| Unusable::file("ca", ca, &error))? {
            roots
                .add(certificate)
                .map_err(|error| Unusable::file("ca", ca, &error))?;
        }
        Ok(roots)
    }

    fn name(&self) -> Result<Option<ServerName<'static>>, Unusable> {
        let Some(name) = &self.server_name else {
            return Ok(None);
        };
        ServerName::try_from(name.clone()).map(Some).map_err(|_| {
            let problem = format!("`{name}` is neither a name nor an address");
            Unusable::new("server_name", problem)
        })
    }
}

const fn protocol(http2: bool) -> &'static [u8] {
    if http2 { b"h2" } else { b"http/1.1" }
}

fn certificates(path: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let found: Vec<_> = CertificateDer::pem_file_iter(path)
        .and_then(Iterator::collect)
        .map_err(io::Error::other)?;
    if found.is_empty() {
        return Err(io::Error::other("there is no certificate in it"));
    }
    Ok(found)
}

/// Which setting cannot be used, and why.
#[derive(Debug)]
pub(super) struct Unusable {
    key: &'static str,
    problem: String,
}

impl Unusable {
    fn new(key: &'static str, problem: impl Into<String>) -> Self {
        Self {
            key,
            problem: problem.into(),
        }
    }

    fn file(key: &'static str, path: &Path, error: &dyn std::error::Error) -> Self {
        let error = crate::cause::chain(error);
        Self::new(key, format!("{} cannot be used: {error}", path.display()))
    }
}

/// How new connections are encrypted; read again when the files change.
#[derive(Debug)]
pub(super) struct Tls {
    files: TlsConfig,
    name: Option<ServerName<'static>>,
    http2: bool,
    current: ArcSwap<ClientConfig>,
    stamps: Mutex<Vec<Stamp>>,
}

/// What tells one state of a file from another; `None` when it cannot be seen.
type Stamp = Option<(Option<SystemTime>, u64, u64)>;

impl Tls {
    pub(super) fn open(files: &TlsConfig, http2: bool) -> Result<Self, Unusable> {
        // Looked at first: what changes while it is read is read again.
        let stamps = Mutex::new(stamps(files));
        Ok(Self {
            name: files.name()?,
            current: ArcSwap::from_pointee(files.load(http2)?),
            files: files.clone(),
            http2,
            stamps,
        })
    }

    /// Makes `stream` private, with somebody who proves to be `host`.
    pub(super) async fn secure(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = match &self.name {
            Some(name) => name.clone(),
            None => ServerName::try_from(host.to_owned()).map_err(io::Error::other)?,
        };
        let connector = TlsConnector::from(self.current.load_full());
        let stream = connector.connect(name, stream).await?;
        let spoken = stream.get_ref().1.alpn_protocol();
        // HTTP/1.1 is what they speak who say nothing.
        if spoken == Some(protocol(self.http2)) || (spoken.is_none() && !self.http2) {
            return Ok(stream);
        }
        Err(io::Error::other("the upstream does not speak HTTP/2"))
    }

    /// Takes files that changed into use, for new connections. Those that
    /// cannot be used change nothing. To be called where it may block.
    pub(super) fn reload(&self, upstream: &str) {
        let mut known = self.stamps.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stamps(&self.files);
        if *known == now {
            return;
        }
        *known = now;
        match self.files.load(self.http2) {
            Ok(config) => {
                self.current.store(Arc::new(config));
                tracing::info!(upstream, "certificates for an upstream were read again");
            }
            Err(Unusable { key, problem }) => {
                tracing::error!(
                    upstream,
                    key,
                    problem,
                    "going on with the certificates that are held"
                );
            }
        }
    }
}

fn stamps(files: &TlsConfig) -> Vec<Stamp> {
    let stamp = |path: &PathBuf| {
        let file = fs::metadata(path).ok()?;
        Some((file.modified().ok(), file.len(), file.ino()))
    };
    files.files().map(stamp).collect()
}
