//! Opening the file: which versions are taken, and how one comes to be.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

/// The newest layout this build knows, kept in `PRAGMA user_version`.
const VERSION: i64 = 1;

/// `PRAGMA application_id`: "CYKE". Tells our file from any other database.
const APPLICATION: i64 = 0x4359_4b45;

/// How long a statement waits for another process's write. Longer than any
/// write of ours takes, so only a stuck process makes it pass.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const LAYOUT: &str = include_str!("schema.sql");

/// Why the file was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{path} is a key store of version {found}, and this build knows versions up to \
         {VERSION}: use a newer build; the file was left as it is"
    )]
    Newer { path: PathBuf, found: i64 },
    #[error("{path} is not a key store; the file was left as it is")]
    Foreign { path: PathBuf },
    #[error("the key store {path} cannot be created: {source}")]
    Create {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("the key store {path} cannot be opened: {source}")]
    Open {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("no thread can be started for the key store: {0}")]
    Thread(std::io::Error),
}

/// What stands in the file before anything is written to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    Empty,
    Known(i64),
    Newer(i64),
    Foreign,
}

/// Opens the file, or makes a new one, readable by its owner only.
pub(super) fn open_or_create(path: &Path) -> Result<Connection, OpenError> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(source) => {
            let path = path.to_owned();
            return Err(OpenError::Create { path, source });
        }
    }
    open(path)
}

/// Opens a file that is there.
pub(super) fn open(path: &Path) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::Open {
        path: path.to_owned(),
        source,
    };
    // Looked at through a connection that cannot write, so that what is not
    // ours to change is left as it is.
    match inspect(path).map_err(failed)? {
        Layout::Newer(found) => {
            let path = path.to_owned();
            return Err(OpenError::Newer { path, found });
        }
        Layout::Foreign => {
            let path = path.to_owned();
            return Err(OpenError::Foreign { path });
        }
        Layout::Empty | Layout::Known(_) => {}
    }
    prepare(path).map_err(failed)
}

fn inspect(path: &Path) -> rusqlite::Result<Layout> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    match layout(&connection) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
            Ok(Layout::Foreign)
        }
        other => other,
    }
}

fn layout(connection: &Connection) -> rusqlite::Result<Layout> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let application: i64 = connection.query_row("PRAGMA application_id", [], |row| row.get(0))?;
    let tables: i64 =
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    Ok(match (application, version) {
        (APPLICATION, 1..=VERSION) => Layout::Known(version),
        (APPLICATION, _) if version > VERSION => Layout::Newer(version),
        (0, 0) if tables == 0 => Layout::Empty,
        _ => Layout::Foreign,
    })
}

fn prepare(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    set_write_ahead_log(&connection)?;
    // An acknowledged write, a revocation say, survives a power cut.
    connection.pragma_update(None, "synchronous", "FULL")?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// The change of mode does not wait for its lock as other statements do, and
/// two processes may make it at once.
fn set_write_ahead_log(connection: &Connection) -> rusqlite::Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    let mut patience = BUSY_TIMEOUT;
    loop {
        let changed = connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()));
        match changed {
            Err(error)
                if error.sqlite_error_code() == Some(ErrorCode::DatabaseBusy)
                    && !patience.is_zero() =>
            {
                patience = patience.saturating_sub(PAUSE);
                std::thread::sleep(PAUSE);
            }
            other => return other,
        }
    }
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    if layout(connection)? == Layout::Known(VERSION) {
        return Ok(());
    }
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Another process may have been faster.
    if layout(&transaction)? == Layout::Empty {
        transaction.execute_batch(LAYOUT)?;
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(None, "user_version", VERSION)?;
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.db");
        (directory, path)
    }

    #[test]
    fn a_new_file_is_for_its_owner_only_and_opens_again() {
        use std::os::unix::fs::PermissionsExt;
        let (_directory, path) = scratch();
        drop(open_or_create(&path).unwrap());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(
            layout(&open_or_create(&path).unwrap()).unwrap(),
            Layout::Known(VERSION)
        );
    }

    #[test]
    fn a_newer_version_is_refused_and_left_as_it_is() {
        let (_directory, path) = scratch();
        let connection = open_or_create(&path).unwrap();
        connection.pragma_update(None, "user_version", 7).unwrap();
        drop(connection);
        let before = std::fs::read(&path).unwrap();
        let error = open_or_create(&path).unwrap_err();
        assert!(
            matches!(error, OpenError::Newer { found: 7, .. }),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn what_is_not_a_key_store_is_refused_and_left_as_it_is() {
        let (_directory, path) = scratch();
        let connection = Connection::open(&path).unwrap();
        connection
            .execute_batch("CREATE TABLE accounts (name TEXT)")
            .unwrap();
        drop(connection);
        let before = std::fs::read(&path).unwrap();
        let error = open_or_create(&path).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        assert_eq!(std::fs::read(&path).unwrap(), before);

        std::fs::write(&path, "not a database, but long enough to look at").unwrap();
        let error = open_or_create(&path).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    }

    #[test]
    fn two_processes_may_make_the_file_at_once() {
        let (_directory, path) = scratch();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| open_or_create(&path).unwrap());
            }
        });
    }
}
