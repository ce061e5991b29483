//! Changes to a keyring. Each gives a new keyring of the next version and
//! leaves the old one as it was.

use super::document::{
    Document, GenerationEntry, KeyEntry, MAX_GENERATIONS, MAX_KEYS, MAX_PASSWORDS, PasswordEntry,
};
use super::password::{Cost, Password};
use super::wrap::Master;
use super::{Keyring, KeyringError};
use crate::clock::Timestamp;
use crate::crypto::KeyId;
use crate::crypto::kem::Suite;

/// The generations in the order of their making.
const GENERATIONS: &[u8; MAX_GENERATIONS] =
    b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// Why a keyring was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    #[error("the keyring holds no key {0}")]
    UnknownKey(KeyId),
    #[error("the keyring has no password slot {0}")]
    UnknownPassword(KeyId),
    #[error(
        "password slot {0} is the one the keyring was opened with: give another of its passwords \
         to remove this one"
    )]
    PasswordInUse(KeyId),
    #[error("key {0} is the primary one, which is sealed with")]
    Primary(KeyId),
    #[error("the keyring has no generation `{0}`")]
    UnknownGeneration(char),
    #[error("generation `{0}` is the one that tokens are issued of")]
    GenerationInUse(char),
    #[error("the keyring is full: it has {0} already")]
    Full(&'static str),
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

impl From<getrandom::Error> for ChangeError {
    fn from(error: getrandom::Error) -> Self {
        Self::Keyring(error.into())
    }
}

impl Keyring {
    /// Adds a key that opens envelopes but does not seal new ones yet.
    pub fn add_key(&self, suite: Suite, now: Timestamp) -> Result<(Self, KeyId), ChangeError> {
        let mut document = self.next();
        let id = add_key(&mut document, &self.master, suite, now)?;
        Ok((self.with(document)?, id))
    }

    /// Makes a key the one that new envelopes are sealed under.
    pub fn promote(&self, id: KeyId) -> Result<Self, ChangeError> {
        let mut document = self.next();
        if !document.keys.iter().any(|key| key.id == id) {
            return Err(ChangeError::UnknownKey(id));
        }
        document.primary = id;
        self.with(document)
    }

    /// Removes a key that is not primary: what is sealed under it never opens
    /// again, whoever sealed it.
    pub fn remove_key(&self, id: KeyId) -> Result<Self, ChangeError> {
        let mut document = self.next();
        if document.primary == id {
            return Err(ChangeError::Primary(id));
        }
        let before = document.keys.len();
        document.keys.retain(|key| key.id != id);
        if document.keys.len() == before {
            return Err(ChangeError::UnknownKey(id));
        }
        self.with(document)
    }

    /// Removes a generation that is not the newest: its tokens are refused from
    /// then on.
    pub fn remove_generation(&self, name: char) -> Result<Self, ChangeError> {
        let mut document = self.next();
        let newest = document.generations.last().map(|entry| entry.name);
        if newest == Some(name) {
            return Err(ChangeError::GenerationInUse(name));
        }
        let before = document.generations.len();
        document.generations.retain(|entry| entry.name != name);
        if document.generations.len() == before {
            return Err(ChangeError::UnknownGeneration(name));
        }
        self.with(document)
    }

    /// Adds a password slot.
    pub fn add_password(
        &self,
        password: &Password,
        cost: Cost,
        now: Timestamp,
    ) -> Result<(Self, KeyId), ChangeError> {
        let mut document = self.next();
        if document.passwords.len() >= MAX_PASSWORDS {
            return Err(ChangeError::Full("8 passwords"));
        }
        let slot = PasswordEntry::wrap(&document, &self.master, password, cost, now)?;
        let id = slot.id;
        document.passwords.push(slot);
        Ok((self.with(document)?, id))
    }

    /// Removes a password slot, other than the one the keyring was opened with.
    pub fn retire_password(&self, id: KeyId) -> Result<Self, ChangeError> {
        if id == self.slot {
            return Err(ChangeError::PasswordInUse(id));
        }
        let mut document = self.next();
        let before = document.passwords.len();
        document.passwords.retain(|slot| slot.id != id);
        if document.passwords.len() == before {
            return Err(ChangeError::UnknownPassword(id));
        }
        self.with(document)
    }

    /// Makes everything new, as the answer to a stolen keyring: a master key
    /// that only `password` opens, a primary key with its authentication
    /// secret, and a generation.
    ///
    /// What there was stays, wrapped anew, until the records are rewrapped and
    /// the tokens rotated.
    pub fn rotate_all(
        &self,
        password: &Password,
        cost: Cost,
        suite: Suite,
        now: Timestamp,
    ) -> Result<Self, ChangeError> {
        let master = Master::random()?;
        let mut document = self.next();
        rewrap(&mut document, &self.master, &master)?;

        document.primary = add_key(&mut document, &master, suite, now)?;
        let generation = next_generation(&document)?;
        let generation = GenerationEntry::generate(&document, &master, generation)?;
        document.generations.push(generation);
        let slot = PasswordEntry::wrap(&document, &master, password, cost, now)?;
        let slot_id = slot.id;
        document.passwords = vec![slot];
        Ok(Self::sign(document, master, slot_id)?)
    }

    fn next(&self) -> Document {
        let mut document = self.document.clone();
        document.version += 1;
        document
    }

    fn with(&self, document: Document) -> Result<Self, ChangeError> {
        Ok(Self::sign(document, self.master.clone(), self.slot)?)
    }
}

fn add_key(
    document: &mut Document,
    master: &Master,
    suite: Suite,
    now: Timestamp,
) -> Result<KeyId, ChangeError> {
    if document.keys.len() >= MAX_KEYS {
        return Err(ChangeError::Full("64 keys"));
    }
    let key = KeyEntry::generate(document, master, suite, now)?;
    let id = key.id;
    document.keys.push(key);
    Ok(id)
}

fn rewrap(document: &mut Document, from: &Master, to: &Master) -> Result<(), KeyringError> {
    document.keys = document
        .keys
        .iter()
        .map(|entry| KeyEntry::wrap(document, to, &entry.open(document, from)?, entry.created_at))
        .collect::<Result<_, _>>()?;
    document.generations = document
        .generations
        .iter()
        .map(|entry| GenerationEntry::wrap(document, to, &entry.open(document, from)?))
        .collect::<Result<_, _>>()?;
    Ok(())
}

fn next_generation(document: &Document) -> Result<u8, ChangeError> {
    GENERATIONS
        .iter()
        .copied()
        .find(|name| {
            let name = char::from(*name);
            document.generations.iter().all(|entry| entry.name != name)
        })
        .ok_or(ChangeError::Full("62 generations"))
}
