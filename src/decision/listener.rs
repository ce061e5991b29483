//! Where questions come in: sockets of the file system, and addresses.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process;

use super::caller::Caller;
use super::config::Place;
use super::{DecisionConfig, Dialect};
use crate::inherited::{self, Inherited};
use crate::secret::Secret;

/// A place cannot be listened at.
#[derive(Debug, thiserror::Error)]
#[error("decisions.{name}.listen: cannot listen at {place}: {source}")]
pub struct BindError {
    name: String,
    place: String,
    source: io::Error,
}

/// All listeners of a deployment; nobody is answered yet.
#[derive(Debug, Default)]
pub struct Listeners(pub(super) Vec<Listener>);

#[derive(Debug)]
pub(super) struct Listener {
    pub(super) name: String,
    pub(super) dialect: Dialect,
    pub(super) caller: Caller,
    pub(super) bound: Bound,
}

#[derive(Debug)]
pub(super) enum Bound {
    Address(TcpListener),
    /// Without its file where that is another process's to remove.
    Socket(UnixListener, Option<SocketFile>),
}

impl Listeners {
    /// Of `configs`, which are sound: on the sockets that were `inherited`, where
    /// they were. `secret` is there where one needs it.
    pub fn bind(
        configs: &BTreeMap<String, DecisionConfig>,
        secret: Option<&Secret<String>>,
        inherited: &mut Inherited,
    ) -> Result<Self, BindError> {
        let mut listeners = Vec::with_capacity(configs.len());
        for (name, config) in configs {
            let Some((dialect, place)) = config.compile("decisions", &mut Vec::new()) else {
                continue;
            };
            let failed = |source| BindError {
                name: name.clone(),
                place: config.listen.clone(),
                source,
            };
            let caller = match (&place, secret) {
                (Place::Socket { .. }, _) => Caller::Socket,
                (Place::Address(_), Some(secret)) => Caller::Secret(secret.clone()),
                (Place::Address(_), None) => {
                    let problem = "there is no secret to know callers by";
                    return Err(failed(io::Error::other(problem)));
                }
            };
            listeners.push(Listener {
                name: name.clone(),
                dialect,
                caller,
                bound: Bound::to(&place, inherited, name).map_err(failed)?,
            });
        }
        Ok(Self(listeners))
    }

    pub const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Bound {
    fn to(place: &Place, inherited: &mut Inherited, name: &str) -> io::Result<Self> {
        let given = inherited::decision(name);
        match place {
            Place::Address(address) => {
                if let Some(listener) = inherited.one_internet(&given)? {
                    return Ok(Self::Address(listener));
                }
                let listener = TcpListener::bind(address)?;
                listener.set_nonblocking(true)?;
                Ok(Self::Address(listener))
            }
            Place::Socket { path, mode } => {
                if let Some(listener) = inherited.file(&given)? {
                    return Ok(Self::Socket(listener, None));
                }
                let (listener, file) = SocketFile::bind(path, *mode)?;
                Ok(Self::Socket(listener, Some(file)))
            }
        }
    }
}

/// A socket's name in the file system, removed in the end.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode: another one of the same name is not ours to remove.
    file: (u64, u64),
}

impl SocketFile {
    /// What lies at `path` and nobody listens at is replaced. The name is there
    /// only once the permissions are.
    fn bind(path: &Path, mode: u32) -> io::Result<(UnixListener, Self)> {
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
                Ok((listener, Self { path, file }))
            }
            Err(error) => {
                let _ = fs::remove_file(&unnamed);
                Err(error)
            }
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
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
