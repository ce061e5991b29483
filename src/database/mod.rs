//! Where usage is kept: connections, versions of the schema, health.

mod config;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "embedded")]
mod sqlite;

pub use config::{Config, Login};
#[cfg(feature = "postgres")]
pub use postgres::{
    DatabaseManager, FixedPassword, Ingest, InvalidServer, MIGRATIONS, NotReady, Passwords,
    Queries, SchemaState, Server, SslMode, Unavailable,
};
#[cfg(feature = "embedded")]
pub use sqlite::{Database, DatabaseError};
