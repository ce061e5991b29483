//! [`PostQuantumEncryption`]: seals and opens with the keys of a keyring.

use std::fmt;
use std::sync::Arc;

use arc_swap::ArcSwap;
use zeroize::Zeroizing;

use super::KeyId;
use super::envelope::{self, Envelope, EnvelopeDefect, SealError};
use super::keyring::{Generation, Keyring, Keys};

/// Why an envelope did not open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    #[error("the envelope has version {0}, which this build does not know")]
    UnsupportedVersion(u8),
    #[error("the envelope has suite {0}, which this build does not know")]
    UnsupportedSuite(u8),
    #[error("the keyring does not hold key {0}, which the envelope is sealed under")]
    UnknownKey(KeyId),
    /// It was changed, or bound to other data, or made by somebody else.
    #[error("the envelope does not open")]
    Refused,
}

impl OpenError {
    /// Whether the fault may be ours, an outdated keyring or build, so that
    /// nothing is known of the envelope.
    pub const fn is_store_failure(self) -> bool {
        !matches!(self, Self::Refused)
    }
}

impl From<EnvelopeDefect> for OpenError {
    fn from(defect: EnvelopeDefect) -> Self {
        match defect {
            EnvelopeDefect::UnsupportedVersion(version) => Self::UnsupportedVersion(version),
            EnvelopeDefect::UnsupportedSuite(suite) => Self::UnsupportedSuite(suite),
            EnvelopeDefect::Truncated => Self::Refused,
        }
    }
}

/// Why a keyring was not taken in the place of the one in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReplaceError {
    #[error("it is another keyring, not a later version of the one in use")]
    Foreign,
    #[error("it has version {offered}, older than version {held} in use")]
    Older { held: u64, offered: u64 },
}

/// Seals and opens envelopes. Cheap to clone; clones share one keyring.
#[derive(Clone)]
pub struct PostQuantumEncryption {
    keys: Arc<ArcSwap<Keys>>,
}

impl PostQuantumEncryption {
    pub fn new(keyring: &Keyring) -> Self {
        Self {
            keys: Arc::new(ArcSwap::new(keyring.keys())),
        }
    }

    /// Takes a later version of the keyring into use, in every clone.
    ///
    /// One caller at a time: of two that race, the one that ends last wins.
    pub fn replace(&self, keyring: &Keyring) -> Result<(), ReplaceError> {
        let (held, offered) = (self.keys.load(), keyring.keys());
        if held.keyring != offered.keyring {
            return Err(ReplaceError::Foreign);
        }
        if held.version > offered.version {
            return Err(ReplaceError::Older {
                held: held.version,
                offered: offered.version,
            });
        }
        self.keys.store(offered);
        Ok(())
    }

    /// Seals `plaintext` under the primary key, bound to `associated_data`.
    pub fn seal(&self, plaintext: &[u8], associated_data: &[u8]) -> Result<Vec<u8>, SealError> {
        envelope::seal(self.keys.load().primary(), plaintext, associated_data)
    }

    /// Opens what [`seal`](Self::seal) made with the same `associated_data`.
    ///
    /// The envelope names its key; no other one is tried.
    pub fn open(
        &self,
        envelope: &[u8],
        associated_data: &[u8],
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let envelope = Envelope::parse(envelope)?;
        let keys = self.keys.load();
        let key = keys
            .find(envelope.key_id)
            .ok_or(OpenError::UnknownKey(envelope.key_id))?;
        envelope
            .open(key, associated_data)
            .ok_or(OpenError::Refused)
    }

    /// Whether the envelope is of another key than the primary one, whose suite
    /// it then has too.
    pub fn needs_rewrap(&self, envelope: &[u8]) -> Result<bool, EnvelopeDefect> {
        let envelope = Envelope::parse(envelope)?;
        Ok(envelope.key_id != self.keys.load().primary().id)
    }

    /// The index and tag keys of every generation, oldest first, never none.
    pub fn generations(&self) -> Vec<Generation> {
        self.keys.load().generations.clone()
    }

    /// The version of the keyring in use.
    pub fn version(&self) -> u64 {
        self.keys.load().version
    }
}

impl fmt::Debug for PostQuantumEncryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PostQuantumEncryption")
            .field(&self.keys.load())
            .finish()
    }
}
