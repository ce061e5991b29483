//! Where usage is kept: opening, versions, health.

#[cfg(feature = "embedded")]
mod sqlite;

#[cfg(feature = "embedded")]
pub use sqlite::{Database, DatabaseError};

#[cfg(feature = "embedded")]
use std::path::Path;

#[cfg(feature = "embedded")]
use crate::sqlite::OpenError;

/// Owns the connections to the databases that usage is kept in.
#[cfg(feature = "embedded")]
#[derive(Clone, Debug)]
pub struct DatabaseManager {
    usage: Database,
}

#[cfg(feature = "embedded")]
impl DatabaseManager {
    /// Opens `usage.db` in the data directory, and brings it up to date. Blocks.
    pub fn open_embedded(data_dir: &Path) -> Result<Self, OpenError> {
        let usage = Database::open(&data_dir.join("usage.db"))?;
        Ok(Self { usage })
    }

    pub const fn usage(&self) -> &Database {
        &self.usage
    }

    /// Whether the database answers.
    pub async fn health(&self) -> Result<(), DatabaseError> {
        self.usage
            .run(|connection| connection.query_row("SELECT 1", [], |_| Ok(())))
            .await
    }
}
