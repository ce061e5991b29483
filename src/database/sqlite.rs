//! The usage database in one SQLite file.

use std::path::Path;

use rusqlite::Connection;

use crate::sqlite::{Ended, OpenError, Schema, Thread};

const SCHEMA: Schema = Schema {
    name: "usage database",
    // "CYKU"
    application: 0x4359_4b55,
    migrations: &[include_str!("../../db/sqlite/0001_usage.sql")],
};

/// A database in one file. Clones share its one connection, which runs on a
/// thread of its own.
#[derive(Clone, Debug)]
pub struct Database {
    thread: Thread<Connection>,
}

/// Why a statement failed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error(transparent)]
    Statement(#[from] rusqlite::Error),
    #[error(transparent)]
    Ended(#[from] Ended),
}

impl Database {
    /// Opens `usage.db` in the data directory. Blocks.
    pub fn open_in(data_dir: &Path) -> Result<Self, OpenError> {
        Self::open(&data_dir.join("usage.db"))
    }

    /// Opens the file, or makes a new one, readable by its owner only, and
    /// brings it up to date. Blocks.
    fn open(path: &Path) -> Result<Self, OpenError> {
        let connection = SCHEMA.open_or_create(path)?;
        let thread = SCHEMA.spawn("usage-database", connection)?;
        Ok(Self { thread })
    }

    /// Runs statements, one caller after the other. They run to their end even
    /// when the caller has gone.
    pub async fn run<T: Send + 'static>(
        &self,
        statements: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        Ok(self.thread.run(statements).await??)
    }
}
