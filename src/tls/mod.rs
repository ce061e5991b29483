//! TLS: which certificate is shown to whom, and who shows us one.
//!
//! What is loaded once is shared by all workers. Loading again changes what
//! later connections are met with; those that are open keep what they have.

mod config;

#[cfg(feature = "tls")]
mod acceptor;
#[cfg(feature = "tls")]
mod by_name;
#[cfg(feature = "tls")]
mod certificate;
#[cfg(feature = "tls")]
mod client;
#[cfg(feature = "tls")]
mod failure;
#[cfg(feature = "tls")]
mod follow;
#[cfg(feature = "tls")]
mod material;
#[cfg(not(feature = "tls"))]
mod without;

pub use config::{CertificateFiles, ClientCertificates, Config};

#[cfg(feature = "tls")]
pub use acceptor::{Stream, Tls};
#[cfg(feature = "tls")]
pub use material::check;
#[cfg(not(feature = "tls"))]
pub use without::{Stream, Tls, check};

use std::sync::Arc;

use crate::context::ClientCertificate;

/// A connection on which hands were shaken.
#[derive(Debug)]
pub struct Encrypted {
    pub stream: Stream,
    pub secured: Secured,
    /// Whether that is what the client wants to speak.
    pub is_http2: bool,
}

/// What a TLS handshake settled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Secured {
    /// Who the client is, when it showed a certificate; that was verified.
    pub client: Option<Arc<ClientCertificate>>,
}
