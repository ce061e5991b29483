//! Passwords, what it costs to guess one, and the slots they open.

use argon2::{Algorithm, Argon2, Params, Version};
use zeroize::Zeroizing;

use super::KeyringError;
use super::document::{Document, PasswordEntry};
use super::wrap::{Master, Role};
use crate::clock::Timestamp;
use crate::crypto::KeyId;
use crate::secret::Secret;

/// A keyring's password: at least 32 characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Password(Secret<String>);

/// The password would be worth guessing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a keyring's password has at least {min} characters: take 32 random bytes as hexadecimal",
    min = Password::MIN_CHARACTERS
)]
pub struct PasswordTooShort;

impl Password {
    pub const MIN_CHARACTERS: usize = 32;

    pub fn new(text: Secret<String>) -> Result<Self, PasswordTooShort> {
        if text.expose().chars().count() < Self::MIN_CHARACTERS {
            return Err(PasswordTooShort);
        }
        Ok(Self(text))
    }
}

/// What Argon2id (RFC 9106) takes to try one password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

impl Default for Cost {
    /// The second recommendation of RFC 9106, section 4, with one lane: about
    /// 0.1 s and 64 MiB, once at start.
    fn default() -> Self {
        Self {
            memory_kib: 64 * 1024,
            passes: 3,
            lanes: 1,
        }
    }
}

impl Cost {
    /// The least that is accepted: a stored keyring with less has been edited.
    pub const MIN: Self = Self {
        memory_kib: 19 * 1024,
        passes: 2,
        lanes: 1,
    };

    /// The most that is accepted: a stored keyring cannot ask for all memory.
    pub const MAX: Self = Self {
        memory_kib: 256 * 1024,
        passes: 8,
        lanes: 4,
    };

    fn is_accepted(self) -> bool {
        (Self::MIN.memory_kib..=Self::MAX.memory_kib).contains(&self.memory_kib)
            && (Self::MIN.passes..=Self::MAX.passes).contains(&self.passes)
            && (Self::MIN.lanes..=Self::MAX.lanes).contains(&self.lanes)
    }

    fn derive(
        self,
        password: &Password,
        salt: &[u8; 16],
    ) -> Result<Secret<[u8; 32]>, KeyringError> {
        if !self.is_accepted() {
            return Err(KeyringError::Damaged(
                "a password slot's Argon2 parameters are outside the accepted bounds",
            ));
        }
        let mut key = Zeroizing::new([0; 32]);
        Params::new(self.memory_kib, self.passes, self.lanes, Some(key.len()))
            .and_then(|params| {
                Argon2::new(Algorithm::Argon2id, Version::V0x13, params).hash_password_into(
                    password.0.expose().as_bytes(),
                    salt,
                    &mut *key,
                )
            })
            // why: the bounds leave only a failed allocation.
            .map_err(|_| KeyringError::OutOfMemory(self.memory_kib))?;
        Ok(Secret::new(*key))
    }
}

impl PasswordEntry {
    pub(super) fn wrap(
        document: &Document,
        master: &Master,
        password: &Password,
        cost: Cost,
        created_at: Timestamp,
    ) -> Result<Self, KeyringError> {
        let id = KeyId::random()?;
        let salt = *KeyId::random()?.as_bytes();
        let key = cost.derive(password, &salt)?;
        Ok(Self {
            id,
            created_at,
            salt,
            memory_kib: cost.memory_kib,
            passes: cost.passes,
            lanes: cost.lanes,
            master: master.wrap_self(&key, &document.place(Role::Master(&id)))?,
        })
    }

    /// The master key, when `password` is this slot's.
    pub(super) fn open(
        &self,
        document: &Document,
        password: &Password,
    ) -> Result<Option<Master>, KeyringError> {
        let key = self.cost().derive(password, &self.salt)?;
        let place = document.place(Role::Master(&self.id));
        Ok(Master::open_self(&key, &place, &self.master))
    }

    pub(super) const fn cost(&self) -> Cost {
        Cost {
            memory_kib: self.memory_kib,
            passes: self.passes,
            lanes: self.lanes,
        }
    }
}
