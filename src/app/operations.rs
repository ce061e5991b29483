//! The operations, wired over the stores that a configuration names.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::audit::LazyAuditLog;
use super::store;
use crate::admin::keyring::{self, KeyringUnavailable};
use crate::admin::{Action, AuditEntry, AuditLog as _, AuditUnavailable, Operations, Unlocked};
use crate::clock::Clock;
use crate::config::{Config, missing_password};
use crate::crypto::keyring::{Description, KeyringError, Passwords};
use crate::crypto::{Keyring, Password, Suite};
use crate::repository::{ApiKeyReader, StoreKind};
use crate::setting::Invalid;
use crate::sqlite;
use crate::token::InvalidPrefix;
use crate::usage::config::Sink;

/// Why the stores, or the keyring in them, cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Store(#[from] sqlite::OpenError),
    #[error("{store}: {cause}")]
    Keyring {
        store: String,
        cause: KeyringUnavailable,
    },
    #[error(transparent)]
    Audit(#[from] AuditUnavailable),
    #[error("{0}")]
    Password(Invalid),
    #[error(transparent)]
    Prefix(#[from] InvalidPrefix),
    #[error("{}: no usage was recorded yet", .0.display())]
    NoUsage(PathBuf),
    #[cfg(feature = "postgres")]
    #[error("no PostgreSQL is chosen: set DATABASE_URL, or DB_HOST")]
    NoPostgres,
    #[cfg(feature = "postgres")]
    #[error("PostgreSQL: {0}")]
    Server(#[from] crate::database::InvalidServer),
    #[cfg(feature = "postgres")]
    #[error(transparent)]
    Database(#[from] crate::database::NotReady),
    #[error("opening the usage database: {0}")]
    Ended(tokio::task::JoinError),
    #[error("no key can be made that signs assertions: {0}")]
    Signer(#[from] aws_lc_rs::error::KeyRejected),
    #[error("no Firestore is chosen: set GOOGLE_CLOUD_PROJECT_ID")]
    NoFirestore,
    #[cfg(feature = "firestore")]
    #[error("Firestore: {0}")]
    Credentials(#[from] crate::repository::firestore::CredentialsError),
    #[error("there is no key store at {} (data.dir): `cypheron-edge keyring init` makes one", .0.display())]
    NoStore(PathBuf),
    #[error("{} (data.dir) cannot be reached: {source}", .path.display())]
    Unreachable { path: PathBuf, source: io::Error },
    #[error("data.dir: {path} cannot be made: {source}: write another one, or make it yourself")]
    Directory { path: PathBuf, source: io::Error },
}

impl OpenError {
    /// Whether it is for whoever wrote the configuration to mend.
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::Password(_)
            | Self::NoFirestore
            | Self::NoStore(_)
            | Self::Unreachable { .. }
            | Self::Directory { .. }
            | Self::Prefix(_)
            | Self::Store(sqlite::OpenError::Newer { .. } | sqlite::OpenError::Foreign { .. }) => {
                true
            }
            Self::Keyring { cause, .. } => cause.is_configuration(),
            #[cfg(feature = "firestore")]
            Self::Credentials(_) => true,
            #[cfg(feature = "postgres")]
            Self::NoPostgres | Self::Server(_) => true,
            #[cfg(feature = "postgres")]
            Self::Database(error) => error.is_final(),
            _ => false,
        }
    }
}

/// What an operation takes of the keyring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// It seals or opens.
    Open,
    /// It does more when the keyring opens, and goes on when not.
    OpenIfPossible,
    Nothing,
}

/// The operations of a store that has a keyring.
pub async fn operations(
    config: &Config,
    clock: &Clock,
    need: Need,
) -> Result<Operations, OpenError> {
    let repository = store::existing(config, clock).await?;
    let unlocked = match need {
        Need::Open => Some(unlock(config, &*repository).await?),
        Need::OpenIfPossible if config.password.is_some() || config.password_problem.is_some() => {
            unlock(config, &*repository)
                .await
                .inspect_err(|error| tracing::warn!(%error, "going on without the keyring"))
                .ok()
        }
        Need::OpenIfPossible | Need::Nothing => None,
    };
    Ok(Operations {
        audit: Arc::new(audit_log(config, clock)),
        repository,
        unlocked,
        scope: store::scope(config),
        format: config.auth.format()?,
        actor: actor(),
        clock: clock.clone(),
    })
}

/// Makes the keyring of a store that has none, and the store when there is none.
pub async fn init_keyring(
    config: &Config,
    clock: &Clock,
    suite: Suite,
) -> Result<Description, OpenError> {
    if config.keys.store == Some(StoreKind::Embedded) || config.usage.sink == Some(Sink::Sqlite) {
        make_directory(&config.data.dir)?;
    }
    let repository = store::opened(config, clock)?;
    let password = password(config)?;
    let collection = store::collection(config);
    let made = keyring::init(&*repository, &collection, password, suite, clock.wall())
        .await
        .map_err(|cause| of_keyring(config, cause))?;
    let entry = AuditEntry {
        at: clock.wall(),
        actor: actor(),
        action: Action::KeyringInit,
        key_id: None,
        revision: None,
        detail: collection,
    };
    audit_log(config, clock).record(entry).await?;
    Ok(made.describe())
}

/// Whether there is a store that has a keyring.
pub(super) async fn has_keyring(config: &Config, clock: &Clock) -> Result<bool, OpenError> {
    match store::existing(config, clock).await {
        Ok(_) => Ok(true),
        Err(
            OpenError::NoStore(_)
            | OpenError::Keyring {
                cause: KeyringUnavailable::Missing { .. },
                ..
            },
        ) => Ok(false),
        Err(error) => Err(error),
    }
}

/// What the keyring says of itself.
pub async fn describe_keyring(config: &Config, clock: &Clock) -> Result<Description, OpenError> {
    let repository = store::existing(config, clock).await?;
    keyring::describe(&*repository, &store::collection(config))
        .await
        .map_err(|cause| of_keyring(config, cause))
}

/// `None` when there is no such file. One that cannot be looked at may well be
/// there.
pub(super) fn reachable(file: &Path) -> Result<Option<()>, OpenError> {
    match std::fs::metadata(file) {
        Ok(_) => Ok(Some(())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(OpenError::Unreachable {
            path: file.to_owned(),
            source,
        }),
    }
}

pub(super) async fn unlock(
    config: &Config,
    repository: &dyn ApiKeyReader,
) -> Result<Unlocked, OpenError> {
    unlocked(config, &open_keyring(config, repository).await?)
}

pub(super) async fn open_keyring(
    config: &Config,
    repository: &dyn ApiKeyReader,
) -> Result<Keyring, OpenError> {
    keyring::load(repository, &store::collection(config), passwords(config)?)
        .await
        .map_err(|cause| of_keyring(config, cause))
}

pub(super) fn unlocked(config: &Config, keyring: &Keyring) -> Result<Unlocked, OpenError> {
    Unlocked::new(keyring).ok_or_else(|| {
        let unusable = KeyringUnavailable::Unusable {
            collection: store::collection(config),
            cause: KeyringError::Damaged("it has no keys for tokens"),
        };
        of_keyring(config, unusable)
    })
}

/// Says which store it is about.
pub(super) fn of_keyring(config: &Config, cause: KeyringUnavailable) -> OpenError {
    let store = store::place(config);
    OpenError::Keyring { store, cause }
}

pub(super) fn password(config: &Config) -> Result<Password, OpenError> {
    let password = config.password.clone();
    password.ok_or_else(|| {
        let problem = config.password_problem.clone();
        OpenError::Password(problem.unwrap_or_else(missing_password))
    })
}

/// The one in use, and the one that is to take its place when that is given too.
pub(super) fn passwords(config: &Config) -> Result<Passwords, OpenError> {
    let new = config.new_password.clone().map_err(OpenError::Password)?;
    Ok(Passwords::new(password(config)?, new))
}

/// Readable by its owner only: what is in it is worth as much as the keys.
fn make_directory(path: &Path) -> Result<(), OpenError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| OpenError::Directory {
        path: path.to_owned(),
        source,
    })
}

pub(super) fn audit_log(config: &Config, clock: &Clock) -> LazyAuditLog {
    LazyAuditLog::new(config.clone(), clock.clone())
}

/// Who runs this, as the system knows it; a name from the environment could be
/// anybody's.
pub(super) fn actor() -> String {
    format!("uid {}", rustix::process::getuid().as_raw())
}
