//! Locks on directories, held by a process for its life.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::owner_only;

/// A lock on a file, until it is dropped or the process ends, however it ends.
#[derive(Debug)]
pub(super) struct Lock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl Lock {
    /// `None` when another process has it.
    pub(super) fn try_exclusive(path: &Path) -> io::Result<Option<Self>> {
        Self::take(path, FlockOperation::NonBlockingLockExclusive)
    }

    fn take(path: &Path, operation: FlockOperation) -> io::Result<Option<Self>> {
        let file = open(path)?;
        match flock(&file, operation) {
            Ok(()) => Ok(Some(Self(file))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

fn open(path: &Path) -> io::Result<File> {
    // Whoever can open it can lock it, and keep us out.
    owner_only::options()
        .create(true)
        .truncate(false)
        .open(path)
}

/// A data directory that is this process's, until it is dropped.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    _lock: Lock,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ClaimError {
    #[error("{} is in use by another process", .0.display())]
    InUse(PathBuf),
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: io::Error },
}

impl DataDir {
    /// Makes the directory (for its owner only) if it is missing, and claims it.
    /// With `take_over`, beside another process that has it: one that ends, say.
    pub fn claim(path: &Path, take_over: bool) -> Result<Self, ClaimError> {
        Self::try_claim(path, take_over)
            .map_err(|source| ClaimError::Io {
                path: path.to_owned(),
                source,
            })?
            .ok_or_else(|| ClaimError::InUse(path.to_owned()))
    }

    fn try_claim(path: &Path, take_over: bool) -> io::Result<Option<Self>> {
        owner_only::make_directory(path)?;
        let file = path.join("lock");
        // Whoever lives holds a share; having it all first proves to be alone.
        if !take_over && Lock::try_exclusive(&file)?.is_none() {
            return Ok(None);
        }
        let path = fs::canonicalize(path)?;
        let lock = Lock::take(&file, FlockOperation::NonBlockingLockShared)?;
        Ok(lock.map(|lock| Self { path, _lock: lock }))
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_use_is_refused_unless_it_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data");
        let first = DataDir::claim(&path, false).unwrap();
        let refused = DataDir::claim(&path, false).unwrap_err();
        assert!(matches!(refused, ClaimError::InUse(_)), "{refused}");
        let second = DataDir::claim(&path, true).unwrap();
        drop(first);
        assert!(DataDir::claim(&path, false).is_err());
        drop(second);
        assert!(DataDir::claim(&path, false).is_ok());
    }
}
