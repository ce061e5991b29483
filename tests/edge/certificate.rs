//! Certificates of an edge, and clients that know them.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

const NAME: &str = "localhost";

/// One that vouches for itself, in files.
pub struct Certificate {
    chain: PathBuf,
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
        let (chain, key) = (self.chain.display(), self.key.display());
        format!("[server.tls]\ncertificates = [{{ chain = '{chain}', key = '{key}' }}]\n")
    }

    /// Clients that believe nobody else.
    pub fn client(&self) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth()
    }

    pub fn name() -> ServerName<'static> {
        ServerName::try_from(NAME).unwrap()
    }

    /// Hands are shaken with the first byte.
    pub fn connect(&self, edge: SocketAddr) -> io::Result<Stream> {
        let stream = TcpStream::connect(edge)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        stream.set_nodelay(true)?;
        let connection = ClientConnection::new(Arc::new(self.client()), Self::name());
        Ok(StreamOwned::new(connection.unwrap(), stream))
    }
}
