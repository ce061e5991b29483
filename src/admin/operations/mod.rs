//! What operators do with keys.
//!
//! A policy write opens the old envelope, fails if it does not open, and seals
//! the same plaintext beside the new policy: the token is not needed, and an
//! edit made outside is never made good by a later change. Revoking and
//! deleting need neither the keyring nor a record that opens, or can be read.

mod error;
mod issue;
mod lookup;
mod removal;
mod rewrap;
mod verify;

pub use error::OperationError;
pub use issue::{Created, NewKey, Rotation};
pub use lookup::KeyRef;
pub use removal::{Revoked, Taken};
pub use rewrap::Rewrap;
pub use verify::{Fault, Finding, Verification};

use std::fmt;
use std::future::Future;
use std::num::NonZeroU32;
use std::sync::Arc;

use ipnet::IpNet;
use uuid::Uuid;

use super::audit::{Action, AuditEntry, AuditLog};
use crate::clock::{Clock, Timestamp};
use crate::crypto::{Keyring, PostQuantumEncryption};
use crate::key::{ApiKey, KeyName, Scope, Sealed, token_keys};
use crate::permission::Permission;
use crate::repository::{ApiKeyRepository, Filter, Page, RepositoryError, StoredKey};
use crate::secret::Secret;
use crate::token::{TokenFormat, TokenKeys};

type Result<T> = std::result::Result<T, OperationError>;

/// Records read at once by what goes over all of them.
const PAGE: usize = 200;

/// How often a write that somebody else overtook is tried. Operators' commands
/// do not crowd: one that loses this often meets a loop, not a colleague.
const ATTEMPTS: usize = 5;

/// How far a record can have fallen behind its audit log: more writes than
/// operators make to one key. Whoever may only add to the log, an edge, cannot
/// use up the revisions.
const LARGEST_LEAP: u64 = 1_000_000;

/// The operations, over the stores they work on.
pub struct Operations {
    pub repository: Arc<dyn ApiKeyRepository>,
    pub audit: Arc<dyn AuditLog>,
    /// Without the keyring keys can be listed, revoked and deleted.
    pub unlocked: Option<Unlocked>,
    pub scope: Scope,
    /// The form of new tokens.
    pub format: TokenFormat,
    /// Who does it, for the audit log.
    pub actor: String,
    pub clock: Clock,
}

/// The keyring, open.
#[derive(Clone, Debug)]
pub struct Unlocked {
    pub encryption: PostQuantumEncryption,
    pub tokens: TokenKeys,
}

impl Unlocked {
    /// `None` when the keyring has no generation of token keys, which an opened
    /// one always has.
    pub fn new(keyring: &Keyring) -> Option<Self> {
        let encryption = PostQuantumEncryption::new(keyring);
        let tokens = token_keys(&encryption)?;
        Some(Self { encryption, tokens })
    }
}

/// What to change of a key; what is `None` stays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub name: Option<KeyName>,
    pub permissions: Option<Vec<Permission>>,
    pub rate_limit: Option<NonZeroU32>,
    /// `Some(None)`: never expires.
    pub expires_at: Option<Option<Timestamp>>,
    pub allowed_ips: Option<Vec<IpNet>>,
    pub is_active: Option<bool>,
}

/// A record, and whether it is what was sealed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    pub stored: StoredKey,
    pub envelope: Envelope,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Envelope {
    Opens {
        recoverable: bool,
    },
    /// The record was edited, moved or copied, or revoked without the keyring.
    Tampered,
    /// Of a key or suite that this keyring or build does not have.
    Unreadable,
    /// The keyring is not open.
    Unchecked,
}

impl Operations {
    pub async fn list(&self, filter: &Filter, after: Option<Uuid>, limit: usize) -> Result<Page> {
        Ok(self.repository.list(filter, after, limit).await?)
    }

    /// Every page of a listing, as one.
    pub async fn all(&self, filter: &Filter) -> Result<Page> {
        let mut all = self.list(filter, None, PAGE).await?;
        while let Some(after) = all.next {
            let page = self.list(filter, Some(after), PAGE).await?;
            all.keys.extend(page.keys);
            all.damaged.extend(page.damaged);
            all.next = page.next;
        }
        Ok(all)
    }

    pub async fn show(&self, key: &KeyRef) -> Result<Shown> {
        let stored = self.find(key).await?;
        let envelope = self.envelope(&stored);
        Ok(Shown { stored, envelope })
    }

    fn envelope(&self, stored: &StoredKey) -> Envelope {
        match self.open(stored) {
            Ok(sealed) => Envelope::Opens {
                recoverable: matches!(sealed, Sealed::Token(_)),
            },
            Err(OperationError::Locked) => Envelope::Unchecked,
            Err(OperationError::Tampered(_)) => Envelope::Tampered,
            Err(_) => Envelope::Unreadable,
        }
    }

    /// Changes the policy of a key.
    pub async fn update(&self, key: &KeyRef, changes: &Changes) -> Result<ApiKey> {
        if *changes == Changes::default() {
            return Err(OperationError::NoChange);
        }
        self.unlocked()?;
        persist(|| self.update_once(key, changes, Action::Update)).await
    }

    async fn update_once(&self, key: &KeyRef, changes: &Changes, action: Action) -> Result<ApiKey> {
        let stored = self.find(key).await?;
        let sealed = self.open(&stored)?;
        let key = ApiKey {
            revision: self
                .next_revision(stored.key.id, stored.key.revision)
                .await?,
            ..changes.apply(&stored.key)
        };
        let envelope = self.seal(&sealed, &key)?;
        self.audit(action, &key, changes.describe()).await?;
        let written = self.repository.update(&key, &envelope, &stored.key).await;
        self.concluded(&key, written).await?;
        Ok(key)
    }

    /// Records the deletion of a key that is not in the store, though it should
    /// be by the audit log. Whether it was one.
    pub async fn note_missing(&self, id: Uuid) -> Result<bool> {
        let known = self.audit.known(id).await?;
        let Some(known) = known.filter(verify::is_expected) else {
            return Ok(false);
        };
        let entry = AuditEntry {
            at: self.clock.wall(),
            actor: self.actor.clone(),
            action: Action::Delete,
            key_id: Some(id),
            revision: Some(known.highest.saturating_add(1)),
            detail: "it was not in the store".to_owned(),
        };
        self.audit.record(entry).await?;
        Ok(true)
    }

    /// The token of a key that was created recoverable.
    pub async fn reveal(&self, key: &KeyRef) -> Result<Secret<String>> {
        let stored = self.find(key).await?;
        let Sealed::Token(token) = self.open(&stored)? else {
            return Err(OperationError::NotRecoverable(stored.key.id));
        };
        self.audit(Action::Reveal, &stored.key, String::new())
            .await?;
        Ok(token)
    }

    fn unlocked(&self) -> Result<&Unlocked> {
        self.unlocked.as_ref().ok_or(OperationError::Locked)
    }

    fn open(&self, stored: &StoredKey) -> Result<Sealed> {
        let encryption = &self.unlocked()?.encryption;
        let id = stored.key.id;
        Sealed::open(encryption, &stored.sealed, &stored.key, &self.scope).map_err(|cause| {
            if cause.is_store_failure() {
                OperationError::Unreadable { id, cause }
            } else {
                OperationError::Tampered(id)
            }
        })
    }

    fn seal(&self, sealed: &Sealed, key: &ApiKey) -> Result<Vec<u8>> {
        Ok(sealed.seal(&self.unlocked()?.encryption, key, &self.scope)?)
    }

    /// Above every revision that the record may have had: one from a backup is
    /// never changed into the namesake of what it fell behind.
    async fn next_revision(&self, id: Uuid, revision: u64) -> Result<u64> {
        let known = self.audit.known(id).await?;
        let believed = revision.saturating_add(LARGEST_LEAP);
        let highest = known
            .map(|known| known.highest)
            .filter(|highest| *highest <= believed);
        Ok(highest.unwrap_or(0).max(revision).saturating_add(1))
    }

    /// For what takes access away; of a record that may not tell its id.
    async fn next_revision_if_possible(&self, id: Option<Uuid>, revision: u64) -> u64 {
        let next = match id {
            Some(id) => self.next_revision(id, revision).await,
            None => Ok(revision.saturating_add(1)),
        };
        next.unwrap_or_else(|error| {
            let key_id = id.map(tracing::field::display);
            tracing::warn!(key_id, %error, "its audited revision is not known");
            revision.saturating_add(1)
        })
    }

    async fn audit(
        &self,
        action: Action,
        subject: impl Into<Subject>,
        detail: String,
    ) -> Result<()> {
        let entry = self.entry(action, subject.into(), detail);
        Ok(self.audit.record(entry).await?)
    }

    /// For what takes access away.
    async fn audit_if_possible(&self, action: Action, subject: Subject, detail: String) {
        if let Err(error) = self.audit(action, subject, detail).await {
            let key_id = subject.key_id.map(tracing::field::display);
            tracing::warn!(key_id, action = action.as_str(), %error, "not audited");
        }
    }

    /// Records that a write came to nothing, after its intent was recorded.
    async fn concluded(
        &self,
        subject: impl Into<Subject>,
        written: std::result::Result<(), RepositoryError>,
    ) -> Result<()> {
        if let Err(error) = &written {
            let subject = subject.into();
            let entry = self.entry(Action::Failed, subject, error.to_string());
            if let Err(unavailable) = self.audit.record(entry).await {
                let key_id = subject.key_id.map(tracing::field::display);
                tracing::warn!(key_id, error = %unavailable, "a failure is not audited");
            }
        }
        Ok(written?)
    }

    fn entry(&self, action: Action, subject: Subject, detail: String) -> AuditEntry {
        AuditEntry {
            at: self.clock.wall(),
            actor: self.actor.clone(),
            action,
            key_id: subject.key_id,
            revision: Some(subject.revision),
            detail,
        }
    }
}

/// What an entry of the audit log is about.
#[derive(Clone, Copy, Debug)]
struct Subject {
    /// `None` where a record does not tell it.
    key_id: Option<Uuid>,
    /// After the write.
    revision: u64,
}

impl From<&ApiKey> for Subject {
    fn from(key: &ApiKey) -> Self {
        Self {
            key_id: Some(key.id),
            revision: key.revision,
        }
    }
}

impl fmt::Debug for Operations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Operations")
            .field("scope", &self.scope)
            .field("actor", &self.actor)
            .finish_non_exhaustive()
    }
}

impl Changes {
    fn apply(&self, key: &ApiKey) -> ApiKey {
        let changes = self.clone();
        let key = key.clone();
        ApiKey {
            name: changes.name.unwrap_or(key.name),
            permissions: changes.permissions.unwrap_or(key.permissions),
            rate_limit: changes.rate_limit.unwrap_or(key.rate_limit),
            expires_at: changes.expires_at.unwrap_or(key.expires_at),
            allowed_ips: changes.allowed_ips.unwrap_or(key.allowed_ips),
            is_active: changes.is_active.unwrap_or(key.is_active),
            ..key
        }
    }

    /// The names of the changed fields.
    fn describe(&self) -> String {
        let fields = [
            ("name", self.name.is_some()),
            ("permissions", self.permissions.is_some()),
            ("rate_limit", self.rate_limit.is_some()),
            ("expires_at", self.expires_at.is_some()),
            ("allowed_ips", self.allowed_ips.is_some()),
            ("is_active", self.is_active.is_some()),
        ];
        let changed: Vec<_> = fields
            .into_iter()
            .filter_map(|(field, changed)| changed.then_some(field))
            .collect();
        changed.join(", ")
    }
}

/// Reads, changes and writes again for as long as somebody else was faster.
async fn persist<T, F: Future<Output = Result<T>>>(mut attempt: impl FnMut() -> F) -> Result<T> {
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Err(OperationError::Repository(RepositoryError::Conflict { .. })) => {}
            other => return other,
        }
    }
    attempt().await
}
