//! What a process was given to open the keyring with.

use std::sync::Arc;

use super::{Keyring, KeyringError, Password};

/// The password of the keyring, and the one that is to take its place, if there
/// is one: a keyring opens with either.
///
/// The new one need not have a slot yet. A process that holds both goes along
/// when everything is made new, and comes back from it no more: see
/// [`PostQuantumEncryption::replace`](crate::crypto::PostQuantumEncryption::replace).
#[derive(Clone, Debug)]
pub struct Passwords {
    password: Password,
    new: Option<Password>,
}

impl Passwords {
    pub fn new(password: Password, new: Option<Password>) -> Self {
        let new = new.filter(|new| *new != password);
        Self { password, new }
    }

    /// Opens a stored keyring, with the new password if that opens it. Takes
    /// what its slots' [`Cost`](super::Cost) says for each of the two, so never
    /// on a worker.
    pub fn open(&self, document: &[u8], collection: &str) -> Result<Keyring, KeyringError> {
        let Some(new) = &self.new else {
            return Keyring::open(document, collection, &self.password);
        };
        match Keyring::open(document, collection, new) {
            Err(KeyringError::WrongPassword { .. }) => {
                Keyring::open(document, collection, &self.password).map(Keyring::outgoing)
            }
            opened => opened,
        }
    }
}

impl Keyring {
    /// Marks one that was opened with a password whose time is over soon.
    fn outgoing(mut self) -> Self {
        // Shared by nobody yet; were it, it would only stay with its master key.
        if let Some(keys) = Arc::get_mut(&mut self.keys) {
            keys.outgoing = true;
        }
        self
    }
}

impl From<Password> for Passwords {
    fn from(password: Password) -> Self {
        Self::new(password, None)
    }
}
