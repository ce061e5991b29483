//! Changing the stored keyring while edges use it.
//!
//! Each change is made over exactly the keyring that was read: of two operators
//! who make one at once, the later one begins again with what the other left.
//! A running edge takes a new version into use by itself, as long as a password
//! it was started with opens it.

use std::fmt;
use std::sync::Arc;

use super::{KeyringUnavailable, ended, stored, unusable};
use crate::admin::{Action, AuditEntry, AuditLog, AuditUnavailable};
use crate::clock::{Clock, Timestamp};
use crate::crypto::keyring::{ChangeError, Cost, Description, KeyringError};
use crate::crypto::{KeyId, Keyring, Password, Suite};
use crate::key::Scope;
use crate::repository::{ApiKeyRepository, RepositoryError};

/// How often a change that somebody else overtook is tried. Each try takes the
/// work of a password, and operators do not crowd.
const ATTEMPTS: usize = 5;

/// The changes to a stored keyring, over the store it is in.
pub struct KeyringOperations {
    pub repository: Arc<dyn ApiKeyRepository>,
    pub audit: Arc<dyn AuditLog>,
    pub collection: String,
    /// Where records live.
    pub scope: Scope,
    /// Opens the keyring.
    pub password: Password,
    /// Who does it, for the audit log.
    pub actor: String,
    pub clock: Clock,
}

/// What a change left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changed {
    /// The key or the password slot that it was about.
    pub subject: KeyId,
    /// The keyring as it is now.
    pub keyring: Description,
    /// It was so before: nothing was written.
    pub already: bool,
}

/// Why the keyring was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringOperationError {
    #[error(transparent)]
    Unavailable(#[from] KeyringUnavailable),
    #[error(transparent)]
    Change(#[from] ChangeError),
    #[error(transparent)]
    Audit(#[from] AuditUnavailable),
    #[error("the new password is the one in use: give another one")]
    SamePassword,
    #[error(
        "the new password opens a slot of the keyring: whoever knows the old master key and reads \
         the store could use that slot for ever. Make a password that was never in a keyring"
    )]
    OpensTheOld,
    #[error("no password is older than {0}, which the keyring was opened with")]
    NoneOlder(KeyId),
    #[error("more than one password is older than the one in use: say which of {}", listed(.0))]
    ManyOlder(Vec<KeyId>),
    #[error("{records} records are sealed under key {key}: `keyring rewrap` comes first")]
    StillSealing { key: KeyId, records: usize },
    #[error(
        "{records} records cannot be read, so that nobody can say which key they are sealed \
         under: mend or delete them first"
    )]
    Unreadable { records: usize },
    #[error("what was made does not open with the new password: nothing was written")]
    Unopened,
}

pub(super) type Result<T> = std::result::Result<T, KeyringOperationError>;

/// A change that is made and not written yet.
pub(super) struct Step {
    subject: KeyId,
    /// `None`: all is as it should be.
    keyring: Option<Keyring>,
    /// For the audit log.
    detail: String,
}

impl KeyringOperations {
    /// Adds a key that opens envelopes and does not seal any yet; of the primary
    /// key's suite, unless another is given.
    pub async fn add_key(&self, suite: Option<Suite>) -> Result<Changed> {
        self.change(Action::KeyringRotate, move |keyring, now| {
            let suite = suite.unwrap_or(keyring.primary().1);
            let (changed, id) = keyring.add_key(suite, now)?;
            Ok(Step::to(changed, id, format!("added key {id}")))
        })
        .await
    }

    /// Makes a key, the newest when none is named, the one that is sealed with.
    pub async fn promote(&self, key: Option<KeyId>) -> Result<Changed> {
        self.change(Action::KeyringPromote, move |keyring, _| {
            let (primary, _) = keyring.primary();
            let newest = keyring.describe().keys.last().map(|key| key.id);
            let id = key.or(newest).unwrap_or(primary);
            if id == primary {
                return Ok(Step::none(id));
            }
            let changed = keyring.promote(id)?;
            Ok(Step::to(changed, id, format!("key {id} is primary")))
        })
        .await
    }

    /// Makes everything new, opened by `password` alone: the answer to a stolen
    /// backup.
    ///
    /// A running edge goes along when it was started with `password` beside the
    /// one in use. The old master key must never have lain under `password`,
    /// because whoever has both that and a stored version of it makes keyrings
    /// that open: refused when it opens a slot.
    pub async fn rotate_all(&self, password: Password) -> Result<Changed> {
        self.refuse_the_same(&password)?;
        let collection = self.collection.clone();
        self.change(Action::KeyringRotateAll, move |keyring, now| {
            if slot_of(keyring, &collection, &password)?.is_some() {
                return Err(KeyringOperationError::OpensTheOld);
            }
            let (_, suite) = keyring.primary();
            let changed = keyring.rotate_all(&password, Cost::default(), suite, now)?;
            slot_of(&changed, &collection, &password)?.ok_or(KeyringOperationError::Unopened)?;
            let (id, _) = changed.primary();
            let detail = format!("everything is new, key {id} is primary");
            Ok(Step::to(changed, id, detail))
        })
        .await
    }

    /// Adds a password, unless it opens the keyring already.
    pub async fn add_password(&self, password: Password) -> Result<Changed> {
        self.refuse_the_same(&password)?;
        let collection = self.collection.clone();
        self.change(Action::KeyringPassword, move |keyring, now| {
            if let Some(slot) = slot_of(keyring, &collection, &password)? {
                return Ok(Step::none(slot));
            }
            let (changed, slot) = keyring.add_password(&password, Cost::default(), now)?;
            if slot_of(&changed, &collection, &password)? != Some(slot) {
                return Err(KeyringOperationError::Unopened);
            }
            Ok(Step::to(
                changed,
                slot,
                format!("added password slot {slot}"),
            ))
        })
        .await
    }

    /// Removes a password: when none is named, the one that is older than the
    /// one in use.
    pub async fn retire_password(&self, slot: Option<KeyId>) -> Result<Changed> {
        self.change(Action::KeyringRetire, move |keyring, _| {
            let slot = match slot {
                Some(slot) => slot,
                None => older(keyring)?,
            };
            let changed = keyring.retire_password(slot)?;
            let detail = format!("removed password slot {slot}");
            Ok(Step::to(changed, slot, detail))
        })
        .await
    }

    fn refuse_the_same(&self, new: &Password) -> Result<()> {
        if *new == self.password {
            return Err(KeyringOperationError::SamePassword);
        }
        Ok(())
    }

    pub(super) async fn change(
        &self,
        action: Action,
        step: impl Fn(&Keyring, Timestamp) -> Result<Step> + Send + Sync + 'static,
    ) -> Result<Changed> {
        let step = Arc::new(step);
        undisturbed(async || self.change_once(action, Arc::clone(&step)).await).await
    }

    pub(super) async fn change_once(
        &self,
        action: Action,
        step: Arc<impl Fn(&Keyring, Timestamp) -> Result<Step> + Send + Sync + 'static>,
    ) -> Result<Changed> {
        let document = stored(&*self.repository, &self.collection).await?;
        let (before, made) = self.make(&document, step).await?;
        let Step {
            subject,
            keyring,
            detail,
        } = made;
        let Some(keyring) = keyring else {
            return Ok(Changed {
                subject,
                keyring: before,
                already: true,
            });
        };
        let after = keyring.describe();
        let detail = format!("version {}: {detail}", after.version);
        self.record(action, detail.clone()).await?;
        let written = self
            .repository
            .put_keyring(&keyring.document(), Some(&document))
            .await;
        if let Err(error) = written {
            let failed = self.record(Action::Failed, format!("{detail}: {error}"));
            if let Err(unavailable) = failed.await {
                tracing::warn!(error = %unavailable, "a failure is not audited");
            }
            return Err(KeyringUnavailable::from(error).into());
        }
        Ok(Changed {
            subject,
            keyring: after,
            already: false,
        })
    }

    /// Deriving keys from passwords takes a while: it is done where it keeps
    /// nobody waiting.
    async fn make(
        &self,
        document: &[u8],
        step: Arc<impl Fn(&Keyring, Timestamp) -> Result<Step> + Send + Sync + 'static>,
    ) -> Result<(Description, Step)> {
        let (document, now) = (document.to_owned(), self.clock.wall());
        let (collection, password) = (self.collection.clone(), self.password.clone());
        let job = move || {
            let keyring = Keyring::open(&document, &collection, &password)
                .map_err(|cause| unusable(&collection, cause))?;
            Ok((keyring.describe(), step(&keyring, now)?))
        };
        tokio::task::spawn_blocking(job).await.map_err(ended)?
    }

    async fn record(
        &self,
        action: Action,
        detail: String,
    ) -> std::result::Result<(), AuditUnavailable> {
        self.audit
            .record(AuditEntry {
                at: self.clock.wall(),
                actor: self.actor.clone(),
                action,
                key_id: None,
                revision: None,
                detail,
            })
            .await
    }
}

impl Step {
    pub(super) const fn to(keyring: Keyring, subject: KeyId, detail: String) -> Self {
        Self {
            subject,
            keyring: Some(keyring),
            detail,
        }
    }

    const fn none(subject: KeyId) -> Self {
        Self {
            subject,
            keyring: None,
            detail: String::new(),
        }
    }
}

impl fmt::Debug for KeyringOperations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeyringOperations")
            .field("collection", &self.collection)
            .field("actor", &self.actor)
            .finish_non_exhaustive()
    }
}

/// Makes a change again when another one overtook it.
pub(super) async fn undisturbed(attempt: impl AsyncFn() -> Result<Changed>) -> Result<Changed> {
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(KeyringOperationError::Unavailable(KeyringUnavailable::Repository(
                RepositoryError::KeyringChanged,
            ))) => {}
            other => return other,
        }
    }
    attempt().await
}

/// The slot that `password` opens, if it opens one.
fn slot_of(keyring: &Keyring, collection: &str, password: &Password) -> Result<Option<KeyId>> {
    match Keyring::open(&keyring.document(), collection, password) {
        Ok(opened) => Ok(Some(opened.slot())),
        Err(KeyringError::WrongPassword { .. }) => Ok(None),
        Err(cause) => Err(unusable(collection, cause).into()),
    }
}

/// The one password that is older than the one in use.
fn older(keyring: &Keyring) -> Result<KeyId> {
    let slots = keyring.describe().passwords.into_iter();
    // In the order of their making.
    let older: Vec<_> = slots
        .map(|slot| slot.id)
        .take_while(|slot| *slot != keyring.slot())
        .collect();
    match older[..] {
        [slot] => Ok(slot),
        [] => Err(KeyringOperationError::NoneOlder(keyring.slot())),
        _ => Err(KeyringOperationError::ManyOlder(older)),
    }
}

fn listed(ids: &[KeyId]) -> String {
    let ids: Vec<_> = ids.iter().map(KeyId::to_string).collect();
    ids.join(", ")
}
