//! The only wiring: which implementation stands behind each trait.

mod audit;
mod counters;
#[cfg(feature = "postgres")]
mod database;
mod edge;
mod error;
mod handover;
mod keyring;
mod operations;
mod quickstart;
mod reports;
mod serve;
mod sink;
mod stack;
mod store;

pub use counters::usage_sync;
#[cfg(feature = "postgres")]
pub use database::{databases, migrate};
pub use error::ServeError;
pub use keyring::{keyring_operations, new_password};
pub use operations::{Need, OpenError, describe_keyring, init_keyring, operations};
pub use quickstart::{TRAFFIC_PORT, Welcome, quickstart};
pub use reports::reports;
pub use serve::serve;

use std::io;

use tokio::runtime::{Builder, Runtime};

/// The background runtime. Whoever blocks on it is the background thread:
/// stores, change feed, opening of envelopes, shipping, health.
fn background() -> io::Result<Runtime> {
    Builder::new_current_thread()
        .thread_name("background")
        .enable_all()
        .build()
}
