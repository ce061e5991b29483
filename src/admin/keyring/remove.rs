//! Removing what nothing needs any more: the end of the answer to a stolen
//! backup, whose keys forge for as long as a keyring holds them.

use std::sync::Arc;

use super::change::{Changed, KeyringOperationError, KeyringOperations, Result, Step, undisturbed};
use super::load;
use crate::admin::Action;
use crate::clock::Timestamp;
use crate::crypto::envelope::Envelope;
use crate::crypto::{KeyId, Keyring, PostQuantumEncryption};
use crate::key::Sealed;
use crate::repository::{Filter, StoredKey};

/// Records looked at in one page.
const PAGE: usize = 200;

#[derive(Default)]
struct Needing {
    records: usize,
    unreadable: usize,
}

impl KeyringOperations {
    /// Removes a key that no record needs to be opened with.
    pub async fn drop_key(&self, key: KeyId) -> Result<Changed> {
        undisturbed(async || self.drop_key_once(key).await).await
    }

    /// Counts in each attempt: what overtook the last one may have sealed.
    async fn drop_key_once(&self, key: KeyId) -> Result<Changed> {
        let Needing {
            records,
            unreadable,
        } = self.needing(key).await?;
        let step = move |keyring: &Keyring, _: Timestamp| {
            let changed = keyring.remove_key(key)?;
            if records > 0 {
                return Err(KeyringOperationError::StillSealing { key, records });
            }
            if unreadable > 0 {
                return Err(KeyringOperationError::Unreadable {
                    records: unreadable,
                });
            }
            Ok(Step::to(changed, key, format!("removed key {key}")))
        };
        self.change_once(Action::KeyringDrop, Arc::new(step)).await
    }

    /// Removes a generation: every token of it is refused from then on.
    pub async fn drop_generation(&self, name: char) -> Result<Changed> {
        self.change(Action::KeyringDrop, move |keyring, _| {
            let changed = keyring.remove_generation(name)?;
            let (primary, _) = changed.primary();
            let detail = format!("removed generation `{name}`");
            Ok(Step::to(changed, primary, detail))
        })
        .await
    }

    /// How many records open under it. What does not open needs no key; what
    /// cannot be read may be put right, and then need it.
    async fn needing(&self, key: KeyId) -> Result<Needing> {
        let repository = &*self.repository;
        let keyring = load(repository, &self.collection, self.password.clone()).await?;
        let encryption = PostQuantumEncryption::new(&keyring);
        let needs_it = |stored: &&StoredKey| {
            Envelope::parse(&stored.sealed).is_ok_and(|envelope| envelope.key_id == key)
                && Sealed::open(&encryption, &stored.sealed, &stored.key, &self.scope).is_ok()
        };
        let (mut needing, mut after) = (Needing::default(), None);
        loop {
            let page = repository.list(&Filter::default(), after, PAGE).await;
            let page = page.map_err(super::KeyringUnavailable::from)?;
            needing.unreadable += page.damaged.len();
            needing.records += page.keys.iter().filter(needs_it).count();
            after = page.next;
            if after.is_none() {
                return Ok(needing);
            }
        }
    }
}
