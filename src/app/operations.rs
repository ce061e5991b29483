//! The operations, wired over the stores that a configuration names.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::audit::LazyAuditLog;
use crate::admin::keyring::{self, KeyringUnavailable};
use crate::admin::{Action, AuditEntry, AuditLog as _, AuditUnavailable, Operations, Unlocked};
use crate::clock::Clock;
use crate::config::{Config, missing_password};
use crate::crypto::keyring::{Description, KeyringError};
use crate::crypto::{Password, Suite};
use crate::key::Scope;
use crate::repository::embedded::EmbeddedApiKeyRepository;
use crate::repository::{ApiKeyReader, ApiKeyRepository};
use crate::setting::Invalid;
use crate::sqlite;
use crate::token::InvalidPrefix;

/// The embedded store's collection; sealed into every record of it.
pub(super) const COLLECTION: &str = "api_keys";

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
            | Self::NoStore(_)
            | Self::Unreachable { .. }
            | Self::Directory { .. }
            | Self::Prefix(_)
            | Self::Store(sqlite::OpenError::Newer { .. } | sqlite::OpenError::Foreign { .. }) => {
                true
            }
            Self::Keyring { cause, .. } => is_of_the_wrong_keyring(cause),
            #[cfg(feature = "postgres")]
            Self::NoPostgres | Self::Server(_) => true,
            #[cfg(feature = "postgres")]
            Self::Database(error) => error.is_final(),
            _ => false,
        }
    }
}

const fn is_of_the_wrong_keyring(cause: &KeyringUnavailable) -> bool {
    match cause {
        KeyringUnavailable::Missing { .. } => true,
        KeyringUnavailable::Unusable { cause, .. } => matches!(
            cause,
            KeyringError::WrongPassword { .. }
                | KeyringError::Foreign { .. }
                | KeyringError::NewerFormat(_)
                | KeyringError::UnsupportedSuite(_)
        ),
        _ => false,
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
    let repository = existing(config, clock).await?;
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
        scope: scope(),
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
    make_directory(&config.data.dir)?;
    let repository = EmbeddedApiKeyRepository::open(&file(config), clock.clone())?;
    let password = password(config)?;
    let made = keyring::init(&repository, COLLECTION, password, suite, clock.wall())
        .await
        .map_err(|cause| of_keyring(config, cause))?;
    let entry = AuditEntry {
        at: clock.wall(),
        actor: actor(),
        action: Action::KeyringInit,
        key_id: None,
        revision: None,
        detail: COLLECTION.to_owned(),
    };
    audit_log(config, clock).record(entry).await?;
    Ok(made.describe())
}

/// Whether there is a store that has a keyring.
pub(super) async fn has_keyring(config: &Config, clock: &Clock) -> Result<bool, OpenError> {
    match existing(config, clock).await {
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
    let repository = existing(config, clock).await?;
    keyring::describe(&*repository, COLLECTION)
        .await
        .map_err(|cause| of_keyring(config, cause))
}

/// Where records live, for what they are sealed with.
pub(super) fn scope() -> Scope {
    Scope {
        project: String::new(),
        database: "embedded".to_owned(),
        collection: COLLECTION.to_owned(),
    }
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

/// A store that is there: only making a keyring makes one.
pub(super) async fn existing(
    config: &Config,
    clock: &Clock,
) -> Result<Arc<dyn ApiKeyRepository>, OpenError> {
    let file = file(config);
    reachable(&file)?.ok_or_else(|| OpenError::NoStore(file.clone()))?;
    let repository = EmbeddedApiKeyRepository::open(&file, clock.clone())?;
    // A missing keyring is the first thing to know about a store.
    keyring::describe(&repository, COLLECTION)
        .await
        .map_err(|cause| of_keyring(config, cause))?;
    Ok(Arc::new(repository))
}

pub(super) async fn unlock(
    config: &Config,
    repository: &dyn ApiKeyReader,
) -> Result<Unlocked, OpenError> {
    let keyring = keyring::load(repository, COLLECTION, password(config)?)
        .await
        .map_err(|cause| of_keyring(config, cause))?;
    Unlocked::new(&keyring).ok_or_else(|| {
        let unusable = KeyringUnavailable::Unusable {
            collection: COLLECTION.to_owned(),
            cause: KeyringError::Damaged("it has no keys for tokens"),
        };
        of_keyring(config, unusable)
    })
}

/// Says which store it is about.
fn of_keyring(config: &Config, cause: KeyringUnavailable) -> OpenError {
    let store = file(config).display().to_string();
    OpenError::Keyring { store, cause }
}

pub(super) fn password(config: &Config) -> Result<Password, OpenError> {
    let password = config.password.clone();
    password.ok_or_else(|| {
        let problem = config.password_problem.clone();
        OpenError::Password(problem.unwrap_or_else(missing_password))
    })
}

fn file(config: &Config) -> PathBuf {
    config.data.dir.join("keys.db")
}

/// Readable by its owner only: what is in it is worth as much as the keys.
fn make_directory(path: &Path) -> Result<(), OpenError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| OpenError::Directory {
        path: path.to_owned(),
        source,
    })
}

fn audit_log(config: &Config, clock: &Clock) -> LazyAuditLog {
    LazyAuditLog::new(config.clone(), clock.clone())
}

/// Who runs this, as the system knows it; a name from the environment could be
/// anybody's.
fn actor() -> String {
    format!("uid {}", rustix::process::getuid().as_raw())
}
