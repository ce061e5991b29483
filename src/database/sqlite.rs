//! One SQLite file, and the thread that talks to it.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};
use tokio::sync::oneshot;

/// What brings a file from one version to the next. Only ever appended to.
const MIGRATIONS: [&str; 1] = [include_str!("../../db/sqlite/0001_usage.sql")];

/// `PRAGMA user_version` of a file that is up to date.
const VERSION: u32 = 1;
const _: () = assert!(VERSION as usize == MIGRATIONS.len());

/// `PRAGMA application_id`: "CYKU". Tells our file from any other database.
const APPLICATION: i64 = 0x4359_4b55;

/// Longer than any write of ours takes: only a stuck process makes it pass.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

type Job = Box<dyn FnOnce(&mut Connection) + Send>;

/// A database in one file. Clones share its one connection, which runs on a
/// thread of its own.
#[derive(Clone, Debug)]
pub struct Database {
    jobs: Sender<Job>,
}

/// Why a statement failed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error(transparent)]
    Statement(#[from] rusqlite::Error),
    #[error("the database's thread has ended")]
    Ended,
}

/// Why the file was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{path} is a usage database of version {found}, and this build knows versions up to {VERSION}: \
         use a newer build; the file was left as it is"
    )]
    Newer { path: PathBuf, found: i64 },
    #[error("{path} is not a usage database; the file was left as it is")]
    Foreign { path: PathBuf },
    #[error("the usage database {path} cannot be created: {source}")]
    Create { path: PathBuf, source: io::Error },
    #[error("the usage database {path} cannot be opened: {source}")]
    Open {
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("no thread can be started for the usage database: {0}")]
    Thread(io::Error),
}

impl Database {
    /// Opens the file, or makes a new one, readable by its owner only, and
    /// brings it up to date. Blocks.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        create_if_missing(path).map_err(|source| OpenError::Create {
            path: path.to_owned(),
            source,
        })?;
        let connection = prepare(path)?;
        let (jobs, queue) = mpsc::channel::<Job>();
        std::thread::Builder::new()
            .name("usage-database".to_owned())
            .spawn(move || {
                let mut connection = connection;
                for job in queue {
                    job(&mut connection);
                }
            })
            .map_err(OpenError::Thread)?;
        Ok(Self { jobs })
    }

    /// Runs statements, one caller after the other. They run to their end even
    /// when the caller has gone.
    pub async fn run<T: Send + 'static>(
        &self,
        statements: impl FnOnce(&mut Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, DatabaseError> {
        let (reply, answer) = oneshot::channel();
        let job: Job = Box::new(move |connection| {
            // The caller may have gone.
            let _ = reply.send(statements(connection));
        });
        self.jobs.send(job).map_err(|_| DatabaseError::Ended)?;
        Ok(answer.await.map_err(|_| DatabaseError::Ended)??)
    }
}

fn create_if_missing(path: &Path) -> io::Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    match made {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

fn prepare(path: &Path) -> Result<Connection, OpenError> {
    let failed = |source| OpenError::Open {
        path: path.to_owned(),
        source,
    };
    // Looked at through a connection that cannot write, so that what is not
    // ours to change is left as it is.
    let read_only = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, read_only).map_err(failed)?;
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    let path = path.to_owned();
    match layout(&connection) {
        Ok(Layout::Known(_)) => {}
        Ok(Layout::Newer(found)) => return Err(OpenError::Newer { path, found }),
        Ok(Layout::Foreign) => return Err(OpenError::Foreign { path }),
        Err(source) if source.sqlite_error_code() == Some(rusqlite::ErrorCode::NotADatabase) => {
            return Err(OpenError::Foreign { path });
        }
        Err(source) => return Err(OpenError::Open { path, source }),
    }
    drop(connection);
    connect(&path).map_err(|source| OpenError::Open { path, source })
}

fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(()))?;
    // The usage journal deletes what was acknowledged here: it has to stay.
    connection.pragma_update(None, "synchronous", "FULL")?;
    migrate(&mut connection)?;
    Ok(connection)
}

/// What stands in the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// So many migrations were applied; none to an empty file.
    Known(usize),
    Newer(i64),
    Foreign,
}

fn layout(connection: &Connection) -> rusqlite::Result<Layout> {
    let number = |pragma: &str| connection.query_row::<i64, _, _>(pragma, [], |row| row.get(0));
    let version = number("PRAGMA user_version")?;
    let application = number("PRAGMA application_id")?;
    let tables = number("SELECT count(*) FROM sqlite_schema")?;
    Ok(match (application, usize::try_from(version)) {
        (0, Ok(0)) if tables == 0 => Layout::Known(0),
        (APPLICATION, Ok(known)) if known <= MIGRATIONS.len() => Layout::Known(known),
        (APPLICATION, Ok(_)) => Layout::Newer(version),
        _ => Layout::Foreign,
    })
}

fn migrate(connection: &mut Connection) -> rusqlite::Result<()> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Read inside: another process may have been faster.
    if let Layout::Known(applied) = layout(&transaction)? {
        for migration in &MIGRATIONS[applied..] {
            transaction.execute_batch(migration)?;
        }
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
        let path = directory.path().join("usage.db");
        (directory, path)
    }

    #[tokio::test]
    async fn a_new_file_is_for_its_owner_only_and_opens_again() {
        use std::os::unix::fs::PermissionsExt;
        let (_directory, path) = scratch();
        drop(Database::open(&path).unwrap());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let database = Database::open(&path).unwrap();
        let layout = database.run(|connection| layout(connection)).await.unwrap();
        assert_eq!(layout, Layout::Known(MIGRATIONS.len()));
    }

    #[test]
    fn a_newer_version_is_refused_and_left_as_it_is() {
        let (_directory, path) = scratch();
        drop(Database::open(&path).unwrap());
        let connection = Connection::open(&path).unwrap();
        connection.pragma_update(None, "user_version", 70).unwrap();
        drop(connection);
        let before = std::fs::read(&path).unwrap();
        let error = Database::open(&path).unwrap_err();
        assert!(
            matches!(error, OpenError::Newer { found: 70, .. }),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn what_is_not_a_usage_database_is_refused_and_left_as_it_is() {
        let (_directory, path) = scratch();
        std::fs::write(&path, "not a database, but long enough to look at").unwrap();
        let error = Database::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        std::fs::remove_file(&path).unwrap();
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (a)").unwrap();
        drop(connection);
        let error = Database::open(&path).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
    }
}
