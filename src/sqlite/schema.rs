//! Opening a file: which versions are taken, and how one comes to be.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::Thread;

/// How long a statement waits for another process's write. Longer than any
/// write of ours takes, so only a stuck process makes it pass.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// One kind of file.
#[derive(Debug)]
pub struct Schema {
    /// What operators know it as: "key store".
    pub name: &'static str,
    /// `PRAGMA application_id`: tells it from any other database.
    pub application: i32,
    /// What brings it from one version to the next, the first of them from an
    /// empty file. Only ever appended to. `PRAGMA user_version` counts them.
    pub migrations: &'static [&'static str],
}

/// Why a file was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{path} is a {name} of version {found}, and this build knows versions up to {known}: use \
         a newer build; the file was left as it is"
    )]
    Newer {
        name: &'static str,
        path: PathBuf,
        found: i64,
        known: usize,
    },
    #[error("{path} is not a {name}; the file was left as it is")]
    Foreign { name: &'static str, path: PathBuf },
    #[error("the {name} {path} cannot be created: {source}")]
    Create {
        name: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the {name} {path} cannot be opened: {source}")]
    Open {
        name: &'static str,
        path: PathBuf,
        source: rusqlite::Error,
    },
    #[error("no thread can be started for the {name}: {source}")]
    Thread {
        name: &'static str,
        source: io::Error,
    },
}

/// What stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Layout {
    /// So many migrations were applied; none to an empty file.
    Known(usize),
    Newer(i64),
    Foreign,
}

impl Schema {
    /// Opens the file, or makes a new one, readable by its owner only, and
    /// brings it up to date. Blocks.
    pub fn open_or_create(&self, path: &Path) -> Result<Connection, OpenError> {
        let made = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path);
        match made {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                Err(OpenError::Create {
                    name: self.name,
                    path: path.to_owned(),
                    source,
                })
            }
            _ => self.open(path),
        }
    }

    /// Opens a file that is there, and brings it up to date. Blocks.
    pub fn open(&self, path: &Path) -> Result<Connection, OpenError> {
        let name = self.name;
        let failed = |source| OpenError::Open {
            name,
            path: path.to_owned(),
            source,
        };
        // Looked at through a connection that cannot write, so that what is not
        // ours to change is left as it is.
        match self.inspect(path).map_err(failed)? {
            Layout::Known(_) => self.prepare(path).map_err(failed),
            Layout::Newer(found) => Err(OpenError::Newer {
                name,
                path: path.to_owned(),
                found,
                known: self.migrations.len(),
            }),
            Layout::Foreign => Err(OpenError::Foreign {
                name,
                path: path.to_owned(),
            }),
        }
    }

    /// A thread over such a file.
    pub fn spawn<S: Send + 'static>(&self, thread: &str, state: S) -> Result<Thread<S>, OpenError> {
        Thread::spawn(thread, state).map_err(|source| OpenError::Thread {
            name: self.name,
            source,
        })
    }

    fn inspect(&self, path: &Path) -> rusqlite::Result<Layout> {
        let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        match self.layout(&connection) {
            Err(error) if error.sqlite_error_code() == Some(ErrorCode::NotADatabase) => {
                Ok(Layout::Foreign)
            }
            other => other,
        }
    }

    fn layout(&self, connection: &Connection) -> rusqlite::Result<Layout> {
        // In one statement: of another process that makes the file at this
        // moment, all is seen or nothing.
        let (version, application, tables): (i64, i64, i64) = connection.query_row(
            "SELECT (SELECT user_version FROM pragma_user_version), \
             (SELECT application_id FROM pragma_application_id), \
             (SELECT count(*) FROM sqlite_schema)",
            [],
            |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
        )?;
        let is_ours = application == i64::from(self.application);
        Ok(match usize::try_from(version) {
            Ok(0) if application == 0 && tables == 0 => Layout::Known(0),
            Ok(applied @ 1..) if is_ours && applied <= self.migrations.len() => {
                Layout::Known(applied)
            }
            Ok(1..) if is_ours => Layout::Newer(version),
            _ => Layout::Foreign,
        })
    }

    fn prepare(&self, path: &Path) -> rusqlite::Result<Connection> {
        let mut connection = connect(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        set_write_ahead_log(&connection)?;
        // What was acknowledged, a revocation say, survives a power cut.
        connection.pragma_update(None, "synchronous", "FULL")?;
        self.migrate(&mut connection)?;
        Ok(connection)
    }

    fn migrate(&self, connection: &mut Connection) -> rusqlite::Result<()> {
        if self.layout(connection)? == Layout::Known(self.migrations.len()) {
            return Ok(());
        }
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Another process may have been faster.
        if let Layout::Known(applied) = self.layout(&transaction)? {
            for migration in &self.migrations[applied..] {
                transaction.execute_batch(migration)?;
            }
            let version = i64::try_from(self.migrations.len()).unwrap_or(i64::MAX);
            transaction.pragma_update(None, "application_id", self.application)?;
            transaction.pragma_update(None, "user_version", version)?;
        }
        transaction.commit()
    }
}

fn connect(path: &Path, access: OpenFlags) -> rusqlite::Result<Connection> {
    let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    Ok(connection)
}

/// The change of mode does not wait for its lock as other statements do, and
/// two processes may make it at once.
fn set_write_ahead_log(connection: &Connection) -> rusqlite::Result<()> {
    const PAUSE: Duration = Duration::from_millis(10);
    let mut patience = BUSY_TIMEOUT;
    loop {
        match connection.query_row("PRAGMA journal_mode = WAL", [], |_| Ok(())) {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const FIRST: Schema = Schema {
        name: "test store",
        application: 7,
        migrations: &["CREATE TABLE kept (number INTEGER)"],
    };

    const SECOND: Schema = Schema {
        migrations: &[
            "CREATE TABLE kept (number INTEGER)",
            "ALTER TABLE kept ADD COLUMN name TEXT",
        ],
        ..FIRST
    };

    fn scratch() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("test.db");
        (directory, path)
    }

    #[test]
    fn a_new_file_is_for_its_owner_only_and_opens_again() {
        let (_directory, path) = scratch();
        drop(FIRST.open_or_create(&path).unwrap());
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let connection = FIRST.open_or_create(&path).unwrap();
        assert_eq!(FIRST.layout(&connection), Ok(Layout::Known(1)));
    }

    #[test]
    fn an_older_version_is_brought_up_to_date_and_keeps_what_it_holds() {
        let (_directory, path) = scratch();
        let connection = FIRST.open_or_create(&path).unwrap();
        connection
            .execute("INSERT INTO kept VALUES (5)", [])
            .unwrap();
        drop(connection);
        let connection = SECOND.open_or_create(&path).unwrap();
        let kept: (i64, Option<String>) = connection
            .query_row("SELECT number, name FROM kept", [], |row| row.try_into())
            .unwrap();
        assert_eq!(kept, (5, None));
    }

    #[test]
    fn a_newer_version_is_refused_and_left_as_it_is() {
        let (_directory, path) = scratch();
        drop(SECOND.open_or_create(&path).unwrap());
        let before = std::fs::read(&path).unwrap();
        let error = FIRST.open_or_create(&path).unwrap_err();
        assert!(
            matches!(error, OpenError::Newer { found: 2, .. }),
            "{error}"
        );
        assert_eq!(std::fs::read(&path).unwrap(), before);
    }

    #[test]
    fn what_is_not_of_this_kind_is_refused_and_left_as_it_is() {
        let (_directory, path) = scratch();
        let another = Schema {
            application: 8,
            ..FIRST
        };
        drop(another.open_or_create(&path).unwrap());
        refused_and_left_as_it_is(&path);

        std::fs::remove_file(&path).unwrap();
        let connection = Connection::open(&path).unwrap();
        connection.execute_batch("CREATE TABLE t (a)").unwrap();
        drop(connection);
        refused_and_left_as_it_is(&path);

        std::fs::write(&path, "not a database, but long enough to look at").unwrap();
        refused_and_left_as_it_is(&path);
    }

    fn refused_and_left_as_it_is(path: &Path) {
        let before = std::fs::read(path).unwrap();
        let error = FIRST.open_or_create(path).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { .. }), "{error}");
        assert_eq!(std::fs::read(path).unwrap(), before);
    }

    #[test]
    fn a_file_that_is_not_there_is_only_made_when_asked_for() {
        let (_directory, path) = scratch();
        assert!(matches!(FIRST.open(&path), Err(OpenError::Open { .. })));
        assert!(!path.exists());
    }

    #[test]
    fn two_processes_may_make_a_file_at_once() {
        let (_directory, path) = scratch();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| SECOND.open_or_create(&path).unwrap());
            }
        });
    }
}
