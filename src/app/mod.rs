//! The only wiring: which implementation stands behind each trait.

mod audit;
#[cfg(feature = "postgres")]
mod database;
mod edge;
mod error;
mod operations;
mod quickstart;
mod reports;
mod serve;
mod sink;
mod stack;
mod store;

#[cfg(feature = "postgres")]
pub use database::{databases, migrate};
pub use error::ServeError;
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
