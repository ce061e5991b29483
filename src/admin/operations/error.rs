//! Why an operation was not done.

use uuid::Uuid;

use crate::admin::AuditUnavailable;
use crate::crypto::{OpenError, SealError};
use crate::repository::RepositoryError;

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperationError {
    #[error("there is no key `{0}`")]
    Unknown(String),
    #[error("more than one key is named `{name}`: say which by its id: {}", list(.ids))]
    Ambiguous { name: String, ids: Vec<Uuid> },
    /// It would seal or open an envelope.
    #[error("this takes the keyring, which is not open: give its password")]
    Locked,
    #[error(
        "the record of key {0} does not open: it was edited outside these commands, or revoked \
         without the keyring; it can be revoked or deleted, and a new key created"
    )]
    Tampered(Uuid),
    #[error("the record of key {id} cannot be opened with this keyring: {cause}")]
    Unreadable { id: Uuid, cause: OpenError },
    #[error("key {0} was not created recoverable: its token is stored nowhere")]
    NotRecoverable(Uuid),
    #[error("key {0} is not active")]
    Inactive(Uuid),
    #[error("nothing to change was given")]
    NoChange,
    #[error(transparent)]
    Audit(#[from] AuditUnavailable),
    #[error(transparent)]
    Repository(#[from] RepositoryError),
    #[error(transparent)]
    Seal(#[from] SealError),
    #[error("the operating system gave no random bytes: {0}")]
    Random(#[from] getrandom::Error),
    /// A token of ours that our own format does not take; cannot happen.
    #[error("the new token cannot be read back")]
    Mint,
}

fn list(ids: &[Uuid]) -> String {
    let ids: Vec<_> = ids.iter().map(Uuid::to_string).collect();
    ids.join(", ")
}
