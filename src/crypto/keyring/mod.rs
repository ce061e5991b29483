//! The keyring: a deployment's secret keys, wrapped for storage.
//!
//! A random master key is wrapped once per **password slot**, under a key that
//! Argon2id derives from the slot's password. Under the master key lie the KEM
//! secret keys (one of them primary: new envelopes are sealed under it), one
//! authentication secret for each, and the index and tag key of each
//! generation of tokens.
//!
//! The document is JSON, in exactly one spelling: two-space indentation, the
//! members in this order, bytes as lower-case hexadecimal.
//!
//! ```text
//! {
//!   "format": 1,
//!   "id": 16 bytes, the same in every version,
//!   "collection": whose records it is for,
//!   "version": counts the changes, from 1,
//!   "primary": the id of a key,
//!   "passwords": [{ "id", "created_at", "salt", "memory_kib", "passes", "lanes", "master" }],
//!   "keys": [{ "id", "suite", "created_at", "public_key", "secret", "authentication" }],
//!   "generations": [{ "name": one base62 character, "index", "tag" }], oldest first
//!   "mac": 32 bytes
//! }
//! ```
//!
//! Every wrapped secret is a nonce, AES-256-GCM ciphertext and tag, its
//! associated data naming the keyring, the collection, its role and whose it
//! is, for a KEM key with suite and public key: no part can take the place of
//! another. The MAC, HMAC-SHA-256 under a key derived from the master key,
//! covers every byte of the document before it.

mod change;
mod document;
mod password;
mod passwords;
mod wrap;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

pub use change::ChangeError;
pub use document::{Description, KeyDescription, PasswordDescription};
pub use password::{Cost, Password, PasswordTooShort};
pub use passwords::Passwords;

use self::document::{Document, GenerationEntry, KeyEntry, PasswordEntry};
use self::wrap::{Master, Place, Role};
use super::KeyId;
use super::envelope::EnvelopeKey;
use super::kem::{SecretKey, Suite};
use crate::clock::Timestamp;
use crate::secret::Secret;

/// Why a keyring was not opened or made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeyringError {
    #[error("the password opens none of the keyring's {slots} password slots")]
    WrongPassword { slots: usize },
    #[error("the keyring is damaged: {0}")]
    Damaged(&'static str),
    #[error("the keyring is for `{found}`, not for `{expected}`")]
    Foreign { found: String, expected: String },
    #[error("the keyring has format {0}: a newer build wrote it, and this one cannot read it")]
    NewerFormat(u64),
    #[error("the keyring has a key of suite `{0}`, which this build does not have")]
    UnsupportedSuite(String),
    #[error("there is not enough memory to check the password: it takes {0} KiB")]
    OutOfMemory(u32),
    #[error("the operating system gave no random bytes: {0}")]
    Random(#[from] getrandom::Error),
}

/// An opened keyring, as operators' commands hold it: with what it takes to
/// change it. [`PostQuantumEncryption`](super::PostQuantumEncryption) keeps
/// only the keys.
#[derive(Clone)]
pub struct Keyring {
    document: Document,
    master: Master,
    /// The password slot it was opened with.
    slot: KeyId,
    keys: Arc<Keys>,
}

/// The two secrets over the tokens of one generation.
#[derive(Clone, Debug)]
pub struct Generation {
    /// One base62 character.
    pub name: u8,
    pub index: Secret<[u8; 32]>,
    pub tag: Secret<[u8; 32]>,
}

/// What a keyring holds, unwrapped.
pub(super) struct Keys {
    pub(super) keyring: KeyId,
    pub(super) version: u64,
    /// Of the master key.
    pub(super) master: [u8; 32],
    /// Opened with a password that another one is to take the place of.
    pub(super) outgoing: bool,
    primary: EnvelopeKey,
    others: Vec<EnvelopeKey>,
    pub(super) generations: Vec<Generation>,
}

impl Keys {
    pub(super) const fn primary(&self) -> &EnvelopeKey {
        &self.primary
    }

    pub(super) fn others(&self) -> &[EnvelopeKey] {
        &self.others
    }

    pub(super) fn find(&self, id: KeyId) -> Option<&EnvelopeKey> {
        std::iter::once(&self.primary)
            .chain(&self.others)
            .find(|key| key.id == id)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("keyring", &self.keyring)
            .field("version", &self.version)
            .field("primary", &self.primary)
            .field("others", &self.others)
            .finish_non_exhaustive()
    }
}

impl Keyring {
    /// A new keyring for the records of `collection`: one password, one key,
    /// generation `0`. Takes what [`Cost`] says, so never on a worker.
    pub fn create(
        collection: &str,
        password: &Password,
        cost: Cost,
        suite: Suite,
        now: Timestamp,
    ) -> Result<Self, KeyringError> {
        let master = Master::random()?;
        let mut document = Document::new(KeyId::random()?, collection.into());
        let slot = PasswordEntry::wrap(&document, &master, password, cost, now)?;
        let slot_id = slot.id;
        document.passwords.push(slot);
        let key = KeyEntry::generate(&document, &master, suite, now)?;
        document.primary = key.id;
        document.keys.push(key);
        let generation = GenerationEntry::generate(&document, &master, b'0')?;
        document.generations.push(generation);
        Self::sign(document, master, slot_id)
    }

    /// Opens a stored keyring. Takes what its slots' [`Cost`] says, so never on a
    /// worker.
    pub fn open(
        document: &[u8],
        collection: &str,
        password: &Password,
    ) -> Result<Self, KeyringError> {
        let document = Document::parse(document)?;
        if document.collection != collection {
            return Err(KeyringError::Foreign {
                found: document.collection,
                expected: collection.into(),
            });
        }
        let (slot, master) = unlock(&document, password)?;
        Self::verify(document, master, slot)
    }

    /// What is to be stored.
    pub fn document(&self) -> Vec<u8> {
        self.document.to_bytes()
    }

    pub fn describe(&self) -> Description {
        self.document.describe()
    }

    /// The password slot it was opened with.
    pub const fn slot(&self) -> KeyId {
        self.slot
    }

    /// The key that new envelopes are sealed under, and its suite.
    pub fn primary(&self) -> (KeyId, Suite) {
        let primary = self.keys.primary();
        (primary.id, primary.secret.suite())
    }

    pub(super) fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys)
    }

    fn verify(document: Document, master: Master, slot: KeyId) -> Result<Self, KeyringError> {
        if !master.authenticates(&document.covered(), &document.mac) {
            return Err(KeyringError::Damaged("it does not match its MAC"));
        }
        let keys = Arc::new(document.keys(&master)?);
        Ok(Self {
            document,
            master,
            slot,
            keys,
        })
    }

    fn sign(mut document: Document, master: Master, slot: KeyId) -> Result<Self, KeyringError> {
        document.mac = master.mac(&document.covered());
        Self::verify(document, master, slot)
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Keyring").field(&self.keys).finish()
    }
}

/// The first slot that `password` opens, and the master key in it.
fn unlock(document: &Document, password: &Password) -> Result<(KeyId, Master), KeyringError> {
    for slot in &document.passwords {
        if let Some(master) = slot.open(document, password)? {
            return Ok((slot.id, master));
        }
    }
    Err(KeyringError::WrongPassword {
        slots: document.passwords.len(),
    })
}

impl Document {
    /// Every secret, unwrapped and checked.
    fn keys(&self, master: &Master) -> Result<Keys, KeyringError> {
        let mut primary = None;
        let mut others = Vec::new();
        for entry in &self.keys {
            let key = entry.open(self, master)?;
            if key.id == self.primary && primary.is_none() {
                primary = Some(key);
            } else {
                others.push(key);
            }
        }
        Ok(Keys {
            keyring: self.id,
            version: self.version,
            master: master.identity(),
            outgoing: false,
            primary: primary.ok_or(KeyringError::Damaged("it lacks its primary key"))?,
            others,
            generations: self
                .generations
                .iter()
                .map(|entry| entry.open(self, master))
                .collect::<Result<_, _>>()?,
        })
    }

    fn place<'a>(&'a self, role: Role<'a>) -> Place<'a> {
        Place {
            keyring: &self.id,
            collection: &self.collection,
            role,
        }
    }
}

impl KeyEntry {
    fn generate(
        document: &Document,
        master: &Master,
        suite: Suite,
        now: Timestamp,
    ) -> Result<Self, KeyringError> {
        let key = EnvelopeKey {
            id: KeyId::random()?,
            secret: SecretKey::generate(suite)?,
            authentication: Secret::random()?,
        };
        Self::wrap(document, master, &key, now)
    }

    fn wrap(
        document: &Document,
        master: &Master,
        key: &EnvelopeKey,
        created_at: Timestamp,
    ) -> Result<Self, KeyringError> {
        let mut entry = Self {
            id: key.id,
            suite: key.secret.suite().name().into(),
            created_at,
            public_key: key.secret.public_key().into(),
            secret: Vec::new(),
            authentication: Vec::new(),
        };
        let place = document.place(Role::KemSecret(&entry));
        let secret = master.wrap(&place, &key.secret.to_bytes())?;
        let place = document.place(Role::Authentication(&entry));
        let authentication = master.wrap(&place, key.authentication.expose())?;
        entry.secret = secret;
        entry.authentication = authentication;
        Ok(entry)
    }

    fn open(&self, document: &Document, master: &Master) -> Result<EnvelopeKey, KeyringError> {
        let suite = self
            .suite
            .parse()
            .map_err(|_| KeyringError::UnsupportedSuite(self.suite.clone()))?;
        let place = document.place(Role::KemSecret(self));
        let secret = master
            .open(&place, &self.secret)
            .and_then(|bytes| SecretKey::from_bytes(suite, &bytes).ok())
            .ok_or(KeyringError::Damaged("a key does not open"))?;
        if secret.public_key() != self.public_key {
            return Err(KeyringError::Damaged(
                "a public key is not its secret key's",
            ));
        }
        let place = document.place(Role::Authentication(self));
        let authentication =
            master
                .open_secret(&place, &self.authentication)
                .ok_or(KeyringError::Damaged(
                    "an authentication secret does not open",
                ))?;
        Ok(EnvelopeKey {
            id: self.id,
            secret,
            authentication,
        })
    }
}

impl GenerationEntry {
    fn generate(document: &Document, master: &Master, name: u8) -> Result<Self, KeyringError> {
        let generation = Generation {
            name,
            index: Secret::random()?,
            tag: Secret::random()?,
        };
        Self::wrap(document, master, &generation)
    }

    fn wrap(
        document: &Document,
        master: &Master,
        generation: &Generation,
    ) -> Result<Self, KeyringError> {
        let name = generation.name;
        let index = document.place(Role::Index(name));
        let tag = document.place(Role::Tag(name));
        Ok(Self {
            name: char::from(name),
            index: master.wrap(&index, generation.index.expose())?,
            tag: master.wrap(&tag, generation.tag.expose())?,
        })
    }

    fn open(&self, document: &Document, master: &Master) -> Result<Generation, KeyringError> {
        const DAMAGED: KeyringError = KeyringError::Damaged("a generation does not open");
        let name = u8::try_from(self.name).map_err(|_| DAMAGED)?;
        let index = document.place(Role::Index(name));
        let tag = document.place(Role::Tag(name));
        Ok(Generation {
            name,
            index: master.open_secret(&index, &self.index).ok_or(DAMAGED)?,
            tag: master.open_secret(&tag, &self.tag).ok_or(DAMAGED)?,
        })
    }
}
