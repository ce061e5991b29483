//! PostgreSQL: two pools, so that no report starves the ingest of usage.
//!
//! Statements that the compiler checks, migrations and health go through sqlx
//! ([`DatabaseManager::queries`]), batches of usage through tokio-postgres
//! ([`DatabaseManager::ingest`]). Both pools open connections when they are
//! asked for one and close what is idle, so that a server that is down costs
//! nothing, and an edge at rest holds next to none.

mod cause;
mod connect;
mod gateway;
mod gauges;
mod grant;
mod manager;
mod password;
mod schema;
mod tls;

pub use cause::Unavailable;
pub use manager::{DatabaseManager, Ingest, Queries};
pub use password::{FixedPassword, Passwords};
pub use schema::{MIGRATIONS, NotReady, SchemaState};
