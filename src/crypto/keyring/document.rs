//! The stored form of a keyring.

use serde::{Deserialize, Deserializer, Serialize};

use super::KeyringError;
use super::password::Cost;
use crate::clock::Timestamp;
use crate::crypto::{KeyId, hex};

const FORMAT: u64 = 1;

/// Far above a full keyring, far below what would hurt to read.
const MAX_BYTES: usize = 1 << 20;
/// Each slot costs an Argon2 run at start.
pub(super) const MAX_PASSWORDS: usize = 8;
pub(super) const MAX_KEYS: usize = 64;
/// One for each base62 character.
pub(super) const MAX_GENERATIONS: usize = 62;

/// What follows the MAC in the one accepted spelling.
const AFTER_MAC: &[u8] = b"\"\n}";

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Document {
    format: u64,
    pub(super) id: KeyId,
    pub(super) collection: String,
    pub(super) version: u64,
    pub(super) primary: KeyId,
    pub(super) passwords: Vec<PasswordEntry>,
    pub(super) keys: Vec<KeyEntry>,
    pub(super) generations: Vec<GenerationEntry>,
    #[serde(with = "hex")]
    pub(super) mac: [u8; 32],
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PasswordEntry {
    pub(super) id: KeyId,
    #[serde(deserialize_with = "timestamp")]
    pub(super) created_at: Timestamp,
    #[serde(with = "hex")]
    pub(super) salt: [u8; 16],
    pub(super) memory_kib: u32,
    pub(super) passes: u32,
    pub(super) lanes: u32,
    #[serde(with = "hex")]
    pub(super) master: Vec<u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyEntry {
    pub(super) id: KeyId,
    pub(super) suite: String,
    #[serde(deserialize_with = "timestamp")]
    pub(super) created_at: Timestamp,
    #[serde(with = "hex")]
    pub(super) public_key: Vec<u8>,
    #[serde(with = "hex")]
    pub(super) secret: Vec<u8>,
    #[serde(with = "hex")]
    pub(super) authentication: Vec<u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct GenerationEntry {
    pub(super) name: char,
    #[serde(with = "hex")]
    pub(super) index: Vec<u8>,
    #[serde(with = "hex")]
    pub(super) tag: Vec<u8>,
}

fn timestamp<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Timestamp, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    Timestamp::parse(&text).map_err(serde::de::Error::custom)
}

impl Document {
    /// Version 1, with nothing in it yet.
    pub(super) const fn new(id: KeyId, collection: String) -> Self {
        Self {
            format: FORMAT,
            id,
            collection,
            version: 1,
            primary: id,
            passwords: Vec::new(),
            keys: Vec::new(),
            generations: Vec::new(),
            mac: [0; 32],
        }
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, KeyringError> {
        #[derive(Deserialize)]
        struct Format {
            format: u64,
        }
        const NO_KEYRING: KeyringError = KeyringError::Damaged("it is no keyring document");
        if bytes.len() > MAX_BYTES {
            return Err(NO_KEYRING);
        }
        let Format { format } = serde_json::from_slice(bytes).map_err(|_| NO_KEYRING)?;
        if format > FORMAT {
            return Err(KeyringError::NewerFormat(format));
        }
        let document: Self = serde_json::from_slice(bytes).map_err(|_| NO_KEYRING)?;
        if format != FORMAT || document.to_bytes() != bytes {
            return Err(KeyringError::Damaged("it is not in the accepted spelling"));
        }
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), KeyringError> {
        let Self {
            passwords,
            keys,
            generations,
            ..
        } = self;
        let counts = (1..=MAX_PASSWORDS).contains(&passwords.len())
            && (1..=MAX_KEYS).contains(&keys.len())
            && (1..=MAX_GENERATIONS).contains(&generations.len());
        if !counts {
            return Err(KeyringError::Damaged("it has too few or too many entries"));
        }
        let repeated = has_repeated(keys, |key| key.id)
            || has_repeated(passwords, |slot| slot.id)
            || has_repeated(generations, |generation| generation.name);
        if repeated {
            return Err(KeyringError::Damaged("it has an entry twice"));
        }
        if !generations
            .iter()
            .all(|entry| entry.name.is_ascii_alphanumeric())
        {
            return Err(KeyringError::Damaged("a generation has no base62 name"));
        }
        Ok(())
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        // why: numbers, strings and lists always serialize.
        serde_json::to_vec_pretty(self).unwrap_or_default()
    }

    /// What the MAC covers: every byte before it.
    pub(super) fn covered(&self) -> Vec<u8> {
        let mut bytes = self.to_bytes();
        let mac = 2 * self.mac.len() + AFTER_MAC.len();
        bytes.truncate(bytes.len().saturating_sub(mac));
        bytes
    }

    pub(super) fn describe(&self) -> Description {
        Description {
            id: self.id,
            collection: self.collection.clone(),
            version: self.version,
            passwords: self
                .passwords
                .iter()
                .map(|slot| PasswordDescription {
                    id: slot.id,
                    created_at: slot.created_at,
                    cost: slot.cost(),
                })
                .collect(),
            keys: self
                .keys
                .iter()
                .map(|key| KeyDescription {
                    id: key.id,
                    suite: key.suite.clone(),
                    created_at: key.created_at,
                    primary: key.id == self.primary,
                })
                .collect(),
            generations: self.generations.iter().map(|entry| entry.name).collect(),
        }
    }
}

fn has_repeated<T, K: PartialEq>(entries: &[T], key: impl Fn(&T) -> K) -> bool {
    entries
        .iter()
        .enumerate()
        .any(|(at, entry)| entries[..at].iter().any(|before| key(before) == key(entry)))
}

/// What a keyring says of itself to whoever can read it. Not authenticated:
/// that takes the password.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Description {
    pub id: KeyId,
    pub collection: String,
    pub version: u64,
    pub passwords: Vec<PasswordDescription>,
    pub keys: Vec<KeyDescription>,
    /// Oldest first.
    pub generations: Vec<char>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PasswordDescription {
    pub id: KeyId,
    pub created_at: Timestamp,
    pub cost: Cost,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeyDescription {
    pub id: KeyId,
    pub suite: String,
    pub created_at: Timestamp,
    pub primary: bool,
}

impl Description {
    /// Of a stored keyring.
    pub fn of(document: &[u8]) -> Result<Self, KeyringError> {
        Document::parse(document).map(|document| document.describe())
    }
}
