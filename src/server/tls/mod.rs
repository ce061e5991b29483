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
pub use acceptor::Tls;
#[cfg(feature = "tls")]
pub use material::check;
#[cfg(not(feature = "tls"))]
pub use without::{Tls, check};

/// The section that all of this is set in.
#[cfg(feature = "tls")]
const SECTION: &str = "server.tls";
