//! Why an edge did not serve.

use std::io;
use std::net::SocketAddr;

use super::operations::OpenError;
use crate::admin::OperationError;
use crate::config::Problems;
use crate::decision;
use crate::server::StartError;
use crate::telemetry::AlreadyInstalled;
use crate::token::InvalidPrefix;
use crate::usage::journal::{self, ClaimError};

#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Configuration(#[from] Problems),
    #[error("data.dir: {0}; stop that one first (`serve --take-over` starts beside one that ends)")]
    InUse(ClaimError),
    #[error("data.dir: {0}")]
    Data(ClaimError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Operation(#[from] OperationError),
    #[error(transparent)]
    Prefix(#[from] InvalidPrefix),
    #[error(transparent)]
    Listen(#[from] StartError),
    #[error(transparent)]
    Decision(#[from] decision::BindError),
    #[error(
        "health.listen: {address} cannot be listened on: {source} (stop what has the port, or use another one)"
    )]
    Health {
        address: SocketAddr,
        source: io::Error,
    },
    #[error(
        "LISTEN_FDNAMES: nothing is served on `{0}`: use traffic, tls (beside traffic), health, or \
         decisions.NAME of a configured one (in a socket unit: FileDescriptorName)"
    )]
    Unserved(String),
    #[error(
        "--take-over: the process that serves at {address} does not hand over its sockets: {source} \
         (stop it)"
    )]
    Handover {
        address: SocketAddr,
        source: io::Error,
    },
    #[error(transparent)]
    Journal(#[from] journal::OpenError),
    #[error(transparent)]
    Telemetry(#[from] AlreadyInstalled),
    #[error("{0}")]
    Io(#[from] io::Error),
}

impl From<ClaimError> for ServeError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::InUse(_) => Self::InUse(error),
            ClaimError::Io { .. } => Self::Data(error),
        }
    }
}

impl ServeError {
    /// Whether it is for whoever wrote the configuration to mend.
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::Configuration(_)
            | Self::InUse(_)
            | Self::Data(_)
            | Self::Prefix(_)
            | Self::Listen(_)
            | Self::Decision(_)
            | Self::Unserved(_)
            | Self::Health { .. }
            | Self::Journal(journal::OpenError::TooSmall { .. }) => true,
            Self::Open(error) => error.is_configuration(),
            _ => false,
        }
    }
}
