//! Sockets that are files: whoever may open one may connect.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;

/// A socket's name in the file system, removed in the end.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode: another one of the same name is not ours to remove.
    file: (u64, u64),
    is_left: bool,
}

impl SocketFile {
    /// What lies at `path` and nobody listens at is replaced.
    pub fn bind(path: &Path, mode: u32) -> io::Result<(UnixListener, Self)> {
        if let Ok(found) = fs::symlink_metadata(path)
            && found.file_type().is_file()
        {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a file is there",
            ));
        }
        if UnixStream::connect(path).is_ok() {
            let problem = "another process listens there: stop it first";
            return Err(io::Error::new(io::ErrorKind::AddrInUse, problem));
        }
        Self::replace(path, mode)
    }

    /// As [`bind`](Self::bind), whatever lies there. The name is there only once
    /// the permissions are.
    pub fn replace(path: &Path, mode: u32) -> io::Result<(UnixListener, Self)> {
        let mut unnamed = path.as_os_str().to_owned();
        unnamed.push(format!(".{}", process::id()));
        let unnamed = PathBuf::from(unnamed);
        let _ = fs::remove_file(&unnamed);
        let listener = UnixListener::bind(&unnamed)?;
        let named = fs::set_permissions(&unnamed, Permissions::from_mode(mode))
            .and_then(|()| listener.set_nonblocking(true))
            .and_then(|()| identity(&unnamed))
            .and_then(|file| fs::rename(&unnamed, path).map(|()| file));
        match named {
            Ok(file) => {
                let path = path.to_owned();
                let is_left = false;
                Ok((
                    listener,
                    Self {
                        path,
                        file,
                        is_left,
                    },
                ))
            }
            Err(error) => {
                let _ = fs::remove_file(&unnamed);
                Err(error)
            }
        }
    }
}

impl SocketFile {
    /// Leaves it to another process.
    pub fn leave(mut self) {
        self.is_left = true;
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if !self.is_left && identity(&self.path).is_ok_and(|file| file == self.file) {
            // One that stays is replaced at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_for_those_it_is_meant_for_and_gone_in_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edge.sock");
        let (listener, file) = SocketFile::bind(&path, 0o600).unwrap();
        let mode = fs::symlink_metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        UnixStream::connect(&path).unwrap();
        let taken = SocketFile::bind(&path, 0o600).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
        drop((listener, file));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn one_that_another_process_has_now_stays() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("edge.sock");
        let (listener, file) = SocketFile::bind(&path, 0o600).unwrap();
        file.leave();
        UnixStream::connect(&path).unwrap();
        let (_next, file) = SocketFile::replace(&path, 0o600).unwrap();
        drop(listener);
        UnixStream::connect(&path).unwrap();
        drop(file);
        assert!(!path.exists());
    }

    #[test]
    fn what_a_killed_process_left_is_replaced_and_a_file_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let left = directory.path().join("left.sock");
        drop(UnixListener::bind(&left).unwrap());
        let (_, ours) = SocketFile::bind(&left, 0o660).unwrap();
        fs::remove_file(&left).unwrap();
        let theirs = UnixListener::bind(&left).unwrap();
        drop(ours);
        assert!(left.exists(), "another one's socket was removed");
        drop(theirs);
        let file = directory.path().join("notes.txt");
        fs::write(&file, "mine").unwrap();
        assert!(SocketFile::bind(&file, 0o660).is_err());
        assert_eq!(fs::read_to_string(&file).unwrap(), "mine");
    }
}
