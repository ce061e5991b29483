//! Removing what nothing needs any more: the end of the answer to a stolen
//! backup, whose keys forge for as long as a keyring holds them.

use super::change::{Changed, KeyringOperationError, KeyringOperations, Result, Step};
use super::load;
use crate::admin::Action;
use crate::crypto::envelope::Envelope;
use crate::crypto::{KeyId, PostQuantumEncryption};
use crate::key::Sealed;
use crate::repository::{Filter, StoredKey};

/// Records looked at in one page.
const PAGE: usize = 200;

impl KeyringOperations {
    /// Removes a key that no record needs to be opened with.
    pub async fn drop_key(&self, key: KeyId) -> Result<Changed> {
        let records = self.sealed_under(key).await?;
        self.change(Action::KeyringDrop, move |keyring, _| {
            let changed = keyring.remove_key(key)?;
            if records > 0 {
                return Err(KeyringOperationError::StillSealing { key, records });
            }
            Ok(Step::to(changed, key, format!("removed key {key}")))
        })
        .await
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

    /// How many records open under it. What does not open needs no key.
    async fn sealed_under(&self, key: KeyId) -> Result<usize> {
        let repository = &*self.repository;
        let keyring = load(repository, &self.collection, self.password.clone()).await?;
        let encryption = PostQuantumEncryption::new(&keyring);
        let needs_it = |stored: &&StoredKey| {
            Envelope::parse(&stored.sealed).is_ok_and(|envelope| envelope.key_id == key)
                && Sealed::open(&encryption, &stored.sealed, &stored.key, &self.scope).is_ok()
        };
        let (mut records, mut after) = (0, None);
        loop {
            let page = repository.list(&Filter::default(), after, PAGE).await;
            let page = page.map_err(super::KeyringUnavailable::from)?;
            records += page.keys.iter().filter(needs_it).count();
            after = page.next;
            if after.is_none() {
                return Ok(records);
            }
        }
    }
}
