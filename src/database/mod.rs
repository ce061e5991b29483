//! Where usage is kept: connections, versions of the schema, health.

mod config;
#[cfg(feature = "postgres")]
mod postgres;
mod server;
#[cfg(feature = "embedded")]
mod sqlite;

pub use config::{Config, Login};
#[cfg(feature = "postgres")]
pub use postgres::{
    DatabaseManager, FixedPassword, Ingest, MIGRATIONS, NotReady, Passwords, Queries, SchemaState,
    Unavailable,
};
pub use server::{InvalidServer, Server, SslMode};
#[cfg(feature = "embedded")]
pub use sqlite::{Database, DatabaseError, FileLock};
