//! A connection that watches over its path.
//!
//! A file that is removed, or replaced by another one, is an outage, and never
//! an empty store: SQLite would go on with the unlinked file, or mix the new
//! one with the old one's write-ahead log. To put a backup in place, stop every
//! process that uses the store, or restore into the file (`.restore` of the
//! `sqlite3` shell).

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rusqlite::Connection;

use super::SCHEMA;
use crate::repository::{RepositoryError, Result};

/// A path, and the file it leads to.
#[derive(Clone, Debug)]
pub(super) struct Place {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Place {
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(Self {
            path: path.to_owned(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    }

    fn verify(&self) -> Result<()> {
        let path = self.path.display();
        let unavailable = |text| Err(RepositoryError::Unavailable(text));
        match Self::of(&self.path) {
            Ok(found) if (found.device, found.inode) == (self.device, self.inode) => Ok(()),
            Ok(_) => unavailable(format!(
                "{path} was replaced while it was in use: start again"
            )),
            Err(error) => unavailable(format!("{path}: {error}")),
        }
    }
}

/// The store's file, opened when it is first used.
#[derive(Debug)]
pub(super) struct File {
    place: Place,
    connection: Option<Connection>,
}

impl File {
    pub(super) const fn at(place: Place) -> Self {
        Self {
            place,
            connection: None,
        }
    }

    pub(super) fn connect(&mut self) -> Result<&mut Connection> {
        self.place.verify()?;
        let connection = match self.connection.take() {
            Some(connection) => connection,
            None => self.open()?,
        };
        Ok(self.connection.insert(connection))
    }

    fn open(&self) -> Result<Connection> {
        let connection = SCHEMA
            .open(&self.place.path)
            .map_err(|error| RepositoryError::Unavailable(error.to_string()))?;
        self.place.verify()?;
        Ok(connection)
    }
}
