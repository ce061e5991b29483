//! The versions of the schema: migrations, applied once and never changed.

use sqlx::PgConnection;
use sqlx::migrate::{MigrateError, Migrator};
use tokio_postgres::Client;

use super::Unavailable;
use crate::cause::chain;

/// What brings a database from one version to the next. Only ever appended to.
pub static MIGRATIONS: Migrator = sqlx::migrate!("db/migrations");

/// What stands in a database, compared to what this build knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchemaState {
    Current,
    /// So many migrations are not applied yet: all of them to an empty one.
    Behind(usize),
    /// A newer build has been here.
    Ahead {
        found: i64,
    },
    /// A migration that was applied has another text here.
    Changed {
        version: i64,
    },
}

/// Why usage cannot be kept in this database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotReady {
    #[error(
        "the database is at version {found}, and this build knows versions up to {known}: use a \
         newer build; the database was left as it is"
    )]
    Ahead { found: i64, known: i64 },
    #[error(
        "the database lacks {0} migrations: run `cypheron-edge migrate`, or set \
         `database.migrate_at_start`"
    )]
    Behind(usize),
    #[error(
        "migration {version} of the database is not the one that this build knows: it was \
         changed after it had been applied; the database was left as it is"
    )]
    Changed { version: i64 },
    #[error("migration {version} failed: {cause}")]
    Failed { version: i64, cause: String },
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

impl NotReady {
    /// Whether waiting does not mend it.
    pub const fn is_final(&self) -> bool {
        !matches!(self, Self::Unavailable(_) | Self::Failed { .. })
    }
}

/// The newest version that this build knows.
pub(super) fn known() -> i64 {
    MIGRATIONS
        .iter()
        .map(|known| known.version)
        .max()
        .unwrap_or(0)
}

const IS_EMPTY: &str = "SELECT to_regclass('_sqlx_migrations') IS NULL";
const APPLIED: &str =
    "SELECT version, checksum FROM _sqlx_migrations WHERE success ORDER BY version";

/// Looks, and changes nothing.
pub(super) async fn state(connection: &mut PgConnection) -> Result<SchemaState, Unavailable> {
    if sqlx::query_scalar(IS_EMPTY)
        .fetch_one(&mut *connection)
        .await?
    {
        return Ok(compare(&[]));
    }
    let applied: Vec<(i64, Vec<u8>)> = sqlx::query_as(APPLIED).fetch_all(connection).await?;
    Ok(compare(&applied))
}

/// As [`state`], through a connection of the other pool: that one may lead to
/// another server than this one, which has just taken its place.
pub(super) async fn seen_by(client: &Client) -> Result<SchemaState, Unavailable> {
    if client.query_one(IS_EMPTY, &[]).await?.try_get(0)? {
        return Ok(compare(&[]));
    }
    let rows = client.query(APPLIED, &[]).await?;
    let applied = rows
        .iter()
        .map(|row| Ok((row.try_get(0)?, row.try_get(1)?)));
    let applied: Result<Vec<_>, tokio_postgres::Error> = applied.collect();
    Ok(compare(&applied?))
}

fn compare(applied: &[(i64, Vec<u8>)]) -> SchemaState {
    let mut missing = MIGRATIONS.iter().count();
    for (version, checksum) in applied {
        let known = MIGRATIONS.iter().find(|known| known.version == *version);
        match known {
            None => return SchemaState::Ahead { found: *version },
            Some(known) if *known.checksum != **checksum => {
                return SchemaState::Changed { version: *version };
            }
            Some(_) => missing -= 1,
        }
    }
    if missing == 0 {
        SchemaState::Current
    } else {
        SchemaState::Behind(missing)
    }
}

/// Applies what is missing, each migration in a transaction, under an advisory
/// lock: of several processes that start at once one does it.
pub(super) async fn migrate(connection: &mut PgConnection) -> Result<(), NotReady> {
    // Not `run`: rustc does not see that its future may be sent to another
    // thread, generic as it is in where the connection comes from.
    MIGRATIONS
        .run_direct(None, connection, false)
        .await
        .map_err(|error| match error {
            MigrateError::VersionMissing(found) => NotReady::Ahead {
                found,
                known: known(),
            },
            MigrateError::VersionMismatch(version) => NotReady::Changed { version },
            MigrateError::ExecuteMigration(error, version) => NotReady::Failed {
                version,
                cause: chain(&error),
            },
            other => NotReady::Unavailable(Unavailable(chain(&other))),
        })
}
