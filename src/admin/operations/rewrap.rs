//! Moving every record to the primary key and its suite, online.

use uuid::Uuid;

use super::{Action, Operations, PAGE, Result, persist};
use crate::admin::AuditEntry;
use crate::key::Sealed;
use crate::repository::{Filter, Found, StoredKey};
use crate::token::KeyHash;

/// How far a rewrap is, or what it did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rewrap {
    /// Records looked at.
    pub seen: u64,
    /// Sealed again under the primary key.
    pub rewrapped: u64,
    /// Left as they are, because they do not open.
    pub unopened: Vec<Uuid>,
    /// Left as they are, because they cannot be read; each with its field.
    pub damaged: Vec<String>,
}

enum Outcome {
    Current,
    Rewrapped,
    Unopened,
}

impl Operations {
    /// Seals every record that is not under the primary key again. It changes
    /// no policy, and no revision: whatever is written meanwhile wins.
    /// `progress` is told after each page.
    pub async fn rewrap(&self, mut progress: impl FnMut(&Rewrap)) -> Result<Rewrap> {
        self.unlocked()?;
        let intent = AuditEntry {
            at: self.clock.wall(),
            actor: self.actor.clone(),
            action: Action::Rewrap,
            key_id: None,
            revision: None,
            detail: String::new(),
        };
        self.audit.record(intent).await?;
        let mut done = Rewrap::default();
        let mut after = None;
        loop {
            let page = self.list(&Filter::default(), after, PAGE).await?;
            done.damaged.extend(page.damaged);
            for stored in &page.keys {
                done.seen += 1;
                match persist(|| self.rewrap_one(&stored.key.key_hash)).await? {
                    Outcome::Current => {}
                    Outcome::Rewrapped => done.rewrapped += 1,
                    Outcome::Unopened => done.unopened.push(stored.key.id),
                }
            }
            progress(&done);
            after = page.next;
            if after.is_none() {
                return Ok(done);
            }
        }
    }

    /// By its hash: an id is what a copy has as well.
    async fn rewrap_one(&self, hash: &KeyHash) -> Result<Outcome> {
        let Found::Key(stored) = self.repository.find(hash).await? else {
            // Deleted meanwhile.
            return Ok(Outcome::Current);
        };
        let encryption = &self.unlocked()?.encryption;
        match encryption.needs_rewrap(&stored.sealed) {
            Ok(false) => return Ok(Outcome::Current),
            Ok(true) => {}
            Err(_) => return Ok(Outcome::Unopened),
        }
        let Ok(sealed) = self.open(&stored) else {
            return Ok(Outcome::Unopened);
        };
        let envelope = self.sealed_again(&sealed, &stored)?;
        self.repository
            .update(&stored.key, &envelope, &stored.key)
            .await?;
        Ok(Outcome::Rewrapped)
    }

    /// An envelope under the primary key that was seen to open.
    fn sealed_again(&self, sealed: &Sealed, stored: &StoredKey) -> Result<Vec<u8>> {
        let again = StoredKey {
            sealed: self.seal(sealed, &stored.key)?,
            ..stored.clone()
        };
        if self.open(&again)? == *sealed {
            Ok(again.sealed)
        } else {
            Err(super::OperationError::Tampered(stored.key.id))
        }
    }
}
