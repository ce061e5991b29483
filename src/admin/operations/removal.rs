//! Taking access away, from whatever is there.
//!
//! Whoever can write to a store can put copies of a record into it, or make one
//! unreadable. Neither may keep a key alive: every record with the id is taken,
//! and none has to be read or opened for it.

use uuid::Uuid;

use super::{Action, KeyRef, OperationError, Operations, Result, Subject, persist};
use crate::key::ApiKey;
use crate::repository::{At, Located, RepositoryError, StoredKey};
use crate::token::KeyHash;

/// A record that access was taken from; where it cannot be read, its id and the
/// field.
pub type Taken = std::result::Result<ApiKey, String>;

/// What revoking did to a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revoked {
    pub record: Taken,
    /// It was inactive before, and was left as it was.
    pub already: bool,
    /// The envelope was sealed again. Only such a revocation can be taken back
    /// by an update; the other kind never opens again.
    pub sealed: bool,
}

impl Operations {
    /// Makes a key inactive, whatever the state of its record. With the keyring
    /// it is sealed so. More than one record is told of when others have its id.
    pub async fn revoke(&self, key: &KeyRef) -> Result<Vec<Revoked>> {
        let mut revoked = Vec::new();
        let mut outcome = Ok(());
        let located = self.locate(key).await?;
        for found in &located {
            let asked = Asked::of(key, located.len());
            match persist(|| self.revoke_once(found.hash, &asked)).await {
                Ok(done) => revoked.extend(done),
                // That is no reason to leave the others.
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome.and_then(|()| some(revoked, key))
    }

    async fn revoke_once(&self, hash: KeyHash, asked: &Asked) -> Result<Option<Revoked>> {
        let Some(found) = self.at(hash).await? else {
            return Ok(None);
        };
        let opened = found
            .record
            .as_ref()
            .ok()
            .and_then(|stored| self.open(stored).ok());
        let inactive = found.record.as_ref().is_ok_and(|s| !s.key.is_active);
        if inactive && (opened.is_some() || self.unlocked.is_none()) {
            return Ok(Some(Revoked {
                sealed: opened.is_some(),
                already: true,
                record: found.record.map(|stored| stored.key),
            }));
        }
        let subject = self.subject(asked, &found).await;
        let detail = asked.detail(&found);
        let revision = subject.revision;
        let revoked = found.record.map(|stored| Revocation::of(&stored, revision));
        let sealing = match (&revoked, opened) {
            (Ok(revocation), Some(sealed)) => {
                Some((revocation, self.seal(&sealed, &revocation.revoked)?))
            }
            _ => None,
        };
        self.audit_if_possible(Action::Revoke, subject, detail)
            .await;
        let sealed = sealing.is_some();
        let written = if let Some((revocation, envelope)) = sealing {
            let Revocation { revoked, replaces } = revocation;
            self.repository.update(revoked, &envelope, replaces).await
        } else {
            // The old envelope does not open beside what is written here.
            let expected = found.revision;
            self.repository.deactivate(&hash, expected, revision).await
        };
        self.concluded(subject, written).await?;
        Ok(Some(Revoked {
            record: revoked.map(|revocation| revocation.revoked),
            already: false,
            sealed,
        }))
    }

    /// Deletes a record, and every other one with its id. Id and hash stay in a
    /// tombstone for a while.
    pub async fn delete(&self, key: &KeyRef) -> Result<Vec<Taken>> {
        let mut deleted = Vec::new();
        let mut outcome = Ok(());
        let located = self.locate(key).await?;
        for found in &located {
            let asked = Asked::of(key, located.len());
            match persist(|| self.delete_once(found.hash, &asked)).await {
                Ok(done) => deleted.extend(done),
                Err(error) => outcome = outcome.and(Err(error)),
            }
        }
        outcome.and_then(|()| some(deleted, key))
    }

    async fn delete_once(&self, hash: KeyHash, asked: &Asked) -> Result<Option<Taken>> {
        let Some(found) = self.at(hash).await? else {
            return Ok(None);
        };
        let subject = self.subject(asked, &found).await;
        self.audit_if_possible(Action::Delete, subject, asked.detail(&found))
            .await;
        let written = self.repository.delete(&hash, found.revision).await;
        match self.concluded(subject, written).await {
            Err(OperationError::Repository(RepositoryError::NotFound)) => Ok(None),
            written => written.map(|()| Some(found.record.map(|stored| stored.key))),
        }
    }

    async fn subject(&self, asked: &Asked, found: &Located) -> Subject {
        let of_record = found.record.as_ref().ok().map(|stored| stored.key.id);
        let key_id = of_record.or(asked.id);
        let revision = self.next_revision_if_possible(key_id, found.revision);
        Subject {
            key_id,
            revision: revision.await,
        }
    }

    async fn at(&self, hash: KeyHash) -> Result<Option<Located>> {
        Ok(self.repository.locate(At::Hash(hash)).await?.pop())
    }
}

/// A record to be sealed as revoked, and the one that it replaces.
struct Revocation {
    revoked: ApiKey,
    replaces: ApiKey,
}

impl Revocation {
    fn of(stored: &StoredKey, revision: u64) -> Self {
        Self {
            revoked: ApiKey {
                is_active: false,
                revision,
                ..stored.key.clone()
            },
            replaces: stored.key.clone(),
        }
    }
}

/// For the audit log: the id that was asked for, which a record that cannot be
/// read may not tell, and how many records there were.
struct Asked {
    id: Option<Uuid>,
    records: usize,
}

impl Asked {
    const fn of(key: &KeyRef, records: usize) -> Self {
        let id = match key {
            KeyRef::Id(id) => Some(*id),
            KeyRef::Hash(_) | KeyRef::Name(_) => None,
        };
        Self { id, records }
    }

    fn detail(&self, found: &Located) -> String {
        let several = (self.records > 1).then(|| format!("one of {} records", self.records));
        let damage = found.record.as_ref().err().cloned();
        let told: Vec<_> = several.into_iter().chain(damage).collect();
        told.join("; ")
    }
}

fn some<T>(taken: Vec<T>, key: &KeyRef) -> Result<Vec<T>> {
    if taken.is_empty() {
        // Deleted by somebody else in this moment.
        return Err(OperationError::Unknown(key.to_string()));
    }
    Ok(taken)
}
