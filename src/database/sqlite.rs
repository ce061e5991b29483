//! The usage database in one SQLite file.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::sqlite::{Ended, OpenError, Schema, Thread};

const SCHEMA: Schema = Schema {
    name: "usage database",
    // "CYKU"
    application: 0x4359_4b55,
    migrations: &[
        include_str!("../../db/sqlite/0001_usage.sql"),
        include_str!("../../db/sqlite/0002_totals.sql"),
    ],
};

/// A database in one file. Clones share its one connection, which runs on a
/// thread of its own.
#[derive(Clone, Debug)]
pub struct Database {
    thread: Thread<Connection>,
    path: PathBuf,
}

/// A lock beside the file, until it is dropped or its process ends.
#[derive(Debug)]
pub struct FileLock(#[expect(dead_code, reason = "the open file is the lock")] File);

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
        Ok(Self {
            thread,
            path: path.to_owned(),
        })
    }

    /// One process at a time has the lock of a name: `None` while another has it.
    pub fn try_lock(&self, name: &str) -> io::Result<Option<FileLock>> {
        // For its owner only: whoever can open it can lock it, and keep us out.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(self.path.with_extension(format!("{name}.lock")))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(FileLock(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
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
