//! Certificates of an edge, and clients that know them.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const NAME: &str = "localhost";

/// One that vouches for itself, in files.
pub struct Certificate {
    pub chain: PathBuf,
    key: PathBuf,
    pub der: CertificateDer<'static>,
}

pub type Stream = StreamOwned<ClientConnection, TcpStream>;

impl Certificate {
    /// In `<file>.pem` and `<file>.key`.
    pub fn make(directory: &Path, file: &str) -> Self {
        let made = rcgen::generate_simple_self_signed([NAME.to_owned()]).unwrap();
        let chain = directory.join(format!("{file}.pem"));
        let key = directory.join(format!("{file}.key"));
        fs::write(&chain, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let der = made.cert.der().clone();
        Self { chain, key, der }
    }

    /// The settings that serve it.
    pub fn settings(&self) -> String {
        format!("[server.tls]\ncertificates = [{}]\n", self.files())
    }

    /// Where it is, as settings say it.
    pub fn files(&self) -> String {
        let (chain, key) = (self.chain.display(), self.key.display());
        format!("{{ chain = '{chain}', key = '{key}' }}")
    }

    /// Clients that believe nobody else.
    pub fn client(&self) -> ClientConfig {
        self.client_as(None)
    }

    /// As [`client`](Self::client), which shows the certificate of `shown`.
    fn client_as(&self, shown: Option<&Self>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let Some(shown) = shown else {
            return config.with_no_client_auth();
        };
        let key = PrivateKeyDer::from_pem_file(&shown.key).unwrap();
        config
            .with_client_auth_cert(vec![shown.der.clone()], key)
            .unwrap()
    }

    pub fn name() -> ServerName<'static> {
        ServerName::try_from(NAME).unwrap()
    }

    /// Hands are shaken with the first byte.
    pub fn connect(&self, edge: SocketAddr) -> io::Result<Stream> {
        self.connect_as(None, edge)
    }

    /// As [`connect`](Self::connect), which shows the certificate of `shown`.
    pub fn connect_as(&self, shown: Option<&Self>, edge: SocketAddr) -> io::Result<Stream> {
        let stream = TcpStream::connect(edge)?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.set_nodelay(true)?;
        let connection = ClientConnection::new(Arc::new(self.client_as(shown)), Self::name());
        Ok(StreamOwned::new(connection.unwrap(), stream))
    }
}
