//! Making, loading, describing and changing the stored keyring.

mod change;
mod remove;

pub use change::{Changed, KeyringOperationError, KeyringOperations};

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::task::JoinError;

use crate::clock::Timestamp;
use crate::crypto::keyring::{Cost, Description, KeyringError, Passwords};
use crate::crypto::{Keyring, Password, Suite};
use crate::repository::{ApiKeyReader, ApiKeyRepository, RepositoryError};

/// Why there is no keyring to work with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringUnavailable {
    #[error(
        "the key store holds no keyring for `{collection}`: make one with \
         `cypheron-edge keyring init`"
    )]
    Missing { collection: String },
    #[error("the key store holds a keyring for `{collection}` already: it is never replaced")]
    Exists { collection: String },
    #[error("the keyring for `{collection}` cannot be used: {cause}")]
    Unusable {
        collection: String,
        cause: KeyringError,
    },
    #[error(transparent)]
    Repository(#[from] RepositoryError),
}

impl KeyringUnavailable {
    /// Whether it is for whoever configured the store or the password to mend.
    pub const fn is_configuration(&self) -> bool {
        match self {
            Self::Missing { .. } => true,
            Self::Unusable { cause, .. } => matches!(
                cause,
                KeyringError::WrongPassword { .. }
                    | KeyringError::Foreign { .. }
                    | KeyringError::NewerFormat(_)
                    | KeyringError::UnsupportedSuite(_)
            ),
            Self::Exists { .. } | Self::Repository(_) => false,
        }
    }
}

type Result<T> = std::result::Result<T, KeyringUnavailable>;

/// Makes the keyring of a store that has none.
pub async fn init(
    repository: &dyn ApiKeyRepository,
    collection: &str,
    password: Password,
    suite: Suite,
    now: Timestamp,
) -> Result<Keyring> {
    let exists = || KeyringUnavailable::Exists {
        collection: collection.to_owned(),
    };
    // Asked first: making one takes a second.
    if repository.keyring().await?.is_some() {
        return Err(exists());
    }
    let owned = collection.to_owned();
    let keyring = unblocked(collection, move || {
        Keyring::create(&owned, &password, Cost::default(), suite, now)
    })
    .await?;
    match repository.put_keyring(&keyring.document(), None).await {
        Ok(()) => Ok(keyring),
        Err(RepositoryError::Exists) => Err(exists()),
        Err(error) => Err(error.into()),
    }
}

/// Loads and opens the keyring.
pub async fn load(
    repository: &dyn ApiKeyReader,
    collection: &str,
    passwords: impl Into<Passwords>,
) -> Result<Keyring> {
    let document = stored(repository, collection).await?;
    let (owned, passwords) = (collection.to_owned(), passwords.into());
    unblocked(collection, move || passwords.open(&document, &owned)).await
}

/// As [`load`], of a keyring that is loaded again and again: `None` when its
/// document is the one in `held`, into which it is put once it was opened, or
/// cannot be: trying takes a password's worth of work, reading next to nothing.
pub async fn load_changed(
    repository: &dyn ApiKeyReader,
    collection: &str,
    passwords: Passwords,
    held: &Mutex<Vec<u8>>,
) -> Result<Option<Keyring>> {
    let document = stored(repository, collection).await?;
    if *locked(held) == document {
        return Ok(None);
    }
    let (owned, bytes) = (collection.to_owned(), document.clone());
    let opened = unblocked(collection, move || passwords.open(&bytes, &owned)).await;
    if matches!(opened, Ok(_) | Err(KeyringUnavailable::Unusable { .. })) {
        *locked(held) = document;
    }
    opened.map(Some)
}

fn locked(held: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the keyring says of itself; takes no password, and is not proved.
pub async fn describe(repository: &dyn ApiKeyReader, collection: &str) -> Result<Description> {
    let document = stored(repository, collection).await?;
    Description::of(&document).map_err(|cause| unusable(collection, cause))
}

async fn stored(repository: &dyn ApiKeyReader, collection: &str) -> Result<Vec<u8>> {
    let document = repository.keyring().await?;
    document.ok_or_else(|| KeyringUnavailable::Missing {
        collection: collection.to_owned(),
    })
}

/// Runs what derives a key from a password, which takes a while, on a thread
/// where it keeps nobody waiting.
async fn unblocked(
    collection: &str,
    job: impl FnOnce() -> std::result::Result<Keyring, KeyringError> + Send + 'static,
) -> Result<Keyring> {
    tokio::task::spawn_blocking(job)
        .await
        .map_err(ended)?
        .map_err(|cause| unusable(collection, cause))
}

/// Only a panic, or the end of the runtime, makes it so.
#[expect(
    clippy::needless_pass_by_value,
    reason = "it is what a mapping of errors gets"
)]
fn ended(error: JoinError) -> KeyringUnavailable {
    RepositoryError::Unavailable(error.to_string()).into()
}

fn unusable(collection: &str, cause: KeyringError) -> KeyringUnavailable {
    KeyringUnavailable::Unusable {
        collection: collection.to_owned(),
        cause,
    }
}
